-- Remove task locks, or items of one group, then put others.
--
-- A lock is kept under its task as a list: id, task, patterns, reason ('' or '+' and the text), creator, created_at, expires_at or
-- '', registered, group ('' for a lock), cost. An item is kept in the same form, under its group, a zero byte and its task. Equal
-- lists are equal as text, by which a change is noticed. A lock that cannot be read counts as absent, and is removed where all are.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, locks
-- ARGV: remove, created_by, expired, group, stamp
--       remove: '' (nothing), 'all' (those that meet the conditions), or how many tasks there are to choose among
--       created_by: '' or '+' and the creator whose locks go; expired: '1' if only locks go whose time is over
-- REST: the tasks to choose among, then for each lock to put, every task once: task, patterns, reason, creator,
--       microseconds until it expires or '', cost
-- Returns: 'ok', how many are gone
local time = now()
local revision = state.revision + 1
local chosen = tonumber(given.remove) or 0

local prefix = given.group == '' and '' or given.group .. '\0'
local function is_of_group(field)
    if prefix == '' then
        return not string.find(field, '\0', 1, true)
    end
    return string.sub(field, 1, #prefix) == prefix
end

local gone, changed = {}, {}
local function consider(field, raw)
    local found = unsealed(field, raw)
    local lock = found and cjson.decode(found) or {}
    local expires = tonumber(lock[7])
    if (given.created_by == '' or given.created_by == '+' .. (lock[5] or '')) and (given.expired ~= '1' or (expires and expires <= time)) then
        gone[field] = true
    end
end
if given.remove == 'all' then
    local locks = redis.call('HGETALL', key.locks)
    for i = 1, #locks, 2 do
        if is_of_group(locks[i]) then
            consider(locks[i], locks[i + 1])
        end
    end
else
    for i = 1, chosen do
        local raw = redis.call('HGET', key.locks, prefix .. rest(i))
        if raw then
            consider(prefix .. rest(i), raw)
        end
    end
end

local ids = tonumber(state.lock_ids)
for i = chosen + 1, rest.count, 6 do
    local task, expires_in = rest(i), rest(i + 4)
    local field = prefix .. task
    local raw = redis.call('HGET', key.locks, field)
    local found = unsealed(field, raw)
    local before = found and cjson.decode(found)
    if not before then
        ids = ids + 1
    end
    local lock = sealed(field, cjson.encode({
        before and before[1] or text(ids),
        task,
        rest(i + 1),
        rest(i + 2),
        rest(i + 3),
        before and before[6] or text(time),
        expires_in == '' and '' or text(time + expires_in),
        before and before[8] or text(revision),
        given.group,
        rest(i + 5),
    }))
    gone[field] = nil
    if lock ~= raw then
        pair(changed, field, lock)
    end
end

local removed = {}
for field in pairs(gone) do
    removed[#removed + 1] = field
end
if #removed > 0 or #changed > 0 then
    in_parts(removed, 'HDEL', key.locks)
    in_parts(changed, 'HSET', key.locks)
    concerned = NONE
    revise(revision, given.stamp, 'lock_ids', text(ids), 'locks_revision', text(revision))
else
    -- A server that refuses writes (its memory is full, its replicas are gone) refuses this edit too. `jobsync doctor` tries one.
    redis.call('HSET', key.state, 'revision', state.revision)
end
return {'ok', #removed}
