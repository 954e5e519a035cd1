-- The audits.
--
-- KEYS: state, audits, audits_by_date
-- ARGV: date, item, limit
-- Returns: 'ok', record and time for each, newest first unless there is a date | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
return {'ok', history(key.audits, key.audits_by_date)}
