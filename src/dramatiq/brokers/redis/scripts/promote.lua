-- Moves delayed messages that a worker holds to their queue.
-- KEYS: the worker's ack set, payloads of the delay queue; list and payloads of the queue.
-- ARGV: for each message its id and its new payload.
-- Returns for each: 1 moved, 0 not held.
local states = {}
for index = 1, #ARGV, 2 do
    local id = ARGV[index]
    states[#states + 1] = redis.call('SREM', KEYS[1], id)
    if states[#states] == 1 then
        local is_moved, problem = pcall(function()
            redis.call('HSET', KEYS[4], id, ARGV[index + 1])
            redis.call('RPUSH', KEYS[3], id)
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
