-- Record items that a node began, or that it completed. ``open`` has the claims that no node has audited. Of items that any node
-- has completed at the date no claim is recorded, nor, where attempts are counted, of items with too many lost ones.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, nodes, claims, claims_by_date, open, audits, audits_by_date, attempts
-- ARGV: kind, name, run, date, tolerated
--       kind: 'claim' or 'audit'; run: '' for audits, which are accepted from any node; tolerated: '' to count no attempts
-- REST: items
-- Returns: 'ok', for claims followed by each item that is not recorded and its lost attempts, '' if it is completed | 'Evicted'
local claims, tolerated = given.kind == 'claim', tonumber(given.tolerated)
if claims and not joined(given.name, given.run) then
    return {'Evicted'}
end
local time = text(now())
local timed, dated, opened, attempts, answer = {}, {}, {}, {}, {'ok'}
for i = 1, rest.count do
    local item = rest(i)
    local runs = tolerated and runs_at(given.date, item) or ''
    local lost = lost_attempts(runs)
    -- t=0  node a claims an item, loses it, and node b completes it
    -- t=1  a has the item again and claims it: recorded, its claim would be younger than the item's completion
    if claims and is_audited(given.date, item) then
        pair(answer, item, '')
    elseif tolerated and lost > tolerated then
        pair(answer, item, text(lost))
    else
        local record = record_of(given.date, item, given.name)
        pair(timed, time, record)
        pair(dated, '0', record)
        if tolerated then
            pair(attempts, attempted(given.date, item), with_run(runs, given.name, given.run))
        end
        for _, claim in ipairs(claims and {} or beginning(key.claims_by_date, given.date, item)) do
            opened[#opened + 1] = claim
        end
        if not claims then
            attempts[#attempts + 1] = attempted(given.date, item)
        end
    end
end
if claims then
    in_parts(timed, 'ZADD', key.claims)
    in_parts(dated, 'ZADD', key.claims_by_date)
    in_parts(timed, 'ZADD', key.open)
    in_parts(attempts, 'HSET', key.attempts)
else
    in_parts(timed, 'ZADD', key.audits, 'NX')
    in_parts(dated, 'ZADD', key.audits_by_date)
    in_parts(opened, 'ZREM', key.open)
    in_parts(attempts, 'HDEL', key.attempts)
end
return answer
