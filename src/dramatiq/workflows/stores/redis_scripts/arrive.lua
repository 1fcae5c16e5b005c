-- Records what became of children of one workflow; the rules of `dramatiq.workflows.rules`.
-- KEYS: the workflow, a hash.
-- ARGV: milliseconds it lives from now on; then for each its frame, index, value, and whether it
--       is a message. At most 1000 of them.
-- Returns a status for each: 0 gone, 1 waiting, 2 ready, 3 failed, 4 recovered.
local flow = KEYS[1]
local statuses = {}
local state = redis.call('HGET', flow, ':state')
if not state then
    for index = 2, #ARGV, 4 do
        statuses[#statuses + 1] = 0
    end
    return statuses
end
local settled = {['+'] = true, ['!'] = true, ['~'] = true, ['='] = true}
-- Fields as they are by now, written in the end: most arrivals are at the same few frames.
local marks, numbers, changes, written, removed = {}, {}, {}, {}, {}
local function mark_of(field)
    if marks[field] == nil then
        local value = redis.call('HGET', flow, field)
        marks[field] = value and string.sub(value, 1, 1) or ''
    end
    return marks[field]
end
local function number_of(field)
    if numbers[field] == nil then
        numbers[field] = tonumber(redis.call('HGET', flow, field) or nil) or false
    end
    return numbers[field]
end
local function add(field, number)
    numbers[field] = (number_of(field) or 0) + number
    changes[field] = true
end
local function record(frame, key, value, mark, old, is_leaf)
    if mark == '-' and old ~= '-' then
        add(frame .. ':bad', 1)
    elseif old == '-' and mark ~= '-' then
        add(frame .. ':bad', -1)
    end
    if is_leaf == '1' then
        if settled[mark] then
            add(':done', 1)
        end
        local is_failed = mark == '-'
        if is_failed ~= (old == '-') then
            add(':failed', is_failed and 1 or -1)
        end
    end
    if mark == 'u' then
        marks[key], written[key], removed[key] = '', nil, true
        return
    end
    marks[key], written[key], removed[key] = mark, value, nil
    if settled[mark] and number_of(frame .. ':left') then
        add(frame .. ':left', -1)
    end
end
local function status_of(frame, key, has_recovered)
    if mark_of(key) == '-' then
        return 3
    end
    if has_recovered or (state == 'failed' and (number_of(frame .. ':bad') or 0) == 0) then
        return 4
    end
    if state ~= 'running' then
        return 1
    end
    local left = number_of(frame .. ':left')
    if left then
        return left <= 0 and 2 or 1
    end
    local position = number_of(frame .. ':pos') or -1
    return settled[mark_of(frame .. '#' .. string.format('%d', position))] and 2 or 1
end
for index = 2, #ARGV, 4 do
    local frame, value = ARGV[index], ARGV[index + 2]
    local key = frame .. '#' .. ARGV[index + 1]
    local mark, old = string.sub(value, 1, 1), mark_of(key)
    local is_void = settled[old] or (old ~= '' and mark == 'c')
    if mark == 'u' then
        is_void = old ~= '-'
    end
    local has_recovered = false
    if not is_void then
        has_recovered = old == '-' and mark ~= '-'
        record(frame, key, value, mark, old, ARGV[index + 3])
    end
    statuses[#statuses + 1] = status_of(frame, key, has_recovered)
end
local fields = {}
for field, value in pairs(written) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
end
for field in pairs(changes) do
    fields[#fields + 1] = field
    fields[#fields + 1] = string.format('%d', numbers[field])
end
if #fields > 0 then
    redis.call('HSET', flow, unpack(fields))
end
for field in pairs(removed) do
    redis.call('HDEL', flow, field)
end
redis.call('PEXPIRE', flow, ARGV[1])
return statuses
