-- Try every command that the scripts use, on a key that is there for nothing else: a script that is stopped half way by a
-- missing right would have written half of what it should.
--
-- KEYS: probe
-- ARGV: none
-- Returns: 'ok', and '1' if this user may publish. An error of the server's, if a command is forbidden.
local probe = key.probe
redis.call('DEL', probe)
redis.call('HSET', probe, 'a', '1')
redis.call('HGET', probe, 'a')
redis.call('HMGET', probe, 'a', 'b')
redis.call('HGETALL', probe)
redis.call('HVALS', probe)
redis.call('HDEL', probe, 'a')
redis.call('RPUSH', probe, 'a')
redis.call('LRANGE', probe, 0, -1)
redis.call('DEL', probe)
redis.call('SET', probe, 'a')
redis.call('GET', probe)
redis.call('DEL', probe)
redis.call('ZADD', probe, 'NX', 0, 'a')
redis.call('ZRANGE', probe, 0, -1)
redis.call('ZREVRANGE', probe, 0, -1)
redis.call('ZRANGEBYSCORE', probe, '-inf', '(0')
redis.call('ZRANGEBYLEX', probe, '[a', '(b')
redis.call('ZLEXCOUNT', probe, '[a', '(b')
redis.call('ZSCORE', probe, 'a')
redis.call('ZMSCORE', probe, 'a', 'b')
redis.call('ZREMRANGEBYSCORE', probe, '-inf', '(0')
redis.call('ZREM', probe, 'a')
now()
replication()
run_id()
local published = redis.pcall('PUBLISH', given.channel, '0')
return {'ok', type(published) == 'number' and '1' or '0'}
