-- Takes back messages that a dead worker was running: to the front of the queue the first time, for
-- most are innocent and wait no longer; then to its end; and, once they have brought down too many
-- processes, to the dead letters.
-- KEYS: its ack set, list, payloads, crashes, dead ids, dead payloads, reasons.
-- ARGV: how many crashes are too many, the reason for that; then ids.
-- Returns for each: 0 not held, else how many processes it has brought down.
local crashes = {}
for index = 3, #ARGV do
    local id = ARGV[index]
    crashes[index - 2] = 0
    if redis.call('SREM', KEYS[1], id) == 1 then
        local payload = redis.call('HGET', KEYS[3], id)
        if payload then
            local count = redis.call('HINCRBY', KEYS[4], id, 1)
            crashes[index - 2] = count
            if count < tonumber(ARGV[1]) then
                redis.call(count == 1 and 'LPUSH' or 'RPUSH', KEYS[2], id)
            else
                local now = redis.call('TIME')
                redis.call('ZADD', KEYS[5], now[1] * 1000 + math.floor(now[2] / 1000), id)
                redis.call('HSET', KEYS[6], id, payload)
                redis.call('HSET', KEYS[7], id, ARGV[2])
                redis.call('HDEL', KEYS[3], id)
                redis.call('HDEL', KEYS[4], id)
            end
        end
    end
end
return crashes
