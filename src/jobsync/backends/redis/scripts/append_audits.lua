-- Record what a node completed; what it has recorded already stays.
--
-- KEYS: state, claims_by_date, open, audits, audits_by_date
-- ARGV: name, date
-- REST: items
-- Returns: 'ok' | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
local time = text(now())
local timed, dated, done = {}, {}, {}
for i = 1, rest.count do
    local record = record_of(given.date, rest(i), given.name)
    timed[#timed + 1] = time
    timed[#timed + 1] = record
    dated[#dated + 1] = '0'
    dated[#dated + 1] = record
    for _, claim in ipairs(beginning(key.claims_by_date, given.date, rest(i))) do
        done[#done + 1] = claim
    end
end
in_parts(2, timed, 'ZADD', key.audits, 'NX')
in_parts(2, dated, 'ZADD', key.audits_by_date)
in_parts(1, done, 'ZREM', key.open)
return {'ok'}
