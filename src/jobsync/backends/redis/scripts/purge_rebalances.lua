-- Delete the rebalances before a time.
--
-- KEYS: state, rebalances
-- ARGV: before
-- Returns: 'ok', how many | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', redis.call('ZREMRANGEBYSCORE', key.rebalances, '-inf', '(' .. given.before)}
