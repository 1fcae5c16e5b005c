-- Removes some attempts, and all that is counted; answers how many attempts are left.
-- KEYS: prefix of all keys of one history; see add.lua.
-- ARGV: how many at most, first and last minute.
local prefix = KEYS[1]
local all, records = prefix .. 'all', prefix .. 'records'
for _ = 1, tonumber(ARGV[1]) do
  local position = redis.call('RPOP', all)
  if not position then
    break
  end
  local stored = redis.call('HGET', records, position)
  if stored then
    local header = cjson.decode(string.match(stored, '^[^\n]*'))
    for i = 2, #header do
      redis.call('DEL', prefix .. header[i])
    end
    redis.call('HDEL', records, position)
  end
end
for minute = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  redis.call('DEL', prefix .. 'minute:' .. string.format('%.0f', minute))
end
for _, name in ipairs({ 'counts', 'firsts', 'lasts', 'samples' }) do
  redis.call('DEL', prefix .. 'failures:' .. name)
end
redis.call('DEL', prefix .. 'actors')
return redis.call('LLEN', all)
