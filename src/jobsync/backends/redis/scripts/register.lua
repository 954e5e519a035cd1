-- Add a node if its name is free, or another run's that has left, or at exactly the run and heartbeat that the newcomer names.
--
-- REQUIRES: namespace
-- KEYS: state, nodes
-- ARGV: generation, timeline, timeline_store, at_least, name, run, record, weight, longest_timeout,
--       replacing_run, replacing_heartbeat, stamp
--       record: the fields that no script reads; longest_timeout: the longest that the node has read or has
-- Returns: 'ok' | 'TimelineChanged' | 'NameTaken', and the record that has the name
if not same_timeline(state) then
    return {'TimelineChanged'}
end
-- t=0  a newcomer reads its name at (run, heartbeat 7), and sees no heartbeat for the timeout
-- t=1  the process that has the name wakes; its heartbeat raises the counter to 8
-- t=2  the newcomer registers. Without this comparison two processes would work under one name.
--
-- t=0  a run registers, and the call is slow: the run gives it up, and registers by a second one
-- t=1  the run leaves
-- t=2  this is the first call. Nothing revives a run: it would be given tokens, and no process would work.
local before = node_of(given.name)
local free = not before
if before and before.state == 'joined' then
    free = before.run == given.replacing_run and before.heartbeat == given.replacing_heartbeat
elseif before then
    free = before.run ~= given.run
end
if not free then
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
concerned = NONE
revise(math.max(tonumber(state.revision), tonumber(given.at_least)) + 1, given.stamp, 'last_created', text(created),
    'longest_timeout', longer(state.longest_timeout, given.longest_timeout))
return {'ok'}
