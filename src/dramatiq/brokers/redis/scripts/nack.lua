-- Moves one message that a worker holds to the dead letters and stores what follows from it.
-- KEYS: ack set, payloads, crashes, dead ids, dead payloads, reasons; then as `store` wants it.
-- ARGV: id, reason ('' for none), payload ('' leaves it as it is); then as `store` wants it.
-- Returns 1 done, 0 not held, 2 gone already.
local id = ARGV[1]
if redis.call('SREM', KEYS[1], id) == 0 then
    return redis.call('HEXISTS', KEYS[2], id) == 1 and 0 or 2
end
local function bury()
    local payload = redis.call('HGET', KEYS[2], id)
    if payload then
        redis.call('HSET', KEYS[5], id, ARGV[3] ~= '' and ARGV[3] or payload)
        if ARGV[2] ~= '' then
            redis.call('HSET', KEYS[6], id, ARGV[2])
        end
    end
    store(KEYS, 7, ARGV, 4)
    if payload then
        local now = redis.call('TIME')
        redis.call('ZADD', KEYS[4], now[1] * 1000 + math.floor(now[2] / 1000), id)
    end
end
local is_buried, problem = pcall(bury)
if not is_buried then
    -- Nothing is rolled back by itself.
    redis.call('SADD', KEYS[1], id)
    error(problem, 0)
end
redis.call('HDEL', KEYS[2], id)
redis.call('HDEL', KEYS[3], id)
return 1
