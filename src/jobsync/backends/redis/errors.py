"""The border to redis-py: its errors become ours, told apart by their class or by the server's error code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

import redis

from jobsync.backends.redis.url import RedisServer
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['translated']

RIGHTS: Mapping[str, str] = {
    'NOPERM': 'grant this user the rights that the page on operating Redis lists',
    'NOAUTH': 'give user and password in the URL',
    'WRONGPASS': 'check user and password in the URL',
}
"""Refusals of the one who asks, and what to do about them."""
OUTAGES: Mapping[str, str] = {
    'READONLY': 'it is a replica: the URL must name the server that takes writes, or its sentinels',
    'NOREPLICAS': 'fewer replicas follow this server than its min-replicas-to-write',
    'MISCONF': 'this server cannot save to its disk',
    'OOM': 'the memory of this server is full: raise its maxmemory',
    'LOADING': 'this server is starting',
    'BUSY': 'a script has been running on this server for long: SCRIPT KILL ends it',
    'CLUSTERDOWN': 'the cluster has no node for the slot of this namespace',
    'MASTERDOWN': 'this server is a replica that has lost the server it follows',
    'TRYAGAIN': 'the cluster is moving the slot of this namespace to another node',
}
"""States of a server in which it refuses everybody, and what they mean."""
FOREIGN = 'WRONGTYPE'

CLASSES: Mapping[type[Exception], str] = {
    redis.exceptions.NoPermissionError: 'NOPERM',
    redis.exceptions.AuthenticationError: 'WRONGPASS',
    redis.exceptions.ReadOnlyError: 'READONLY',
    redis.exceptions.OutOfMemoryError: 'OOM',
    redis.exceptions.BusyLoadingError: 'LOADING',
    redis.exceptions.MasterDownError: 'MASTERDOWN',
    redis.exceptions.ClusterDownError: 'CLUSTERDOWN',
    redis.exceptions.AskError: 'TRYAGAIN',
    redis.exceptions.TryAgainError: 'TRYAGAIN',
}
"""redis-py leaves the code out where it has a class for it; a class stands before those that it is derived from."""

_CODE = re.compile(rf'\b(?:{"|".join([*RIGHTS, *OUTAGES, FOREIGN])})\b')
"""An error code is the first word of a reply; before Redis 7 an error in a script has it further on, after a dash."""


def _code_of(error: Exception) -> str:
    """Return the server's code for an error, '' if it has none that matters here."""
    for kind, code in CLASSES.items():
        if isinstance(error, kind):
            return code
    found = _CODE.search(str(error)) if isinstance(error, redis.ResponseError) else None
    return found[0] if found else ''


def translate(error: Exception, server: RedisServer) -> JobsyncError:
    """The error to raise instead."""
    code, said = _code_of(error), str(error) or type(error).__name__
    if code in RIGHTS:
        return ConfigError(f'{server}: this user may not do what is needed: {said}; {RIGHTS[code]}')
    if code == FOREIGN:
        return SchemaMismatch(f'{server}: a key of the namespace is not from jobsync ({said}); choose another appname')
    if code in OUTAGES:
        return BackendUnavailable(f'{server}: {said} ({code}: {OUTAGES[code]})')
    return BackendUnavailable(f'{server}: {said}')


@contextlib.contextmanager
def translated(server: RedisServer) -> Iterator[None]:
    """Let no error of the driver out of the block."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise translate(error, server) from error
