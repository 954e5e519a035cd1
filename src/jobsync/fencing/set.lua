-- Set a value, unless a higher fence has set it before.
--
-- KEYS: value, fence
-- ARGV: the new value, the fence it is written under: a whole number below 2^53
-- Returns: false if the value was set, and the fence stored
--          the stored fence if that is higher; nothing is changed
local highest = redis.call('GET', KEYS[2])
if highest and tonumber(highest) > tonumber(ARGV[2]) then
    return highest
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
return false
