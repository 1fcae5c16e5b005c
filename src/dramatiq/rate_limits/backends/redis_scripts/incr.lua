-- Adds to a counter unless it would exceed a maximum.
-- KEYS: counter.
-- ARGV: amount, maximum, time to live in milliseconds.
-- Returns 1 if it was changed, else 0.
local value = tonumber(redis.call('GET', KEYS[1]) or 0) + tonumber(ARGV[1])
if value > tonumber(ARGV[2]) then
    return 0
end
-- Lua would write large numbers with an exponent.
redis.call('SET', KEYS[1], string.format('%.0f', value), 'PX', ARGV[3])
return 1
