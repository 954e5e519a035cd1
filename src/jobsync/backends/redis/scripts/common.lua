-- Put before every script, after the two tables that the Python side makes of the script's header: ``key`` (its keys by name)
-- and ``given`` (its arguments by name; ``given.durable`` and ``given.channel`` are always there).
--
-- A script is atomic because nothing runs beside it, not because it could be rolled back: it checks first and writes last.
-- Numbers are doubles here, exact below 2^53. Stamps have 62 bits, so they stay text.

local ABSENT = {'SchemaMismatch'}

local function text(number)
    return string.format('%.0f', number)
end

-- The server's time, in microseconds since 1970.
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function replication()
    local told = redis.call('INFO', 'replication')
    return string.match(told, 'role:(%a+)'), string.match(told, 'master_replid:(%x+)'), string.match(told, 'master_replid2:(%x+)')
end

local function run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- What the scripts do; PUBLISH is optional.
local COMMANDS = {'DEL', 'GET', 'SET', 'HSET', 'HGET', 'HGETALL', 'HKEYS', 'HDEL', 'HINCRBY', 'RPUSH', 'LRANGE', 'LTRIM', 'ZADD',
    'ZREM', 'ZRANGE', 'ZREVRANGE', 'ZRANGEBYSCORE', 'ZRANGEBYLEX', 'ZLEXCOUNT', 'ZSCORE', 'ZMSCORE', 'TIME', 'INFO'}

-- Fail before anything is written if a right has been taken away since the namespace was opened: a script that is refused half
-- way has written half. Redis before 7 cannot tell.
local function check_rights()
    for _, command in ipairs(redis.acl_check_cmd and COMMANDS or {}) do
        if not redis.acl_check_cmd(command, key.state) then
            error({err = 'NOPERM this user has no permissions to run the ' .. command .. ' command'})
        end
    end
end

-- The state of the namespace with ``store``, the store's identity as it is now; nil if there is no such namespace.
--
-- The identity is the replication id that the server had when the namespace, or its timeline, was made. A server that is
-- promoted takes a new one and keeps the last as its second. Two things change the id that are no failover, and in both the
-- second is empty: the same process begins another replication log (as its first replica arrives, say), and a process starts
-- from its own files. The latter is the same store only if those files have everything that was acknowledged.
-- A new identity is written down at once: a second restart must not make it look like the first again.
local function enter()
    check_rights()
    local flat = redis.call('HGETALL', key.state)
    if #flat == 0 then
        return nil
    end
    local state = {}
    for i = 1, #flat, 2 do
        state[flat[i]] = flat[i + 1]
    end
    local role, id, second = replication()
    if role ~= 'master' then
        -- A replica may lag behind, and a client may have been talking to it since it was the master.
        error({err = 'READONLY this server has become a replica'})
    end
    if id ~= state.replication then
        local run = run_id()
        local same = string.match(second, '^0+$') ~= nil
        if same and run ~= state.run then
            same = given.durable == '1' and string.match(redis.call('INFO', 'persistence'), 'aof_enabled:1') ~= nil
        end
        if not same then
            state.store = id
        end
        redis.call('HSET', key.state, 'replication', id, 'run', run, 'store', state.store)
    end
    return state
end

-- Write a new revision down, with further fields of the state, and announce it.
-- Who may not publish still has the revision: others find it when they look.
local function revise(number, stamp, ...)
    redis.call('HSET', key.state, 'revision', text(number), 'stamp', stamp, ...)
    redis.call('HINCRBY', key.state, 'position', 1)
    redis.pcall('PUBLISH', given.channel, text(number))
end

-- The longer of two timeouts, as text.
local function longer(one, other)
    return tonumber(one) < tonumber(other) and other or one
end

-- Begin the next timeline. KEYS: state, nodes, members, base, log, versions, pins
local function renew(state, at_least, id, stamp, ...)
    local number = math.max(tonumber(state.revision), tonumber(at_least)) + 1
    local version = text(number) .. ':' .. stamp
    redis.call('DEL', key.nodes, key.members, key.base, key.log, key.versions, key.pins)
    redis.call('RPUSH', key.versions, version)
    revise(number, stamp, 'generation', text(state.generation + 1), 'timeline', id, 'timeline_store', state.store,
        'version', text(number), 'version_stamp', stamp, 'leader', '', 'leader_run', '', 'pins', version,
        'base_size', '0', 'log_size', '0', ...)
end

local function same_timeline(state)
    return state.generation == given.generation and state.timeline == given.timeline and state.timeline_store == given.timeline_store
end

-- A record's text with a seal in front, by which what a person has put in its place is told apart: it counts as absent.
local function sealed(name, text)
    return redis.sha1hex(name .. '\0' .. text) .. text
end

-- The text of a sealed record; nil if there is none, or the seal is not that of this text under this name.
local function unsealed(name, raw)
    local found = raw and string.sub(raw, 41)
    return found and sealed(name, found) == raw and found or nil
end

-- A node's record, or nil.
local function node_of(name)
    local found = unsealed(name, redis.call('HGET', key.nodes, name))
    return found and cjson.decode(found)
end

-- The record of exactly this run, if it is registered; else nil.
local function joined(name, run)
    local node = node_of(name)
    if node and node.run == run and node.state == 'joined' then
        return node
    end
    return nil
end

local function put_node(node)
    redis.call('HSET', key.nodes, node.name, sealed(node.name, cjson.encode(node)))
end

-- Run a command with any number of arguments, so many at once as Lua's stack carries. ``size`` arguments belong together.
local function in_parts(size, arguments, command, ...)
    local step = 4000 - 4000 % size
    local total = 0
    for first = 1, #arguments, step do
        local words = {command, ...}
        for i = first, math.min(first + step - 1, #arguments) do
            words[#words + 1] = arguments[i]
        end
        local answer = redis.call(unpack(words))
        total = total + (tonumber(answer) or 0)
    end
    return total
end

-- The members of a trail: date, item and node, parted by what no text contains. As text they sort by date, then item.
local function record_of(date, item, node)
    return date .. '\0' .. item .. '\0' .. node
end

-- Date and item of a trail's member; nil if it is none.
local function parts_of(record)
    return string.match(record, '^([^%z]*)%z([^%z]*)%z')
end

-- All members of an index that begin with these parts.
local function beginning(index, date, item)
    local from = item and (date .. '\0' .. item) or date
    return redis.call('ZRANGEBYLEX', index, '[' .. from .. '\0', '(' .. from .. '\1')
end

local function is_audited(date, item)
    local from = date .. '\0' .. item
    return redis.call('ZLEXCOUNT', key.audits_by_date, '[' .. from .. '\0', '(' .. from .. '\1') > 0
end

-- Look up the times of records in parts, those that have none left out: record and time in turn.
local function with_times(records, sorted)
    local found = {}
    for first = 1, #records, 4000 do
        local times = redis.call('ZMSCORE', sorted, unpack(records, first, math.min(first + 3999, #records)))
        for i = 1, #times do
            if times[i] then
                found[#found + 1] = records[first + i - 1]
                found[#found + 1] = times[i]
            end
        end
    end
    return found
end

-- The newest of what is sorted by time; ``limit`` is above 0, or '' if there is none.
local function newest(sorted, limit)
    return redis.call('ZREVRANGE', sorted, 0, limit == '' and -1 or limit - 1, 'WITHSCORES')
end
