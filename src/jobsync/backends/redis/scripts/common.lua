-- Stands before every script, after the three tables that the Python side makes of the script's header: ``key`` (keys by name),
-- ``given`` (arguments by name; ``given.durable``, ``given.channel`` and ``given.schema`` are always there) and ``rest`` (what
-- follows them).
--
-- A script is atomic because no other one runs meanwhile. It cannot be rolled back, so it compares first and writes last.
-- Numbers are doubles here, exact below 2^53. Stamps have 62 bits, so they stay text.

local function text(number)
    return string.format('%.0f', number)
end

-- Return the server's time, in microseconds since 1970.
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function replication()
    local info = redis.call('INFO', 'replication')
    return string.match(info, 'role:(%a+)'), string.match(info, 'master_replid:(%x+)'), string.match(info, 'master_replid2:(%x+)')
end

local function run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- The commands of all scripts, with the fewest arguments that each takes; PUBLISH is optional.
local COMMANDS = {DEL = 1, GET = 1, SET = 2, HSET = 3, HGET = 2, HGETALL = 1, HKEYS = 1, HDEL = 2, HINCRBY = 3, RPUSH = 2, LRANGE = 3,
    LTRIM = 3, ZADD = 3, ZREM = 2, ZREVRANGE = 3, ZRANGEBYLEX = 3, ZLEXCOUNT = 3, ZSCORE = 2, ZMSCORE = 2, TIME = 0, INFO = 0}
