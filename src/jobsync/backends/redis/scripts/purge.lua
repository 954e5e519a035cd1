-- Delete one portion of the records of the history from before a time: claims only where the work is complete, audits only where no
-- claim is left. The portion is smaller than requested where reading it takes long, as all other clients wait for it.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, claims, claims_by_date, open, audits, audits_by_date, rebalances
-- ARGV: kind, before, left, limit
--       kind: 'claims', 'audits' or 'rebalances'; left: how many of the oldest records are still to be read, '' at first; limit: how
--       many to read
-- Returns: 'ok', how many were deleted, ``left`` for the next portion or '' if there is none
local records, by_date = key[given.kind], key[given.kind .. '_by_date']
local before, limit = tonumber(given.before), tonumber(given.limit)
local LONG, STEP = 0.008, 100 -- seconds; records between two readings of the clock

-- Return whether there are so many records from before the time. The oldest are the last: theirs are the ranks from -1 on downwards.
local function has_old(number)
    local found = redis.call('ZREVRANGE', records, -number, -number, 'WITHSCORES')
    return found[2] and tonumber(found[2]) < before
end

local function count_old()
    local low, high = 0, 1
    while has_old(high) do
        low, high = high, 2 * high
    end
    while high - low > 1 do
        local middle = math.floor((low + high) / 2)
        if has_old(middle) then
            low = middle
        else
            high = middle
        end
    end
    return low
end

-- The latest are read first. Where a record goes, as a claim does that is repeated, those after it move down: read from the oldest on,
-- one of them would pass below what has been read.
local last = tonumber(given.left) or count_old()
local left = math.max(0, last - limit)
local seen = last > 0 and redis.call('ZREVRANGE', records, -last, -left - 1, 'WITHSCORES') or {}
local old, begun = {}, os.clock() -- not TIME, which newer servers answer alike throughout a script
for i = 1, #seen, 2 do
    local read = (i - 1) / 2
    if read > 0 and read % STEP == 0 and os.clock() - begun > LONG then
        left = last - read
        break
    end
    local record = seen[i]
    local date, item = parts_of(record)
    local stays = given.kind == 'claims' and redis.call('ZSCORE', key.open, record)
        or given.kind == 'audits' and item and #beginning(key.claims_by_date, date, item) > 0
    if tonumber(seen[i + 1]) < before and not stays then
        old[#old + 1] = record
    end
end
in_parts(old, 'ZREM', records)
if by_date then
    in_parts(old, 'ZREM', by_date)
end
return {'ok', #old, left > 0 and text(left) or ''}
