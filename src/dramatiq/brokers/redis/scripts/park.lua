-- Hands delayed messages that a worker took off their list over to the parking.
-- KEYS: heartbeats, the worker's ack set, the parking's, etas.
-- ARGV: the parking; then for each message when it is due and its id.
-- Returns how many.
local parked = 0
for index = 2, #ARGV, 2 do
    if redis.call('SMOVE', KEYS[2], KEYS[3], ARGV[index + 1]) == 1 then
        redis.call('ZADD', KEYS[4], ARGV[index], ARGV[index + 1])
        parked = parked + 1
    end
end
if parked > 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    local now = redis.call('TIME')
    redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
end
return parked
