-- Forget the attempts at items: those of one run, or of every run.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, nodes, attempts
-- ARGV: name, run, date
--       name, run: '' for every run
-- REST: items
-- Returns: 'ok'
local changed, gone = {}, {}
for i = 1, rest.count do
    local runs = given.name ~= '' and without_run(runs_at(given.date, rest(i)), given.name, given.run) or ''
    if runs == '' then
        gone[#gone + 1] = attempted(given.date, rest(i))
    else
        pair(changed, attempted(given.date, rest(i)), runs)
    end
end
in_parts(gone, 'HDEL', key.attempts)
in_parts(changed, 'HSET', key.attempts)
return {'ok'}
