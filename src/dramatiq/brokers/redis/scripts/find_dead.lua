-- Finds workers without a recent heartbeat, unless somebody else has just looked.
-- KEYS: heartbeats, workers, whose turn it is.
-- ARGV: milliseconds after which one of ours counts as dead, and one of 2.x; the worker who asks,
-- and for how many milliseconds one search does for all (0: it does not matter who has looked).
local turn = tonumber(ARGV[4])
-- A server at its maxmemory refuses to write: what is taken back may be all that can free some, and
-- to look twice does no harm. Nor does whoever looked last stand in its own way.
if turn > 0 and redis.pcall('SET', KEYS[3], ARGV[3], 'NX', 'PX', turn) == false
    and redis.call('GET', KEYS[3]) ~= ARGV[3] then
    return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = now - math.min(ARGV[1], ARGV[2])
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'WITHSCORES')
local dead = {}
for index = 1, #found, 2 do
    local is_ours = redis.call('HEXISTS', KEYS[2], found[index]) == 1
    if found[index] ~= ARGV[3]
        and tonumber(found[index + 1]) <= now - (is_ours and ARGV[1] or ARGV[2]) then
        dead[#dead + 1] = found[index]
    end
end
return dead
