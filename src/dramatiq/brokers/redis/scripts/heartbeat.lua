-- Tells that a worker of 2.x's contract is alive, known before or not.
-- KEYS: heartbeats.
-- ARGV: worker.
local now = redis.call('TIME')
-- A command that frees comes first: a server at its maxmemory then allows the other.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
return 1
