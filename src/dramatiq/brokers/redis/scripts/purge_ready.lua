-- Drops messages that wait.
-- KEYS: list, payloads, crashes.
-- ARGV: how many at most.
-- Returns how many.
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then
    return 0
end
redis.call('HDEL', KEYS[2], unpack(ids))
redis.call('HDEL', KEYS[3], unpack(ids))
return #ids
