-- Fold the oldest entries of the log into the base, if the base is still the one that was read; commits may have added entries.
--
-- KEYS: state, base, log, versions
-- ARGV: first, entries, size, blob
--       first: the version of the base that was read; entries, size: how many entries ``blob`` has besides it, and their bytes
-- Returns: 'ok' | 'SchemaMismatch'
local state = enter()
if not state then
    return ABSENT
end
if redis.call('LRANGE', key.versions, 0, 0)[1] == given.first then
    redis.call('SET', key.base, given.blob)
    redis.call('LTRIM', key.log, given.entries, -1)
    redis.call('LTRIM', key.versions, given.entries, -1)
    redis.call('HSET', key.state, 'base_size', #given.blob, 'log_size', text(state.log_size - given.size))
end
return {'ok'}
