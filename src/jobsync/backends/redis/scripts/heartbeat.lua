-- Count a node's heartbeat, and return what the node must know.
--
-- REQUIRES: namespace, node
-- KEYS: state, nodes
-- ARGV: name, run, seen, holding, candidate
-- Returns: 'ok', the 12 values of ``shared_fields``, heartbeat, the leader's heartbeat or '', microseconds since then or '', its
--          candidate or ''
local time = now()
node.heartbeat = text(node.heartbeat + 1)
node.seen = given.seen
node.holding = given.holding
node.candidate = given.candidate
node.last_heartbeat = text(time)
put_node(node)
state.position = text(redis.call('HINCRBY', key.state, 'position', 1))
local leader = state.leader ~= '' and joined(state.leader, state.leader_run)
return shared_fields(state, node.heartbeat, leader and leader.heartbeat or '',
    leader and text(math.max(0, time - leader.last_heartbeat)) or '', leader and leader.candidate or '')
