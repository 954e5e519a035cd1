-- One trail. Arguments that are not given are ''.
--
-- KEYS: state, claims, claims_by_date, audits, audits_by_date, rebalances
-- ARGV: kind, date, item, limit
--       (kind: 'claim', 'audit' or 'rebalance'; rebalances have neither date nor item)
-- Returns: 'ok', record and time for each, newest first unless there is a date; the limit is the caller's to keep where there
--          is a date or an item
--          'SchemaMismatch'
if not enter() then
    return ABSENT
end
local records, by_date = key[given.kind .. 's'], key[given.kind .. 's_by_date']
if given.date ~= '' then
    return {'ok', with_times(beginning(by_date, given.date, given.item ~= '' and given.item or nil), records)}
end
if given.item == '' then
    return {'ok', newest(records, given.limit)}
end
local all, found = newest(records, ''), {}
for i = 1, #all, 2 do
    if string.find(all[i], '\0' .. given.item .. '\0', 1, true) then
        found[#found + 1] = all[i]
        found[#found + 1] = all[i + 1]
    end
end
return {'ok', found}
