-- Stores messages once, however often a sender repeats the call because an answer was lost.
-- KEYS: what senders did last; then a list and a hash for each queue.
-- ARGV: the sender, its number for this call, whether it repeats it, seconds to remember that;
--       then as `store` wants it.
local sender, number = ARGV[1], ARGV[2]
if ARGV[3] == '1' and redis.call('HGET', KEYS[1], sender) == number then
    -- Written again, so that WAIT has something to wait for on what may be another connection.
    redis.call('HSET', KEYS[1], sender, number)
    return 0
end
store(KEYS, 2, ARGV, 5)
if redis.call('HSET', KEYS[1], sender, number) == 1 then
    redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return 1
