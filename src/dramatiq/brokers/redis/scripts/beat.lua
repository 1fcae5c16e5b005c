-- Refreshes the heartbeats of workers that are alive; what was struck off stays so.
-- KEYS: heartbeats, workers.
-- ARGV: workers, the one that asks first.
-- Returns whether the first one is registered, and what is known of all workers of ours.
local now = redis.call('TIME')
local at = now[1] * 1000 + math.floor(now[2] / 1000)
local is_registered = 0
for index, worker in ipairs(ARGV) do
    -- Removed and added, in place of changed: a server at its maxmemory allows what follows on a
    -- command that frees.
    if redis.call('ZREM', KEYS[1], worker) == 1 then
        redis.call('ZADD', KEYS[1], at, worker)
        if index == 1 then
            is_registered = 1
        end
    end
end
return {is_registered, redis.call('HGETALL', KEYS[2])}
