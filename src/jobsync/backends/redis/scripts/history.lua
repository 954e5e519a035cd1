-- Read claims, audits, rebalances, or the claims that no node has audited. Arguments that are not given are ''.
--
-- REQUIRES: view
-- TIME: bulk
-- KEYS: state, claims, claims_by_date, audits, audits_by_date, rebalances, open
-- ARGV: kind, date, item, limit
--       kind: 'claims', 'audits', 'rebalances', which have neither date nor item, or 'open'; limit: above 0
-- Returns: 'ok', the time, record and its time for each, newest first unless there is a date; with a date or an item the caller
--          keeps to the limit
--
-- t=0  the nodes of a batch of a million tasks read, every few seconds each, which were completed last
-- t=1  one of them reads every completion of the date: the server is busy for seconds, and no heartbeat gets through
-- So no more is read than is needed.
local records, by_date = key[given.kind], key[(given.kind == 'open' and 'claims' or given.kind) .. '_by_date']
local FEW = 10000

-- Return the newest records of a date and their times, found among the newest of all dates; nil if these do not have all that are
-- wanted.
local function newest(date)
    local limit = tonumber(given.limit)
    local most, found, read = (limit or 0) + FEW, {}, 0
    while read < most do
        local part = redis.call('ZREVRANGE', records, read, read + 999, 'WITHSCORES')
        for i = 1, #part, 2 do
            if parts_of(part[i]) == date then
                pair(found, part[i], part[i + 1])
            end
        end
        if #part < 2000 or limit and #found >= 2 * limit then
            return found
        end
        read = read + 1000
    end
end

-- Return the dates of the records.
local function dates()
    local found, from = {}, '-'
    while true do
        local first = redis.call('ZRANGEBYLEX', by_date, from, '+', 'LIMIT', '0', '1')[1]
        if not first then
            return found
        end
        local date = parts_of(first)
        found[#found + 1] = date
        from = '(' .. (date and date .. '\1' or first)
    end
end

local found
if given.item ~= '' then
    found = {}
    for _, date in ipairs(given.date ~= '' and {given.date} or dates()) do
        for _, each in ipairs(with_times(beginning(by_date, date, given.item), records)) do
            found[#found + 1] = each
        end
    end
elseif given.date ~= '' then
    found = (given.limit ~= '' or given.kind == 'open') and newest(given.date)
        or with_times(beginning(by_date, given.date), records)
else
    found = redis.call('ZREVRANGE', records, 0, given.limit == '' and -1 or given.limit - 1, 'WITHSCORES')
end
return {'ok', text(now()), found}
