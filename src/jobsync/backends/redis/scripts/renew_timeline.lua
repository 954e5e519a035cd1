-- Begin a new timeline if the present one is still the one that the node has read.
--
-- REQUIRES: namespace
-- KEYS: state, nodes, members, base, log, versions, pins
-- ARGV: generation, timeline, timeline_store, at_least, longest_timeout, id, stamp
-- Returns: 'ok'
--
-- t=0  nodes a and b both read a sign that the store went back
-- t=1  a renews the timeline and registers in the new one
-- t=2  b requests a renewal of the old one. Without this comparison b would remove a.
if same_timeline(state) then
    renew(state, given.at_least, given.id, given.stamp, 'longest_timeout', longer(state.longest_timeout, given.longest_timeout))
end
return {'ok'}
