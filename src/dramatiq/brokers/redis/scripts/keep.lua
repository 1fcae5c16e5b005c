-- Stores the results of messages that a worker still holds: each a list of one element.
-- KEYS: ack set; then the key of each result.
-- ARGV: for each its message's id, the value, milliseconds to keep it.
-- Returns how many.
local kept = 0
for index = 2, #KEYS do
    local position = 3 * index - 5
    if redis.call('SISMEMBER', KEYS[1], ARGV[position]) == 1 then
        redis.call('DEL', KEYS[index])
        redis.call('RPUSH', KEYS[index], ARGV[position + 1])
        redis.call('PEXPIRE', KEYS[index], ARGV[position + 2])
        kept = kept + 1
    end
end
return kept
