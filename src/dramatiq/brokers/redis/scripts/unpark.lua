-- Puts parked messages back on their list, where workers of 2.x look.
-- KEYS: the parking's ack set, etas, list, payloads.
-- ARGV: ids.
-- Returns how many.
local moved = 0
for _, id in ipairs(ARGV) do
    redis.call('ZREM', KEYS[2], id)
    if redis.call('SREM', KEYS[1], id) == 1 and redis.call('HEXISTS', KEYS[4], id) == 1 then
        redis.call('RPUSH', KEYS[3], id)
        moved = moved + 1
    end
end
return moved
