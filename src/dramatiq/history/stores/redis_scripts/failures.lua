-- Returns groups of failures, the latest first: field, count, first seen, last seen, sample.
-- KEYS: prefix of all keys of one history; see add.lua.
-- ARGV: how many at most.
local prefix = KEYS[1] .. 'failures:'
local found = {}
local fields = redis.call('ZREVRANGE', prefix .. 'lasts', 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
for i = 1, #fields, 2 do
  local field = fields[i]
  found[#found + 1] = {
    field,
    redis.call('HGET', prefix .. 'counts', field),
    redis.call('HGET', prefix .. 'firsts', field),
    fields[i + 1],
    redis.call('HGET', prefix .. 'samples', field),
  }
end
return found
