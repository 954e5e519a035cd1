-- The rebalances.
--
-- KEYS: state, rebalances
-- ARGV: limit
-- Returns: 'ok', rebalance and time for each, newest first | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', newest(key.rebalances, given.limit)}
