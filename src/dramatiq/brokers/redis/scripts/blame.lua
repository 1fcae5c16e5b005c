-- Takes back messages that a dead worker was running: to the delay queue, for some time; or, once
-- they have brought down too many processes, to the dead letters.
-- KEYS: its ack set, payloads, crashes; list and payloads of the delay queue;
--       list; dead ids, dead payloads, reasons.
-- ARGV: how many crashes are too many, the reason for that; then for each message its id and its
--       payload for the delay queue ('' for one that is not to wait).
-- Returns for each: 0 not held, else how many processes it has brought down.
local crashes = {}
for index = 3, #ARGV, 2 do
    local id, later = ARGV[index], ARGV[index + 1]
    crashes[#crashes + 1] = 0
    if redis.call('SREM', KEYS[1], id) == 1 then
        local payload = redis.call('HGET', KEYS[2], id)
        if payload then
            local count = redis.call('HINCRBY', KEYS[3], id, 1)
            crashes[#crashes] = count
            if count >= tonumber(ARGV[1]) then
                local now = redis.call('TIME')
                redis.call('ZADD', KEYS[7], now[1] * 1000 + math.floor(now[2] / 1000), id)
                redis.call('HSET', KEYS[8], id, payload)
                redis.call('HSET', KEYS[9], id, ARGV[2])
                redis.call('HDEL', KEYS[2], id)
                redis.call('HDEL', KEYS[3], id)
            elseif later == '' then
                redis.call('RPUSH', KEYS[6], id)
            else
                redis.call('HSET', KEYS[5], id, later)
                redis.call('RPUSH', KEYS[4], id)
                redis.call('HDEL', KEYS[2], id)
            end
        end
    end
end
return crashes
