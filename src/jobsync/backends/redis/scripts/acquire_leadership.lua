-- Take the leadership if the epoch is still the one that the node has read.
--
-- REQUIRES: namespace, node
-- KEYS: state, nodes
-- ARGV: name, run, epoch, stamp
-- Returns: 'ok', epoch, leader, leader_run: the leadership as it now stands
--
-- t=0  nodes a and b read epoch 3, and both find its leader dead
-- t=1  a takes the leadership: epoch 4
-- t=2  b compares epoch 3 with 4, and gets a's leadership back. So one node leads in each epoch.
if state.epoch ~= given.epoch then
    return {'ok', state.epoch, state.leader, state.leader_run}
end
local epoch = text(given.epoch + 1)
revise(state.revision + 1, given.stamp, 'epoch', epoch, 'leader', given.name, 'leader_run', given.run)
return {'ok', epoch, given.name, given.run}
