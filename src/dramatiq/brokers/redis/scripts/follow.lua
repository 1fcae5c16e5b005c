-- Removes one message that a worker holds and stores what follows from it.
-- KEYS: ack set, payloads, crashes; then as `store` wants it.
-- ARGV: id; then as `store` wants it.
-- Returns 1 done, 0 not held, 2 gone already.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then
    return redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 and 0 or 2
end
local is_stored, problem = pcall(store, KEYS, 4, ARGV, 2)
if not is_stored then
    -- Nothing is rolled back by itself, and what follows from it is not there.
    redis.call('SADD', KEYS[1], ARGV[1])
    error(problem, 0)
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
