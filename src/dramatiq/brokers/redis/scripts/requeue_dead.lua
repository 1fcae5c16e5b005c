-- Lets dead letters start over at the end of their queue, those that are still as they were seen.
-- KEYS: dead ids, dead payloads, reasons, list, payloads, crashes.
-- ARGV: for each its id, when it died, its new payload.
-- Returns how many.
local moved = 0
for index = 1, #ARGV, 3 do
    local id = ARGV[index]
    local died_at = redis.call('ZSCORE', KEYS[1], id)
    if died_at and math.floor(died_at) == tonumber(ARGV[index + 1]) then
        local is_moved, problem = pcall(function()
            redis.call('HSET', KEYS[5], id, ARGV[index + 2])
            redis.call('RPUSH', KEYS[4], id)
        end)
        if not is_moved then
            -- Nothing is rolled back by itself; it stays dead.
            redis.call('HDEL', KEYS[5], id)
            error(problem, 0)
        end
        redis.call('ZREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
        redis.call('HDEL', KEYS[3], id)
        redis.call('HDEL', KEYS[6], id)
        moved = moved + 1
    end
end
return moved
