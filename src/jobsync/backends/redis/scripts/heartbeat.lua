-- Count a node's heartbeat and tell it how things stand.
--
-- KEYS: state, nodes
-- ARGV: name, run, seen, holding, candidate
-- Returns: 'ok', heartbeat, generation, timeline, timeline_store, store, revision, stamp, version, version_stamp,
--          epoch, leader, leader_run, the leader's heartbeat or '', microseconds since it or '', its candidate or '',
--          position
--          'SchemaMismatch' | 'Evicted'
local state = enter()
if not state then
    return ABSENT
end
local node = joined(given.name, given.run)
if not node then
    return {'Evicted'}
end
local time = now()
node.heartbeat = text(node.heartbeat + 1)
node.seen = given.seen
node.holding = given.holding
node.candidate = given.candidate
node.last_heartbeat = text(time)
put_node(node)
local position = text(redis.call('HINCRBY', key.state, 'position', 1))
local leader = state.leader ~= '' and joined(state.leader, state.leader_run)
return {'ok', node.heartbeat, state.generation, state.timeline, state.timeline_store, state.store,
    state.revision, state.stamp, state.version, state.version_stamp, state.epoch, state.leader, state.leader_run,
    leader and leader.heartbeat or '', leader and text(math.max(0, time - leader.last_heartbeat)) or '',
    leader and leader.candidate or '', position}
