-- Read all task locks.
--
-- REQUIRES: view
-- TIME: bulk
-- KEYS: state, locks
-- ARGV: none
-- Returns: 'ok', tasks and locks in turn, in no order
return {'ok', redis.call('HGETALL', key.locks)}
