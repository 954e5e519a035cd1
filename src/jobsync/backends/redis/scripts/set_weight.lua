-- Give a node another weight.
--
-- REQUIRES: namespace, node
-- KEYS: state, nodes
-- ARGV: name, run, weight, stamp
-- Returns: 'ok'
if node.weight ~= given.weight then
    node.weight = given.weight
    put_node(node)
    revise(state.revision + 1, given.stamp)
end
return {'ok'}
