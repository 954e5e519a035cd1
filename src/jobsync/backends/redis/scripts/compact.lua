-- Replace the base and the oldest entries of the log by a new base.
--
-- REQUIRES: namespace
-- TIME: bulk
-- KEYS: state, base, log, versions
-- ARGV: first, entries, size, blob
--       first: the version of the base that was read; entries, size: how many entries ``blob`` has besides it, and their bytes
-- Returns: 'ok'
--
-- t=0  two handles read base 5 and the entries 6 to 70
-- t=1  one replaces base 5 and the entries up to 40 by base 40; commits may have added entries meanwhile
-- t=2  the other one compares base 5 with 40 and does nothing. Else it would cut off entries that its base does not have.
if redis.call('LRANGE', key.versions, 0, 0)[1] == given.first then
    redis.call('SET', key.base, given.blob)
    redis.call('LTRIM', key.log, given.entries, -1)
    redis.call('LTRIM', key.versions, given.entries, -1)
    redis.call('HSET', key.state, 'base_size', #given.blob, 'log_size', text(state.log_size - given.size))
end
return {'ok'}
