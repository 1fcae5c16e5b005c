-- Sends an event to those who wait for it now and until it expires.
-- KEYS: list.
-- ARGV: event, time to live in milliseconds.

-- A server at its maxmemory refuses what may need memory, but not in a script that has begun to
-- write: this event is what others wait for.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
