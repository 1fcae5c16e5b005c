-- Leases parked messages that are due to a worker.
-- KEYS: heartbeats, the worker's ack set, the parking's, etas, payloads.
-- ARGV: worker, how many at most.
-- Returns nil if the worker is not registered, else: milliseconds until the next one is due or -1,
-- ids, payloads.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return nil
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, ARGV[2])
local ids = {}
if #due > 0 then
    redis.call('ZREM', KEYS[4], unpack(due))
    for _, id in ipairs(due) do
        -- Others may have taken it back from the parking: then it is in the list again.
        if redis.call('SMOVE', KEYS[3], KEYS[2], id) == 1 then
            ids[#ids + 1] = id
        end
    end
end
local wait = -1
local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
if #first > 0 then
    wait = math.max(0, math.ceil(first[2] - now))
end
if #ids == 0 then
    return {wait, {}, {}}
end
return {wait, ids, redis.call('HMGET', KEYS[5], unpack(ids))}
