-- Adds attempts, counts them, and removes some that are too many or too old.
-- KEYS: prefix of all keys of one history. Which others there are follows from what is stored;
-- they share the prefix, and with its braces the slot of a cluster.
-- ARGV: most attempts to keep, when the oldest to keep ended, most to remove, seconds to keep
-- counts, number of attempts, header and record of each, number of counts, minute, field and
-- number of each, number of groups of failures, field, number, first seen, last seen and sample
-- of each, number of actors, name and latest end of each.
-- A header is a JSON list: when it ended, then the indexes it is in. Every list has the newest
-- position first, so that what is removed is always at the end of all its lists.
local prefix = KEYS[1]
local all, records = prefix .. 'all', prefix .. 'records'
local at = 5
for _ = 1, tonumber(ARGV[at]) do
  local header, record = ARGV[at + 1], ARGV[at + 2]
  at = at + 2
  local position = string.format('%.0f', redis.call('INCR', prefix .. 'position'))
  redis.call('HSET', records, position, header .. '\n' .. record)
  redis.call('LPUSH', all, position)
  local indexes = cjson.decode(header)
  for i = 2, #indexes do
    redis.call('LPUSH', prefix .. indexes[i], position)
  end
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  local minute = prefix .. 'minute:' .. ARGV[at + 1]
  redis.call('HINCRBY', minute, ARGV[at + 2], ARGV[at + 3])
  redis.call('EXPIRE', minute, ARGV[4])
  at = at + 3
end
at = at + 1
local counts, firsts = prefix .. 'failures:counts', prefix .. 'failures:firsts'
local lasts, samples = prefix .. 'failures:lasts', prefix .. 'failures:samples'
for _ = 1, tonumber(ARGV[at]) do
  local field = ARGV[at + 1]
  redis.call('HINCRBY', counts, field, ARGV[at + 2])
  redis.call('HSETNX', firsts, field, ARGV[at + 3])
  redis.call('ZADD', lasts, ARGV[at + 4], field)
  redis.call('HSET', samples, field, ARGV[at + 5])
  at = at + 5
end
at = at + 1
local actors = prefix .. 'actors'
for _ = 1, tonumber(ARGV[at]) do
  redis.call('ZADD', actors, ARGV[at + 2], ARGV[at + 1])
  at = at + 2
end
redis.call('ZREMRANGEBYSCORE', actors, '-inf', '(' .. ARGV[2])

local max_records, oldest, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('LLEN', all)
for _ = 1, most do
  local position = redis.call('LINDEX', all, -1)
  if not position then
    break
  end
  local stored = redis.call('HGET', records, position)
  -- One that the server evicted is in its lists still.
  if stored then
    local header = cjson.decode(string.match(stored, '^[^\n]*'))
    if kept <= max_records and header[1] >= oldest then
      break
    end
    for i = 2, #header do
      if redis.call('LINDEX', prefix .. header[i], -1) == position then
        redis.call('RPOP', prefix .. header[i])
      end
    end
    redis.call('HDEL', records, position)
  end
  redis.call('RPOP', all)
  kept = kept - 1
end
for _, field in ipairs(redis.call('ZRANGEBYSCORE', lasts, '-inf', '(' .. ARGV[2], 'LIMIT', 0, 64)) do
  redis.call('HDEL', counts, field)
  redis.call('HDEL', firsts, field)
  redis.call('HDEL', samples, field)
  redis.call('ZREM', lasts, field)
end
