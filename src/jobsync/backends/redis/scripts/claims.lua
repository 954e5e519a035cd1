-- The claims.
--
-- KEYS: state, claims, claims_by_date
-- ARGV: date, item, limit
-- Returns: 'ok', record and time for each, newest first unless there is a date | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', history(key.claims, key.claims_by_date)}
