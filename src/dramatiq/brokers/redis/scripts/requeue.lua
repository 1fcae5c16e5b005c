-- Gives messages back that a worker holds.
-- KEYS: ack set, list, payloads.
-- ARGV: LPUSH or RPUSH; then ids, in the order in which they are to be pushed.
-- Returns for each: 1 given back, 0 not held, 2 gone.
local states = {}
for index = 2, #ARGV do
    local has_payload = redis.call('HEXISTS', KEYS[3], ARGV[index]) == 1
    if redis.call('SREM', KEYS[1], ARGV[index]) == 0 then
        states[index - 1] = has_payload and 0 or 2
    elseif has_payload then
        redis.call(ARGV[1], KEYS[2], ARGV[index])
        states[index - 1] = 1
    else
        states[index - 1] = 2
    end
end
return states
