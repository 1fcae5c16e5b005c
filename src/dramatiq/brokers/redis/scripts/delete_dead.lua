-- Drops dead letters, those that are still as they were seen.
-- KEYS: dead ids, dead payloads, reasons.
-- ARGV: for each its id and when it died.
-- Returns how many.
local deleted = 0
for index = 1, #ARGV, 2 do
    local id = ARGV[index]
    local died_at = redis.call('ZSCORE', KEYS[1], id)
    if died_at and math.floor(died_at) == tonumber(ARGV[index + 1]) then
        redis.call('ZREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
        redis.call('HDEL', KEYS[3], id)
        deleted = deleted + 1
    end
end
return deleted
