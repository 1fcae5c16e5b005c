-- Stores messages. The first line of every script that stores some; not a script of its own.
-- keys[first] is a queue's list, keys[first + 1] its hash, and so on for every queue.
-- arguments, from `position` on: how many messages for that queue, then an id and a payload each.
local function store(keys, first, arguments, position)
    for index = first, #keys, 2 do
        local last = position + 2 * tonumber(arguments[position])
        local ids = {}
        for each = position + 1, last, 2 do
            ids[#ids + 1] = arguments[each]
        end
        redis.call('HSET', keys[index + 1], unpack(arguments, position + 1, last))
        redis.call('RPUSH', keys[index], unpack(ids))
        position = last + 1
    end
end
