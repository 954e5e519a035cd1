-- Give a node another weight, if exactly this run is registered.
--
-- KEYS: state, nodes
-- ARGV: name, run, weight, stamp
-- Returns: 'ok' | 'SchemaMismatch' | 'Evicted'
local state = enter()
if not state then
    return ABSENT
end
local node = joined(given.name, given.run)
if not node then
    return {'Evicted'}
end
if node.weight ~= given.weight then
    node.weight = given.weight
    put_node(node)
    revise(state.revision + 1, given.stamp)
end
return {'ok'}
