-- All task locks.
--
-- KEYS: state, locks
-- ARGV: none
-- Returns: 'ok', tasks and locks in turn, in no order | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', redis.call('HGETALL', key.locks)}
