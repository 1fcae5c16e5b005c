-- Stores messages. The first line of every script that stores some; not a script of its own.
-- keys[first] is a queue's list, keys[first + 1] its hash, and so on for every queue.
-- arguments, from `position` on: how many messages for that queue, then an id and a payload each.
local function store(keys, first, arguments, position)
    for index = first, #keys, 2 do
        local last = position + 2 * tonumber(arguments[position])
        -- 500 at a time: `unpack` takes less than 8000 values.
        for start = position + 1, last, 1000 do
            local stop = math.min(start + 999, last)
            local ids = {}
            for each = start, stop, 2 do
                ids[#ids + 1] = arguments[each]
            end
            redis.call('HSET', keys[index + 1], unpack(arguments, start, stop))
            redis.call('RPUSH', keys[index], unpack(ids))
        end
        position = last + 1
    end
end
