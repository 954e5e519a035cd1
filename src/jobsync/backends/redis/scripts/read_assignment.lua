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
--          (names and members in turn), base or '', entries of the log, the version of the pins, and the pins (ids and pins in
--          turn) unless the caller has them
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
return {'ok', state.generation, state.timeline, state.timeline_store, state.version, state.version_stamp,
    versions[found or 1], members, base, entries, state.pins, pins}
