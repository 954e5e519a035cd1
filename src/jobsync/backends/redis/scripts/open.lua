-- Make the namespace if there is none, or replace its settings if no node is registered. With settings of '' only read them.
--
-- REQUIRES: nothing
-- KEYS: state, nodes, members, base, log, versions, pins, locks
-- ARGV: create, older, total_tokens, hash_function, format, dead, id, stamp
--       dead: JSON, [run, heartbeat] of each node that does not count as registered; '' to replace no settings
-- Returns: 'ok', total_tokens, hash_function, format, generation, timeline, timeline_store
--          'SchemaMismatch', and the format that was found, or nothing if there is no namespace
local state = enter(given.total_tokens == '')
if not state then
    if given.create ~= '1' or given.total_tokens == '' then
        return {'SchemaMismatch'}
    end
    local _, id = replication()
    -- t=0  a person deletes the state, or the server drops it; nodes a and b have leases, and their records are left over
    -- t=1  a newcomer makes the namespace. In a generation 0 of a durable server it would own all tokens at once
    -- What is left over belongs to nothing, and the first commit waits for the longest timeout in it.
    local longest = '0'
    for _, name in ipairs(redis.call('HKEYS', key.nodes)) do
        local node = node_of(name)
        longest = node and longer(longest, tostring(cjson.decode(node.record)[2])) or longest
    end
    local left_over = redis.call('DEL', key.nodes, key.members, key.base, key.log, key.versions, key.pins, key.locks)
    local generation = left_over > 0 and '1' or '0'
    redis.call('RPUSH', key.versions, '0:0')
    redis.call('HSET', key.state, 'schema', given.schema, 'replication', id, 'run', run_id(), 'store', id,
        'total_tokens', given.total_tokens, 'hash_function', given.hash_function, 'format', given.format,
        'generation', generation, 'timeline', given.id, 'timeline_store', id,
        'revision', '0', 'stamp', '0', 'version', '0', 'version_stamp', '0', 'pins', '0:0',
        'epoch', '0', 'leader', '', 'leader_run', '', 'last_created', '0', 'locks_revision', '0', 'lock_ids', '0',
        'base_size', '0', 'log_size', '0', 'member_count', '0', 'pin_count', '0', 'longest_timeout', longest, 'position', '0')
    return {'ok', given.total_tokens, given.hash_function, given.format, generation, given.id, id}
end
if state.schema == given.older and given.create == '1' then
    -- What the records of the older schema lack is added when they are read. Its nodes cannot read what this one's write.
    for _, name in ipairs(redis.call('HKEYS', key.nodes)) do
        local node = node_of(name)
        if node and node.state == 'joined' then
            return {'SchemaMismatch', state.schema}
        end
    end
    redis.call('HSET', key.state, 'schema', given.schema)
    state.schema = given.schema
end
if state.schema ~= given.schema then
    return {'SchemaMismatch', state.schema or '?'}
end
check_state(state)
local function opened(now)
    return {'ok', now.total_tokens, now.hash_function, now.format, now.generation, now.timeline, now.timeline_store}
end
-- A key that another program has made under a name of the namespace fails here, with WRONGTYPE, and not at each later call.
for _, hash in ipairs({key.nodes, key.members, key.pins, key.locks}) do
    redis.call('HGET', hash, '')
end
redis.call('GET', key.base)
redis.call('LRANGE', key.log, 0, 0)
redis.call('LRANGE', key.versions, 0, 0)
if given.total_tokens == '' or given.dead == '' then
    return opened(state)
end
if state.total_tokens == given.total_tokens and state.hash_function == given.hash_function and state.format == given.format then
    return opened(state)
end
local dead = {}
for _, beat in ipairs(cjson.decode(given.dead)) do
    dead[beat[1] .. ':' .. beat[2]] = true
end
for _, name in ipairs(redis.call('HKEYS', key.nodes)) do
    local node = node_of(name)
    if node and node.state == 'joined' and not dead[node.run .. ':' .. node.heartbeat] then
        return opened(state)
    end
end
renew(state, 0, given.id, given.stamp, 'total_tokens', given.total_tokens, 'hash_function', given.hash_function, 'format', given.format)
return opened(enter())
