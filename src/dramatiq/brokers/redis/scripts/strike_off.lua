-- Removes a worker that holds nothing any more.
-- KEYS: heartbeats, workers; then its ack sets.
-- ARGV: worker.
-- Returns 0 if it holds something, else 1; and how many of our workers are left.
if #KEYS > 2 and redis.call('EXISTS', unpack(KEYS, 3)) > 0 then
    return {0, redis.call('HLEN', KEYS[2])}
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return {1, redis.call('HLEN', KEYS[2])}
