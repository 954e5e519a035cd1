-- Write a plan, all or nothing.
--
-- KEYS: state, nodes, members, log, versions, pins, rebalances
-- ARGV: name, run, epoch, generation, timeline, timeline_store, version, version_stamp, number, stamp,
--       evictions, departed, absent, entry, new_members, rebalance, unpinned
-- REST: ids of pins to remove (``unpinned`` says how many), then id and pin for each pin to put
--
--       name, run: the leader's; epoch to version_stamp: the guard
--       number: the least that the new revision may have; stamp: its stamp
--       evictions, departed, absent: JSON, [name, run, heartbeat], [name, run] and [name, run] for each
--       entry: what to add to the log
--       new_members: JSON, for each name the member to put, as text, or false
--       rebalance: to append, or ''
--
-- Returns: 'ok', the revision's number, how many entries the log has, their size, that of the base
--          'SchemaMismatch' | 'Evicted' | 'Fenced' | 'Conflict', and what does not fit
local state = enter()
if not state then
    return ABSENT
end
local leader = joined(given.name, given.run)
if not leader then
    return {'Evicted'}
end
if state.epoch ~= given.epoch or state.leader ~= given.name or state.leader_run ~= given.run then
    return {'Fenced', 'epoch ' .. state.epoch .. ' of ' .. state.leader}
end
if not same_timeline(state) then
    return {'Conflict', 'it was planned in another timeline than this one'}
end
if state.timeline_store ~= state.store then
    return {'Conflict', 'another store answers than that of the timeline'}
end
if state.version ~= given.version or state.version_stamp ~= given.version_stamp then
    return {'Conflict', 'it was planned from version ' .. given.version .. ', and this is ' .. state.version}
end
local gone = {}
for _, eviction in ipairs(cjson.decode(given.evictions)) do
    local node = node_of(eviction[1])
    if not (node and node.run == eviction[2] and node.heartbeat == eviction[3]) then
        return {'Conflict', 'node ' .. eviction[1] .. ' is not as it was when it was taken for dead'}
    end
    gone[#gone + 1] = eviction[1]
end
for _, left in ipairs(cjson.decode(given.departed)) do
    local node = node_of(left[1])
    if not (node and node.run == left[2] and node.state == 'left') then
        return {'Conflict', 'node ' .. left[1] .. ' is not as it was when it left'}
    end
    gone[#gone + 1] = left[1]
end
for _, absent in ipairs(cjson.decode(given.absent)) do
    if joined(absent[1], absent[2]) then
        return {'Conflict', 'node ' .. absent[1] .. ' is registered again'}
    end
end

local number = math.max(state.revision + 1, tonumber(given.number))
local version = text(number) .. ':' .. given.stamp
leader.heartbeat = text(leader.heartbeat + 1)
put_node(leader)
in_parts(1, gone, 'HDEL', key.nodes)
local come, go = {}, {}
for name, member in pairs(cjson.decode(given.new_members)) do
    if member then
        come[#come + 1] = name
        come[#come + 1] = member
    else
        go[#go + 1] = name
    end
end
in_parts(1, go, 'HDEL', key.members)
in_parts(2, come, 'HSET', key.members)
local entries = redis.call('RPUSH', key.log, given.entry)
local log_size = text(state.log_size + #given.entry)
redis.call('RPUSH', key.versions, version)
local removed, put = {}, {}
for i = 1, given.unpinned do
    removed[i] = rest(i)
end
for i = given.unpinned + 1, rest.count do
    put[#put + 1] = rest(i)
end
in_parts(1, removed, 'HDEL', key.pins)
in_parts(2, put, 'HSET', key.pins)
if given.rebalance ~= '' then
    redis.call('ZADD', key.rebalances, text(now()), string.format('%020.0f', number) .. given.rebalance)
end
revise(number, given.stamp, 'version', text(number), 'version_stamp', given.stamp,
    'pins', rest.count > 0 and version or state.pins, 'log_size', log_size)
return {'ok', text(number), entries, log_size, state.base_size}
