-- Mark a node as left, if exactly this run is registered.
--
-- REQUIRES: namespace
-- KEYS: state, nodes
-- ARGV: name, run, died, stamp
-- Returns: 'ok'
local node = joined(given.name, given.run)
if node then
    node.state = 'left'
    node.holding = ''
    node.last_heartbeat = ''
    node.stalled = given.died
    put_node(node)
    concerned = (state.leader ~= given.name or state.leader_run ~= given.run) and NONE or ''
    revise(state.revision + 1, given.stamp)
end
return {'ok'}
