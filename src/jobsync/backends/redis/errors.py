"""The border to redis-py: its errors become ours, told apart by their class or by the server's error code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import redis

from jobsync.backends.redis.url import Server
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['translated']

RIGHTS = {'NOPERM', 'NOAUTH', 'WRONGPASS'}
FOREIGN = {'WRONGTYPE'}

_CODES = re.compile('|'.join(RIGHTS | FOREIGN))
"""An error code is the first word of a reply; before Redis 7 an error in a script has it further on, after a dash."""


def translate(error: Exception, server: Server) -> JobsyncError:
    """The error to raise instead."""
    if isinstance(error, redis.exceptions.NoPermissionError | redis.AuthenticationError):
        return ConfigError(f'{server}: this user may not do what is needed: {error}')
    if isinstance(error, redis.ResponseError):
        code = _CODES.search(str(error))
        if code and code[0] in RIGHTS:
            return ConfigError(f'{server}: this user may not do what is needed: {error}')
        if code:
            return SchemaMismatch(f'{server}: a key of the namespace is not from jobsync ({error}); choose another appname')
    return BackendUnavailable(f'{server}: {str(error) or type(error).__name__}')


@contextlib.contextmanager
def translated(server: Server) -> Iterator[None]:
    """Let no error of the driver out of the block."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise translate(error, server) from error
