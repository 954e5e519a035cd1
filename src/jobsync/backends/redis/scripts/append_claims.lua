-- Record what a node began. ``open`` has the claims that nobody has audited.
--
-- KEYS: state, nodes, claims, claims_by_date, open, audits_by_date
-- ARGV: name, run, date
-- REST: items
-- Returns: 'ok' | 'SchemaMismatch' | 'Evicted'
if not enter() then
    return ABSENT
end
if not joined(given.name, given.run) then
    return {'Evicted'}
end
local time = text(now())
local timed, dated, open = {}, {}, {}
for i = 1, rest.count do
    local record = record_of(given.date, rest(i), given.name)
    timed[#timed + 1] = time
    timed[#timed + 1] = record
    dated[#dated + 1] = '0'
    dated[#dated + 1] = record
    if not is_audited(given.date, rest(i)) then
        open[#open + 1] = time
        open[#open + 1] = record
    end
end
in_parts(2, timed, 'ZADD', key.claims)
in_parts(2, dated, 'ZADD', key.claims_by_date)
in_parts(2, open, 'ZADD', key.open)
return {'ok'}
