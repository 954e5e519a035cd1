-- Begin a new timeline if the present one is still the one that is expected.
--
-- KEYS: state, nodes, members, base, log, versions, pins
-- ARGV: generation, timeline, timeline_store, at_least, longest_timeout, id, stamp
-- Returns: 'ok' | 'SchemaMismatch'
local state = enter()
if not state then
    return ABSENT
end
if same_timeline(state) then
    renew(state, given.at_least, given.id, given.stamp, 'longest_timeout', longer(state.longest_timeout, given.longest_timeout))
end
return {'ok'}
