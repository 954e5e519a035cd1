-- Try every command that the scripts use, on a key that serves for nothing else: a script that a missing right stops halfway would
-- have written half. A caller who is to read only, a ``Cluster``, needs no right to write: where the server can say what a user may
-- do, each script asks.
--
-- REQUIRES: nothing
-- KEYS: probe
-- ARGV: view
-- Returns: 'ok', and '1' if this user may publish | 'Forbidden', the command, and what the server says of it
if given.view == '1' and redis.acl_check_cmd then
    return {'ok', '1'}
end
local probe, refused, command = key.probe, nil, nil
local function try(name, ...)
    local answer = redis.pcall(name, ...)
    if not refused and type(answer) == 'table' and answer.err then
        refused, command = answer, name
    end
end
-- SET is the first: it replaces what an earlier call may have left, and is refused if the memory is full.
try('SET', probe, 'a')
try('GET', probe)
try('DEL', probe)
try('HSET', probe, 'a', '1')
try('HGET', probe, 'a')
try('HGETALL', probe)
try('HKEYS', probe)
try('HINCRBY', probe, 'a', 1)
try('HDEL', probe, 'a')
try('RPUSH', probe, 'a')
try('LRANGE', probe, 0, -1)
try('LTRIM', probe, 0, -1)
try('DEL', probe)
try('ZADD', probe, 'NX', 0, 'a')
try('ZREVRANGE', probe, 0, -1)
try('ZRANGEBYLEX', probe, '[a', '(b')
try('ZLEXCOUNT', probe, '[a', '(b')
try('ZSCORE', probe, 'a')
try('ZMSCORE', probe, 'a', 'b')
try('ZREM', probe, 'a')
try('TIME')
try('INFO', 'server')
if refused then
    -- A full memory and similar states have codes of their own: they are no missing right.
    local code = string.match(refused.err, '^%-?(%u+)')
    return (code and code ~= 'ERR' and code ~= 'NOPERM') and refused or {'Forbidden', command, refused.err}
end
local published = redis.pcall('PUBLISH', given.channel, '0')
return {'ok', type(published) == 'number' and '1' or '0'}
