-- The claims that nobody has audited.
--
-- KEYS: state, claims_by_date, open
-- ARGV: date
--       ('' for all)
-- Returns: 'ok', the time, claim and time for each, in no order | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
if given.date == '' then
    return {'ok', text(now()), redis.call('ZRANGE', key.open, 0, -1, 'WITHSCORES')}
end
return {'ok', text(now()), with_times(beginning(key.claims_by_date, given.date), key.open)}
