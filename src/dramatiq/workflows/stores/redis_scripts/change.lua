-- Writes fields of a workflow if others are as expected, and stores messages in the same step.
-- KEYS: the workflow, a hash; then as `store` wants it (only on a broker's own server).
-- ARGV: milliseconds it lives from now on; how many fields are expected, and for each its name,
--       whether it is there, its value; how many are written, and for each the same; how many
--       numbers are added, and for each its name and the number; then as `store` wants it.
-- Returns whether it was done.
local flow = KEYS[1]
local position = 3
for _ = 1, tonumber(ARGV[2]) do
    local value = redis.call('HGET', flow, ARGV[position])
    if (value and '1' or '0') ~= ARGV[position + 1] or (value or '') ~= ARGV[position + 2] then
        return 0
    end
    position = position + 3
end
local written = position
for _ = 1, tonumber(ARGV[position]) do
    position = position + 3
end
local added = position + 1
position = added + 1 + 2 * tonumber(ARGV[added])
-- Messages first: what fails before a field was written leaves all as it was. The server refuses
-- either all of a script or nothing when its memory is full.
if #KEYS > 1 then
    store(KEYS, 2, ARGV, position)
end
for number = 1, tonumber(ARGV[written]) do
    local each = written + 3 * number - 2
    if ARGV[each + 1] == '1' then
        redis.call('HSET', flow, ARGV[each], ARGV[each + 2])
    else
        redis.call('HDEL', flow, ARGV[each])
    end
end
for number = 1, tonumber(ARGV[added]) do
    redis.call('HINCRBY', flow, ARGV[added + 2 * number - 1], ARGV[added + 2 * number])
end
redis.call('PEXPIRE', flow, ARGV[1])
return 1
