-- Delete one portion of the records of the history from before a time: claims only where the work is complete, audits only where no
-- claim is left.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, claims, claims_by_date, open, audits, audits_by_date, rebalances
-- ARGV: kind, before, first, limit
--       kind: 'claims', 'audits' or 'rebalances'; first: how many of the oldest records to pass over, because they stay;
--       limit: how many to read
-- Returns: 'ok', how many were deleted, ``first`` of the next portion or '' if there is none
local records, by_date = key[given.kind], key[given.kind .. '_by_date']
local before, first, limit = tonumber(given.before), tonumber(given.first), tonumber(given.limit)
-- The oldest last: the ranks from -1 on downwards are those of the lowest times.
local seen = redis.call('ZREVRANGE', records, -first - limit, -first - 1, 'WITHSCORES')
local old, stay, done = {}, first, #seen < 2 * limit
for i = #seen - 1, 1, -2 do
    local record = seen[i]
    if tonumber(seen[i + 1]) >= before then
        done = true
        break
    end
    local date, item = parts_of(record)
    if given.kind == 'claims' and redis.call('ZSCORE', key.open, record)
        or given.kind == 'audits' and item and #beginning(key.claims_by_date, date, item) > 0 then
        stay = stay + 1
    else
        old[#old + 1] = record
    end
end
in_parts(1, old, 'ZREM', records)
if by_date then
    in_parts(1, old, 'ZREM', by_date)
end
return {'ok', #old, done and '' or text(stay)}
