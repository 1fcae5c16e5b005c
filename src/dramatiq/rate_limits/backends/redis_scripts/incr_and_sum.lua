-- Adds to a counter unless it, or the sum of many, would exceed a maximum.
-- KEYS: counter, then the counters to sum up.
-- ARGV: amount, maximum, time to live in milliseconds.
-- Returns 1 if it was changed, else 0.
local amount, maximum = tonumber(ARGV[1]), tonumber(ARGV[2])
local value = tonumber(redis.call('GET', KEYS[1]) or 0) + amount
if value > maximum then
    return 0
end
local total = amount
-- Lua's stack holds some thousand values only.
for start = 2, #KEYS, 1000 do
    local values = redis.call('MGET', unpack(KEYS, start, math.min(start + 999, #KEYS)))
    for _, each in ipairs(values) do
        total = total + tonumber(each or 0)
    end
end
if total > maximum then
    return 0
end
-- Lua would write large numbers with an exponent.
redis.call('SET', KEYS[1], string.format('%.0f', value), 'PX', ARGV[3])
return 1
