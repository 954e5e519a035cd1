-- Read which items have at least so many lost attempts.
--
-- REQUIRES: view
-- TIME: bulk
-- KEYS: state, nodes, attempts
-- ARGV: date, at_least
-- Returns: 'ok', the item and its number of lost attempts for each
local found, all, least = {'ok'}, redis.call('HGETALL', key.attempts), tonumber(given.at_least)
for i = 1, #all, 2 do
    local date, item = string.match(all[i], '^([^%z]*)%z([^%z]*)$')
    if date == given.date then
        local lost = lost_attempts(all[i + 1])
        if lost >= least then
            pair(found, item, text(lost))
        end
    end
end
return found
