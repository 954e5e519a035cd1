-- Record items that a node began, or that it completed. ``open`` has the claims that no node has audited.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, nodes, claims, claims_by_date, open, audits, audits_by_date
-- ARGV: kind, name, run, date
--       kind: 'claim' or 'audit'; run: '' for audits, which are accepted from any node
-- REST: items
-- Returns: 'ok' | 'Evicted'
local claims = given.kind == 'claim'
if claims and not joined(given.name, given.run) then
    return {'Evicted'}
end
local time = text(now())
local timed, dated, opened, done = {}, {}, {}, {}
for i = 1, rest.count do
    local record = record_of(given.date, rest(i), given.name)
    pair(timed, time, record)
    pair(dated, '0', record)
    if not claims then
        for _, claim in ipairs(beginning(key.claims_by_date, given.date, rest(i))) do
            done[#done + 1] = claim
        end
    elseif not is_audited(given.date, rest(i)) then
        pair(opened, time, record)
    end
end
if claims then
    in_parts(2, timed, 'ZADD', key.claims)
    in_parts(2, dated, 'ZADD', key.claims_by_date)
    in_parts(2, opened, 'ZADD', key.open)
else
    in_parts(2, timed, 'ZADD', key.audits, 'NX')
    in_parts(2, dated, 'ZADD', key.audits_by_date)
    in_parts(1, done, 'ZREM', key.open)
end
return {'ok'}
