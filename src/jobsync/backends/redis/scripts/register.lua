-- Add a node, over nobody, over one that left, or over exactly the run and heartbeat that are named.
--
-- KEYS: state, nodes
-- ARGV: generation, timeline, timeline_store, at_least, name, run, record, weight, longest_timeout,
--       replacing_run, replacing_heartbeat, stamp
--       record: what the node says of itself; nothing here looks into it
--       longest_timeout: the longest that it knows of, its own included
-- Returns: 'ok' | 'SchemaMismatch' | 'TimelineChanged' | 'NameTaken', and the record that has the name
local state = enter()
if not state then
    return ABSENT
end
if not same_timeline(state) then
    return {'TimelineChanged'}
end
local before = node_of(given.name)
if before and before.state == 'joined'
    and not (before.run == given.replacing_run and before.heartbeat == given.replacing_heartbeat) then
    return {'NameTaken', redis.call('HGET', key.nodes, given.name)}
end
local time = now()
local created = math.max(time, state.last_created + 1)
put_node({
    name = given.name,
    run = given.run,
    state = 'joined',
    heartbeat = '0',
    seen = '0:0',
    holding = '',
    record = given.record,
    weight = given.weight,
    replaced = before and before.run or '',
    created_on = text(created),
    last_heartbeat = text(time),
    candidate = '1',
})
revise(math.max(tonumber(state.revision), tonumber(given.at_least)) + 1, given.stamp, 'last_created', text(created),
    'longest_timeout', longer(state.longest_timeout, given.longest_timeout))
return {'ok'}
