-- Remove the record of a node, if exactly this run is registered.
--
-- REQUIRES: namespace
-- KEYS: state, nodes
-- ARGV: name, run, stamp
-- Returns: 'ok', 1 if the record was removed, else 0
local node = joined(given.name, given.run)
if node then
    redis.call('HDEL', key.nodes, given.name)
    revise(state.revision + 1, given.stamp)
end
return {'ok', node and 1 or 0}
