-- Delete the records of a trail before a time: claims only where the work is complete. Claims that lose their audit are open
-- again.
--
-- KEYS: state, claims, claims_by_date, open, audits, audits_by_date, rebalances
-- ARGV: kind, before
--       (kind: 'claim', 'audit' or 'rebalance')
-- Returns: 'ok', how many | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
local records, by_date = key[given.kind .. 's'], key[given.kind .. 's_by_date']
local old = {}
for _, record in ipairs(redis.call('ZRANGEBYSCORE', records, '-inf', '(' .. given.before)) do
    if given.kind ~= 'claim' or not redis.call('ZSCORE', key.open, record) then
        old[#old + 1] = record
    end
end
in_parts(1, old, 'ZREM', records)
if by_date then
    in_parts(1, old, 'ZREM', by_date)
end
if given.kind == 'audit' then
    local open = {}
    for _, record in ipairs(old) do
        local date, item = parts_of(record)
        if item and not is_audited(date, item) then
            for _, claim in ipairs(beginning(key.claims_by_date, date, item)) do
                open[#open + 1] = redis.call('ZSCORE', key.claims, claim)
                open[#open + 1] = claim
            end
        end
    end
    in_parts(2, open, 'ZADD', key.open)
end
return {'ok', #old}
