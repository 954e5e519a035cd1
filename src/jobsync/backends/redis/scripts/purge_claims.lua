-- Delete the claims before a time whose work is complete.
--
-- KEYS: state, claims, claims_by_date, open
-- ARGV: before
-- Returns: 'ok', how many | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
local old = {}
for _, record in ipairs(redis.call('ZRANGEBYSCORE', key.claims, '-inf', '(' .. given.before)) do
    if not redis.call('ZSCORE', key.open, record) then
        old[#old + 1] = record
    end
end
in_parts(1, old, 'ZREM', key.claims_by_date)
return {'ok', in_parts(1, old, 'ZREM', key.claims)}
