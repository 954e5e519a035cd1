-- Delete the audits before a time. Claims that are still there, and now audited by nobody, are open again.
--
-- KEYS: state, claims, claims_by_date, open, audits, audits_by_date
-- ARGV: before
-- Returns: 'ok', how many | 'SchemaMismatch'
if not enter() then
    return ABSENT
end
local old = redis.call('ZRANGEBYSCORE', key.audits, '-inf', '(' .. given.before)
in_parts(1, old, 'ZREM', key.audits)
in_parts(1, old, 'ZREM', key.audits_by_date)
local open = {}
for _, record in ipairs(old) do
    local first = string.find(record, '\0', 1, true)
    local second = string.find(record, '\0', first + 1, true)
    local date, item = string.sub(record, 1, first - 1), string.sub(record, first + 1, second - 1)
    if not is_audited(date, item) then
        for _, claim in ipairs(beginning(key.claims_by_date, date, item)) do
            open[#open + 1] = redis.call('ZSCORE', key.claims, claim)
            open[#open + 1] = claim
        end
    end
end
in_parts(2, open, 'ZADD', key.open)
return {'ok', #old}
