-- Moves delayed messages that a worker holds to their queue: to its end, or to its front what has
-- waited because a process died while it ran, most likely without being to blame, the first time.
-- KEYS: the worker's ack set, payloads of the delay queue; list, payloads and crashes of the queue.
-- ARGV: for each message its id and its new payload.
-- Returns for each: 1 moved, 0 not held.
local states = {}
local any_crashes = redis.call('EXISTS', KEYS[5]) == 1
for index = 1, #ARGV, 2 do
    local id = ARGV[index]
    states[#states + 1] = redis.call('SREM', KEYS[1], id)
    if states[#states] == 1 then
        local is_moved, problem = pcall(function()
            redis.call('HSET', KEYS[4], id, ARGV[index + 1])
            local is_suspect = any_crashes and redis.call('HGET', KEYS[5], id) == '1'
            redis.call(is_suspect and 'LPUSH' or 'RPUSH', KEYS[3], id)
        end)
        if not is_moved then
            -- Nothing is rolled back by itself.
            redis.call('SADD', KEYS[1], id)
            error(problem, 0)
        end
        redis.call('HDEL', KEYS[2], id)
    end
end
return states
