-- Finds workers without a recent heartbeat.
-- KEYS: heartbeats, workers.
-- ARGV: milliseconds after which one of ours counts as dead, and one of 2.x.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = now - math.min(ARGV[1], ARGV[2])
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'WITHSCORES')
local dead = {}
for index = 1, #found, 2 do
    local is_ours = redis.call('HEXISTS', KEYS[2], found[index]) == 1
    if tonumber(found[index + 1]) <= now - (is_ours and ARGV[1] or ARGV[2]) then
        dead[#dead + 1] = found[index]
    end
end
return dead
