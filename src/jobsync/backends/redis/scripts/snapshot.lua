-- Everything but tokens, pins and locks.
--
-- KEYS: state, nodes
-- ARGV: none
-- Returns: 'ok', generation, timeline, timeline_store, store, time, revision, stamp, version, version_stamp,
--          epoch, leader, leader_run, locks_revision, longest_timeout, position, names and records of the nodes in no order
--          'SchemaMismatch'
local state = enter()
if not state then
    return ABSENT
end
return {'ok', state.generation, state.timeline, state.timeline_store, state.store, text(now()),
    state.revision, state.stamp, state.version, state.version_stamp, state.epoch, state.leader, state.leader_run,
    state.locks_revision, state.longest_timeout, state.position, redis.call('HGETALL', key.nodes)}
