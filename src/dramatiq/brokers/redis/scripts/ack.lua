-- Removes messages that a worker holds.
-- KEYS: ack set, payloads, crashes.
-- ARGV: ids.
-- Returns how many if it held all of them, else for each: 1 removed, 0 not held, 2 gone already.
local held = redis.call('SMISMEMBER', KEYS[1], unpack(ARGV))
local ids, states = {}, {}
for index, is_held in ipairs(held) do
    if is_held == 1 then
        ids[#ids + 1] = ARGV[index]
        states[index] = 1
    else
        states[index] = redis.call('HEXISTS', KEYS[2], ARGV[index]) == 1 and 0 or 2
    end
end
if #ids > 0 then
    redis.call('SREM', KEYS[1], unpack(ids))
    redis.call('HDEL', KEYS[2], unpack(ids))
    if redis.call('EXISTS', KEYS[3]) == 1 then
        redis.call('HDEL', KEYS[3], unpack(ids))
    end
end
return #ids == #ARGV and #ids or states
