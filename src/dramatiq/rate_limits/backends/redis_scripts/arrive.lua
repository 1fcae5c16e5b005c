-- Counts a member in at a barrier, once.
-- KEYS: counter of the parties still missing, hash of the answers that members got.
-- ARGV: member, time to live in milliseconds.
-- Returns 1 if the barrier is clear, else 0; to the same member always the same.

-- A server at its maxmemory refuses what may need memory, but not in a script that has begun to
-- write: who arrives has a message to be acknowledged, which frees more.
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local answer = redis.call('HGET', KEYS[2], ARGV[1])
if not answer then
    local missing = tonumber(redis.call('GET', KEYS[1]) or 0) - 1
    answer = missing < 1 and '1' or '0'
    if answer == '0' then
        redis.call('SET', KEYS[1], string.format('%.0f', missing), 'PX', ARGV[2])
    end
    redis.call('HSET', KEYS[2], ARGV[1], answer)
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return tonumber(answer)
