-- Write a plan if everything it was made from is unchanged, all or nothing.
--
-- REQUIRES: namespace, node
-- TIME: bulk
-- KEYS: state, nodes, members, log, versions, pins, rebalances
-- ARGV: name, run, epoch, generation, timeline, timeline_store, version, version_stamp, number, stamp,
--       evictions, departed, absent, entry, new_members, rebalance, affected, unpinned
--       name, run: the leader's; epoch to version_stamp: the guard
--       number: the least that the new revision may have; stamp: its stamp
--       evictions, departed, absent: JSON, [name, run, heartbeat], [name, run] and [name, run] for each
--       entry: what to append to the log; rebalance: what to append to the history, or ''
--       affected: the nodes that the new version concerns, as it is announced
--       new_members: JSON, for each name the member to put, as text, or false
-- REST: ids of pins to remove (``unpinned`` says how many), then id and pin for each pin to put
-- Returns: 'ok', the revision's number, how many entries the log has, their size, the size of the base
--          'Evicted' | 'Fenced' | 'Conflict', and what does not fit
--
-- t=0  the leader of epoch 3 reads version 7 and node b, silent for its timeout at heartbeat 9, and plans to give b's tokens to c
-- t=1  the leader is paused. Meanwhile b wakes and beats (heartbeat 10), or node d takes the leadership (epoch 4) and commits
--      version 8, or the server goes back in time and another timeline begins
-- t=2  the leader wakes and commits. Each comparison below refuses one of these.
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
    local found = node_of(eviction[1])
    if not (found and found.run == eviction[2] and found.heartbeat == eviction[3]) then
        return {'Conflict', 'node ' .. eviction[1] .. ' is not as it was when it was taken for dead'}
    end
    gone[#gone + 1] = eviction[1]
end
for _, left in ipairs(cjson.decode(given.departed)) do
    local found = node_of(left[1])
    if not (found and found.run == left[2] and found.state == 'left') then
        return {'Conflict', 'node ' .. left[1] .. ' is not as it was when it left'}
    end
    gone[#gone + 1] = left[1]
end
for _, absent in ipairs(cjson.decode(given.absent)) do
    if joined(absent[1], absent[2]) then
        return {'Conflict', 'node ' .. absent[1] .. ' is registered again'}
    end
end
-- t=0  a person replaces the key of the rebalances: ZADD fails below, when the plan is in the log already, and the version is not
-- t=1  the key is put right, and the next commit writes its own plan, and its version
-- t=2  a node reads both plans. By the first one token 42 is b's, and the leader, which knows only the second one, gives it to c
-- So a key that is not from jobsync fails here.
redis.call('HGET', key.members, '')
redis.call('HGET', key.pins, '')
redis.call('LRANGE', key.log, 0, 0)
redis.call('LRANGE', key.versions, 0, 0)
redis.call('ZSCORE', key.rebalances, '')

local number = math.max(state.revision + 1, tonumber(given.number))
local version = text(number) .. ':' .. given.stamp
node.heartbeat = text(node.heartbeat + 1)
put_node(node)
in_parts(gone, 'HDEL', key.nodes)
local come, go = {}, {}
for name, member in pairs(cjson.decode(given.new_members)) do
    if member then
        pair(come, name, member)
    else
        go[#go + 1] = name
    end
end
-- What was there before is counted only where an older jobsync has not: a record that has been dropped since must be missing.
local member_count = text((state.member_count or #redis.call('HKEYS', key.members))
    - in_parts(go, 'HDEL', key.members) + in_parts(come, 'HSET', key.members))
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
local pin_count = text((state.pin_count or #redis.call('HKEYS', key.pins))
    - in_parts(removed, 'HDEL', key.pins) + in_parts(put, 'HSET', key.pins))
if given.rebalance ~= '' then
    redis.call('ZADD', key.rebalances, text(now()), string.format('%020.0f', number) .. given.rebalance)
end
concerned = given.affected
revise(number, given.stamp, 'version', text(number), 'version_stamp', given.stamp,
    'pins', rest.count > 0 and version or state.pins, 'log_size', log_size,
    'member_count', member_count, 'pin_count', pin_count)
return {'ok', text(number), entries, log_size, state.base_size}
