-- Subtracts from a counter unless it would fall below a minimum.
-- KEYS: counter.
-- ARGV: amount, minimum, time to live in milliseconds.
-- Returns 1 if it was changed, else 0.
local value = tonumber(redis.call('GET', KEYS[1]) or 0) - tonumber(ARGV[1])
if value < tonumber(ARGV[2]) then
    return 0
end
-- What is held must be given back to a server at its maxmemory too. It refuses what may need
-- memory, but not in a script that has begun to write.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
-- Lua would write large numbers with an exponent.
redis.call('SET', KEYS[1], string.format('%.0f', value), 'PX', ARGV[3])
return 1
