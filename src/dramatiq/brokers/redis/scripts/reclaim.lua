-- Takes back messages that a dead worker holds.
-- KEYS: heartbeats, its ack set, list, payloads.
-- ARGV: worker, milliseconds without heartbeat that make it dead (-1: it is known to be dead),
--       LPUSH or RPUSH, how many at most.
-- Returns how many went back and how many it still holds; nil if it has given a sign of life.
local beat = redis.call('ZSCORE', KEYS[1], ARGV[1])
if beat and ARGV[2] ~= '-1' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if tonumber(beat) > now - ARGV[2] then
        return nil
    end
end
local moved = 0
for _, id in ipairs(redis.call('SPOP', KEYS[2], ARGV[4])) do
    if redis.call('HEXISTS', KEYS[4], id) == 1 then
        redis.call(ARGV[3], KEYS[3], id)
        moved = moved + 1
    end
end
return {moved, redis.call('SCARD', KEYS[2])}
