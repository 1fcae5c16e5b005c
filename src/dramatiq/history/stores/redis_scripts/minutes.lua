-- Returns for each minute its counts, as a flat list of field and number.
-- KEYS: prefix of all keys of one history; see add.lua.
-- ARGV: first and last minute.
local found = {}
for minute = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local counts = redis.call('HGETALL', KEYS[1] .. 'minute:' .. string.format('%.0f', minute))
  if #counts > 0 then
    found[#found + 1] = { minute, counts }
  end
end
return found
