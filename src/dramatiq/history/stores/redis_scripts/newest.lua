-- Returns positions and records of one index, the newest first.
-- KEYS: prefix of all keys of one history; see add.lua.
-- ARGV: index, only positions below this one or '', how many at most.
local list, before, limit = KEYS[1] .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local low, high = 0, redis.call('LLEN', list)
if not before then
  high = 0
end
-- Positions fall along the list: look for the first that is low enough.
while low < high do
  local middle = math.floor((low + high) / 2)
  if tonumber(redis.call('LINDEX', list, middle)) < before then
    high = middle
  else
    low = middle + 1
  end
end
local found = {}
for _, position in ipairs(redis.call('LRANGE', list, low, low + limit - 1)) do
  local stored = redis.call('HGET', KEYS[1] .. 'records', position)
  if stored then
    found[#found + 1] = position
    found[#found + 1] = string.match(stored, '\n(.*)$')
  end
end
return found
