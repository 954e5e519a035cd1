-- Record items that a node began, or that it completed. ``open`` has the claims that no node has audited. Of items that any node
-- has completed at the date no claim is recorded.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, nodes, claims, claims_by_date, open, audits, audits_by_date
-- ARGV: kind, name, run, date
--       kind: 'claim' or 'audit'; run: '' for audits, which are accepted from any node
-- REST: items
-- Returns: 'ok', for claims followed by the completed items among the given | 'Evicted'
local claims = given.kind == 'claim'
if claims and not joined(given.name, given.run) then
    return {'Evicted'}
end
local time = text(now())
local timed, dated, opened, answer = {}, {}, {}, {'ok'}
for i = 1, rest.count do
    local item = rest(i)
    -- t=0  node a claims an item, loses it, and node b completes it
    -- t=1  a has the item again and claims it: recorded, its claim would be younger than the item's completion
    if claims and is_audited(given.date, item) then
        answer[#answer + 1] = item
    else
        local record = record_of(given.date, item, given.name)
        pair(timed, time, record)
        pair(dated, '0', record)
        for _, claim in ipairs(claims and {} or beginning(key.claims_by_date, given.date, item)) do
            opened[#opened + 1] = claim
        end
    end
end
if claims then
    in_parts(2, timed, 'ZADD', key.claims)
    in_parts(2, dated, 'ZADD', key.claims_by_date)
    in_parts(2, timed, 'ZADD', key.open)
else
    in_parts(2, timed, 'ZADD', key.audits, 'NX')
    in_parts(2, dated, 'ZADD', key.audits_by_date)
    in_parts(1, opened, 'ZREM', key.open)
end
return answer
