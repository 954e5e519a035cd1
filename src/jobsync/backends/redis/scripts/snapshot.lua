-- Read everything except tokens, pins, members and locks.
--
-- REQUIRES: view
-- KEYS: state, nodes
-- ARGV: none
-- Returns: 'ok', the 12 values of ``shared_fields``, time, locks_revision, longest_timeout, names and records of nodes in turn, in no order
return shared_fields(state, text(now()), state.locks_revision, state.longest_timeout, redis.call('HGETALL', key.nodes))
