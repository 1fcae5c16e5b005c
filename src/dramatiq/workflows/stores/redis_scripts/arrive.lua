-- Records what became of children of one workflow; the rules of `dramatiq.workflows.rules`.
-- KEYS: the workflow, a hash.
-- ARGV: milliseconds it lives from now on; then for each its frame, index, value, and whether it
--       is a message.
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
local function mark_of(field)
    local value = redis.call('HGET', flow, field)
    return value and string.sub(value, 1, 1) or ''
end
local function record(frame, key, value, mark, old, is_leaf)
    if mark == '-' and old ~= '-' then
        redis.call('HINCRBY', flow, frame .. ':bad', 1)
    elseif old == '-' and mark ~= '-' then
        redis.call('HINCRBY', flow, frame .. ':bad', -1)
    end
    if mark == 'u' then
        redis.call('HDEL', flow, key)
        return
    end
    redis.call('HSET', flow, key, value)
    if settled[mark] and redis.call('HEXISTS', flow, frame .. ':left') == 1 then
        redis.call('HINCRBY', flow, frame .. ':left', -1)
    end
    if is_leaf == '1' then
        if settled[mark] then
            redis.call('HINCRBY', flow, ':done', 1)
        end
        local is_failed = mark == '-' or mark == '~'
        if is_failed ~= (old == '-') then
            redis.call('HINCRBY', flow, ':failed', is_failed and 1 or -1)
        end
    end
end
local function status_of(frame, key, has_recovered)
    if mark_of(key) == '-' then
        return 3
    end
    if has_recovered then
        return 4
    end
    if state == 'failed' and tonumber(redis.call('HGET', flow, frame .. ':bad') or 0) == 0 then
        return 4
    end
    if state ~= 'running' then
        return 1
    end
    local left = redis.call('HGET', flow, frame .. ':left')
    if left then
        return tonumber(left) <= 0 and 2 or 1
    end
    local position = redis.call('HGET', flow, frame .. ':pos') or '-1'
    return settled[mark_of(frame .. '#' .. position)] and 2 or 1
end
for index = 2, #ARGV, 4 do
    local frame, value = ARGV[index], ARGV[index + 2]
    local key = frame .. '#' .. ARGV[index + 1]
    local mark, old = string.sub(value, 1, 1), mark_of(key)
    local has_recovered = false
    local is_void = settled[old] or (old ~= '' and mark == 'c')
    if mark == 'u' then
        is_void = old ~= '-'
    end
    if not is_void then
        has_recovered = old == '-' and mark ~= '-'
        record(frame, key, value, mark, old, ARGV[index + 3])
    end
    statuses[#statuses + 1] = status_of(frame, key, has_recovered)
end
redis.call('PEXPIRE', flow, ARGV[1])
return statuses
