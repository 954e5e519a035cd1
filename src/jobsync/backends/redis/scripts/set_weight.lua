-- Change a node's weight, and whether it has stalled.
--
-- REQUIRES: namespace, node
-- KEYS: state, nodes
-- ARGV: name, run, weight, stalled, stamp
-- Returns: 'ok'
if node.weight ~= given.weight or (node.stalled or '0') ~= given.stalled then
    node.weight = given.weight
    node.stalled = given.stalled
    put_node(node)
    concerned = NONE
    revise(state.revision + 1, given.stamp)
end
return {'ok'}
