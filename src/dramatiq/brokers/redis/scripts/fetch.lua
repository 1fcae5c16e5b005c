-- Leases the next messages to a worker; nil if it is not registered, for it was taken for dead.
-- KEYS: heartbeats, list, the worker's ack set, payloads, paused queues.
-- ARGV: worker, how many, the queue.
-- Returns ids and payloads (nil where there is none: that id is dropped); 0 if it is paused.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return nil
end
if redis.call('SISMEMBER', KEYS[5], ARGV[3]) == 1 then
    return 0
end
local ids = redis.call('LPOP', KEYS[2], ARGV[2])
if not ids then
    return {}
end
redis.call('SADD', KEYS[3], unpack(ids))
local payloads = redis.call('HMGET', KEYS[4], unpack(ids))
for index, payload in ipairs(payloads) do
    if not payload then
        redis.call('SREM', KEYS[3], ids[index])
    end
end
return {ids, payloads}
