-- Delete records of the history before a time: claims only where the work is complete. Claims that lose their audit are open again.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, claims, claims_by_date, open, audits, audits_by_date, rebalances
-- ARGV: kind, before
--       kind: 'claims', 'audits' or 'rebalances'
-- Returns: 'ok', how many
local records, by_date = key[given.kind], key[given.kind .. '_by_date']
local old = {}
for _, record in ipairs(redis.call('ZRANGEBYSCORE', records, '-inf', '(' .. given.before)) do
    if given.kind ~= 'claims' or not redis.call('ZSCORE', key.open, record) then
        old[#old + 1] = record
    end
end
in_parts(1, old, 'ZREM', records)
if by_date then
    in_parts(1, old, 'ZREM', by_date)
end
if given.kind == 'audits' then
    local opened = {}
    for _, record in ipairs(old) do
        local date, item = parts_of(record)
        if item and not is_audited(date, item) then
            for _, claim in ipairs(beginning(key.claims_by_date, date, item)) do
                pair(opened, redis.call('ZSCORE', key.claims, claim), claim)
            end
        end
    end
    in_parts(2, opened, 'ZADD', key.open)
end
return {'ok', #old}
