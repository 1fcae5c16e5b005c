-- Drops delayed messages, first those that are parked.
-- KEYS: the parking's ack set, etas, list and payloads of the delay queue.
-- ARGV: how many at most.
-- Returns how many.
local ids = redis.call('SPOP', KEYS[1], ARGV[1])
if #ids > 0 then
    redis.call('ZREM', KEYS[2], unpack(ids))
else
    ids = redis.call('LPOP', KEYS[3], ARGV[1])
    if not ids then
        return 0
    end
end
redis.call('HDEL', KEYS[4], unpack(ids))
return #ids
