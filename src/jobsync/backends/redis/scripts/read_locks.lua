-- All task locks.
--
-- KEYS: state, locks
-- ARGV: none
-- Returns: 'ok', the locks in no order | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', redis.call('HVALS', key.locks)}
