-- Read claims, audits, rebalances, or the claims that no node has audited. Arguments that are not given are ''.
--
-- REQUIRES: view
-- TIME: bulk
-- KEYS: state, claims, claims_by_date, audits, audits_by_date, rebalances, open
-- ARGV: kind, date, item, limit
--       kind: 'claims', 'audits', 'rebalances', which have neither date nor item, or 'open'; limit: above 0
-- Returns: 'ok', the time, record and its time for each, newest first unless there is a date; with a date or an item the caller
--          keeps to the limit
local records, by_date = key[given.kind], key[(given.kind == 'open' and 'claims' or given.kind) .. '_by_date']
if given.date ~= '' then
    return {'ok', text(now()), with_times(beginning(by_date, given.date, given.item ~= '' and given.item or nil), records)}
end
local whole = given.item ~= '' or given.limit == ''
local found = redis.call('ZREVRANGE', records, 0, whole and -1 or given.limit - 1, 'WITHSCORES')
if given.item ~= '' then
    local all = found
    found = {}
    for i = 1, #all, 2 do
        if string.find(all[i], '\0' .. given.item .. '\0', 1, true) then
            pair(found, all[i], all[i + 1])
        end
    end
end
return {'ok', text(now()), found}