-- Those of the scripts that write nothing: a user who may only read has no others.
local READING = {'GET', 'HGET', 'HGETALL', 'LRANGE', 'ZREVRANGE', 'ZRANGEBYLEX', 'ZMSCORE', 'TIME', 'INFO'}
local ALL = {}
for command in pairs(COMMANDS) do
    ALL[#ALL + 1] = command
end

local ARGUMENTS = {key.state, '0', '0'}

-- With the arguments, because newer servers refuse a question about a command that lacks some.
local function may(command)
    return not redis.acl_check_cmd or redis.acl_check_cmd(command, unpack(ARGUMENTS, 1, COMMANDS[command]))
end

-- Fail before anything is written if a right has been taken away since the namespace was opened: a script that is refused halfway
-- has written half. Redis before 7 has no such check.
local function check_rights(commands)
    for _, command in ipairs(commands) do
        if not may(command) then
            error({err = 'NOPERM this user has no permissions to run the ' .. command .. ' command'})
        end
    end
end

-- Return the state of the namespace, with ``store``, the store's identity as it is now; nil if there is no such namespace.
--
-- The identity is the replication id that the server had when the timeline was made. A server that is promoted draws a new id and
-- keeps the last one as its second. In two cases the id changes without a failover, and the second id is empty: the same process
-- begins another replication log (when its first replica arrives, for instance), or a process starts from its own files. The latter
-- is the same store only if the files have everything that was acknowledged.
-- For a script that writes nothing (``is_view``) the user need not be allowed to write.
local function enter(is_view)
    check_rights(is_view and READING or ALL)
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
        -- A replica may lag behind. A client's connection may be from the time when this server was the master.
        error({err = 'READONLY this server has become a replica'})
    end
    if id ~= state.replication then
        local run, promoted = run_id(), string.match(second, '^0+$') == nil
        local same = not promoted
        if same and run ~= state.run then
            same = given.durable == '1' and string.match(redis.call('INFO', 'persistence'), 'aof_enabled:1') ~= nil
        end
        if not same then
            state.store = id
        end
        state.replication = id
        -- t=0  a replica is promoted: its id is new and its second one is not empty, so ``store`` becomes another one
        -- t=1  the id changes again without a failover, in one of the two cases above
        -- t=2  a node that was paused reads ``store``. Had t=0 not stored it, the node would read the identity from before.
        --
        -- t=0  a durable server restarts, and has everything
        -- t=1  a person looks at the cluster or edits a lock, by a URL without durable=yes: for them it is another store
        -- t=2  the nodes read ``store``. Had t=1 stored it, all would begin a new timeline. Without durable=yes each later call
        --      finds the same as t=1 did, and the next timeline stores it.
        -- Who may only read is no node, and leaves it to the nodes. A server that refuses writes still answers readings.
        -- A namespace of another format is as its own nodes leave it.
        local is_own = (state.schema or given.schema) == given.schema
        if is_own and (same or promoted or given.durable == '1') and (not is_view or may('HSET')) then
            (is_view and redis.pcall or redis.call)('HSET', key.state, 'replication', id, 'run', run, 'store', state.store)
        end
    end
    return state
end

-- What scripts count on from, and what they only pass on.
local NUMBERS = {'total_tokens', 'format', 'generation', 'revision', 'version', 'epoch', 'position', 'last_created',
    'locks_revision', 'lock_ids', 'base_size', 'log_size'}
-- These are missing where an older jobsync has made the namespace.
local COUNTS = {'member_count', 'pin_count'}
local STAMPS = {'stamp', 'version_stamp'}
local TEXTS = {'hash_function', 'timeline', 'timeline_store', 'store', 'leader', 'leader_run', 'pins'}
local EXACT, WEEK = 2 ^ 53, 7 * 24 * 3600

-- Fail before anything is read or written if a person has deleted a field of the state, or has put what is no number in the place of
-- one.
--
-- t=0  a person sets ``epoch`` to 9223372036854775807, which is no double: counted on from, it stays as it is
-- t=1  nodes a and b, one after the other, take the leadership: both lead in that epoch
-- t=2  the person puts back what was there; no node may remember the other number, or have a record that was made with it
local function check_state(state)
    local function check(field, is_sound)
        if not is_sound then
            error({err = 'SPOILT the field ' .. field .. ' was changed manually'})
        end
    end
    local function check_number(field, found)
        check(field, string.find(found, '^%d+$') and tonumber(found) < EXACT)
    end
    for _, field in ipairs(NUMBERS) do
        check_number(field, state[field] or '')
    end
    for _, field in ipairs(COUNTS) do
        check_number(field, state[field] or '0')
    end
    for _, field in ipairs(STAMPS) do
        local found = state[field] or ''
        check(field, string.find(found, '^%d+$') and #found < 20)
    end
    for _, field in ipairs(TEXTS) do
        check(field, state[field])
    end
    local longest = string.find(state.longest_timeout or '', '^%d') and tonumber(state.longest_timeout)
    check('longest_timeout', longest and longest <= WEEK)
end

-- Return what a heartbeat and a snapshot read of the state, 12 values, followed by others.
local function shared_fields(state, ...)
    return {'ok', state.generation, state.timeline, state.timeline_store, state.store, state.revision, state.stamp,
        state.version, state.version_stamp, state.epoch, state.leader, state.leader_run, state.position, ...}
end

-- What the announcement of a revision says besides its number: the nodes that it concerns, as ``Concerned`` reads it; '' for all.
local concerned = ''
local NONE = ' []'

-- Store a new revision, with further fields of the state, and announce it. A user without the right to publish stores it too: the
-- other nodes find it when they poll.
local function revise(number, stamp, ...)
    redis.call('HSET', key.state, 'revision', text(number), 'stamp', stamp, ...)
    redis.call('HINCRBY', key.state, 'position', 1)
    redis.pcall('PUBLISH', given.channel, text(number) .. concerned)
end

-- Return the longer of two timeouts, as text.
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
        'store', state.store, 'replication', state.replication, 'run', run_id(),
        'version', text(number), 'version_stamp', stamp, 'leader', '', 'leader_run', '', 'pins', version,
        'base_size', '0', 'log_size', '0', 'member_count', '0', 'pin_count', '0', ...)
end

local function same_timeline(state)
    return state.generation == given.generation and state.timeline == given.timeline and state.timeline_store == given.timeline_store
end

-- Return a record's text with its seal in front. A record that a person has changed has no such seal, and counts as absent.
local function sealed(name, text)
    return redis.sha1hex(name .. '\0' .. text) .. text
end

-- Return the text of a sealed record; nil if there is none, or the seal is not that of this text under this name.
local function unsealed(name, raw)
    local found = raw and string.sub(raw, 41)
    return found and sealed(name, found) == raw and found or nil
end

-- Return a node's record, or nil.
local function node_of(name)
    local found = unsealed(name, redis.call('HGET', key.nodes, name))
    return found and cjson.decode(found)
end

-- Return the record of exactly this run, if it is registered; else nil.
--
-- t=0  node a is paused for longer than its timeout: the leader evicts it, and commits its tokens to b
-- t=1  another process registers under a's name
-- t=2  a wakes, and calls as the run that it was. The call is refused: nothing revives a run, and no run speaks for another.
local function joined(name, run)
    local node = node_of(name)
    return node and node.run == run and node.state == 'joined' and node or nil
end

local function put_node(node)
    redis.call('HSET', key.nodes, node.name, sealed(node.name, cjson.encode(node)))
end

-- Append two values to a list.
local function pair(list, one, other)
    local size = #list
    list[size + 1], list[size + 2] = one, other
end

-- Run a command with any number of arguments, as many at once as Lua's stack carries: an even number, which separates no pair.
-- Return the sum of the answers.
local function in_parts(arguments, command, ...)
    local sum = 0
    for first = 1, #arguments, 4000 do
        local words = {command, ...}
        for i = first, math.min(first + 3999, #arguments) do
            words[#words + 1] = arguments[i]
        end
        sum = sum + redis.call(unpack(words))
    end
    return sum
end

-- Return a claim or audit as the history keeps it: date, item and node with NUL, which no text contains, between them. As text they
-- sort by date, then item.
local function record_of(date, item, node)
    return date .. '\0' .. item .. '\0' .. node
end

-- Return date and item of a claim or audit; nil if jobsync did not write it.
local function parts_of(record)
    return string.match(record, '^([^%z]*)%z([^%z]*)%z')
end

-- Return the members of an index that begin with this date, or with this date and item.
local function beginning(index, date, item)
    local from = item and (date .. '\0' .. item) or date
    return redis.call('ZRANGEBYLEX', index, '[' .. from .. '\0', '(' .. from .. '\1')
end

local function is_audited(date, item)
    local from = date .. '\0' .. item
    return redis.call('ZLEXCOUNT', key.audits_by_date, '[' .. from .. '\0', '(' .. from .. '\1') > 0
end

-- Return the field of ``attempts`` for an item: the runs that attempt it, each as its name and run with NUL after both.
local function attempted(date, item)
    return date .. '\0' .. item
end

local function runs_at(date, item)
    return redis.call('HGET', key.attempts, attempted(date, item)) or ''
end

-- Return how many of these runs are over. Each run is looked up once in a call.
local is_over = {}
local function lost_attempts(runs)
    local lost = 0
    for name, run in string.gmatch(runs, '([^%z]*)%z([^%z]*)%z') do
        local of = name .. '\0' .. run
        if is_over[of] == nil then
            is_over[of] = not joined(name, run)
        end
        lost = lost + (is_over[of] and 1 or 0)
    end
    return lost
end

-- Return these runs without one of them.
local function without_run(runs, given_name, given_run)
    local left = ''
    for name, run in string.gmatch(runs, '([^%z]*)%z([^%z]*)%z') do
        if name ~= given_name or run ~= given_run then
            left = left .. name .. '\0' .. run .. '\0'
        end
    end
    return left
end

local function with_run(runs, name, run)
    return without_run(runs, name, run) .. name .. '\0' .. run .. '\0'
end

-- Return records and their times in turn, without the records that have no time in ``sorted``.
local function with_times(records, sorted)
    local found = {}
    for first = 1, #records, 4000 do
        local times = redis.call('ZMSCORE', sorted, unpack(records, first, math.min(first + 3999, #records)))
        for i = 1, #times do
            if times[i] then
                pair(found, records[first + i - 1], times[i])
            end
        end
    end
    return found
end
