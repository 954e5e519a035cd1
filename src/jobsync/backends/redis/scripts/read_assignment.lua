-- Read the assignment, or what was written after a version.
--
-- The assignment is a base and a log. ``versions`` has the version of the base, then the version after each entry of the log. Base
-- and entries are token groups, and with an entry the members that it changed, as the Python side packs them.
--
-- REQUIRES: view
-- TIME: bulk
-- KEYS: state, members, base, log, versions, pins
-- ARGV: since, pins
--       'number:stamp' each: the version to build on, or '', and the version of the pins that the caller has
-- Returns: 'ok', the timeline in three parts, version, version_stamp, the version of the first layer, all members if it is complete
--          (names and members in turn), base or '', entries of the log, the version of the pins, the pins (ids and pins in turn)
--          unless the caller has them, and the kind of record of which some are missing, or ''
--
-- t=0  the server drops the log (its maxmemory-policy has become allkeys-lru), or a person deletes it
-- t=1  a commit appends that token 42 passes from a to b: the one entry of a new log
-- t=2  node a reads what was written after its version, finds no entry in that place, and goes on with token 42 as b does
-- So what is read is counted: ``versions`` has one more than the log, and the state has the other numbers.
local versions = redis.call('LRANGE', key.versions, 0, -1)
local found = nil
for i = #versions, 1, -1 do
    if versions[i] == given.since then
        found = i
        break
    end
end
local members = not found and redis.call('HGETALL', key.members)
local base = not found and redis.call('GET', key.base) or ''
local entries = redis.call('LRANGE', key.log, (found or 1) - 1, -1)
local pins = state.pins ~= given.pins and redis.call('HGETALL', key.pins)
local missing = ''
if versions[#versions] ~= state.version .. ':' .. state.version_stamp or #versions - (found or 1) ~= #entries then
    missing = 'log'
elseif not found and #base ~= tonumber(state.base_size) then
    missing = 'base'
elseif members and state.member_count and #members ~= 2 * state.member_count then
    missing = 'members'
elseif pins and state.pin_count and #pins ~= 2 * state.pin_count then
    missing = 'pins'
end
return {'ok', state.generation, state.timeline, state.timeline_store, state.version, state.version_stamp,
    versions[found or 1] or '', members, base, entries, state.pins, pins, missing}
