-- Replaces a result, and wakes those who wait for it.
-- KEYS: list.
-- ARGV: encoded result, time to live in milliseconds.
-- It begins with what frees memory, so that a server at its maxmemory lets it pass: only then
-- can the message that made the result be acknowledged, which frees its memory too.
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
