-- Registers a worker.
-- KEYS: heartbeats, workers.
-- ARGV: worker, where it runs.
local now = redis.call('TIME')
-- A command that frees comes first: a server at its maxmemory then allows the others.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
