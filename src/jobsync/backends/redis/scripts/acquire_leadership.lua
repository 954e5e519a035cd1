-- Take the leadership if the epoch is still the one that is named.
--
-- KEYS: state, nodes
-- ARGV: name, run, epoch, stamp
-- Returns: 'ok', epoch, leader, leader_run: the leadership as it now stands
--          'SchemaMismatch' | 'Evicted'
local state = enter()
if not state then
    return ABSENT
end
if not joined(given.name, given.run) then
    return {'Evicted'}
end
if state.epoch ~= given.epoch then
    return {'ok', state.epoch, state.leader, state.leader_run}
end
local epoch = text(given.epoch + 1)
revise(state.revision + 1, given.stamp, 'epoch', epoch, 'leader', given.name, 'leader_run', given.run)
return {'ok', epoch, given.name, given.run}
