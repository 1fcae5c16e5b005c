-- Moves delayed messages that a worker holds to their queue.
-- KEYS: the worker's ack set, payloads of the delay queue; list and payloads of the queue.
-- ARGV: for each message its id and its new payload.
-- Returns for each: 1 moved, 0 not held.
local states = {}
for index = 1, #ARGV, 2 do
    local id = ARGV[index]
    states[#states + 1] = redis.call('SREM', KEYS[1], id)
    if states[#states] == 1 then
        redis.call('HDEL', KEYS[2], id)
        redis.call('HSET', KEYS[4], id, ARGV[index + 1])
        redis.call('RPUSH', KEYS[3], id)
    end
end
return states
