"""The checks of a server before a namespace is opened on it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis

from jobsync.backend import EventLogger
from jobsync.backends._common.probing import REDIS, refuse_other_server
from jobsync.backends.redis.connection import Deadline
from jobsync.backends.redis.errors import OUTAGES
from jobsync.backends.redis.url import RedisServer
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['check_server', 'read_info', 'recognised']

log = EventLogger('jobsync.backends.redis')

OLDEST = (6, 2)
"""The first version with ZMSCORE."""


@contextlib.contextmanager
def recognised(server: RedisServer, deadline: Deadline) -> Iterator[None]:
    """Raise ``ConfigError`` if what does not answer in the block, as Redis does, is a server of another kind."""
    try:
        yield
    except BackendUnavailable:
        if (address := server.address) is not None:
            refuse_other_server(REDIS, *address, server, deadline.remaining, over_tls=server.is_tls)
        raise


def read_info(call: Callable[..., Any]) -> Mapping[str, str]:
    """Return what a server says of itself, by the names of its fields."""
    return dict(re.findall(r'^(\w+):(.*?)\r?$', call('INFO').decode(errors='replace'), re.MULTILINE))


def check_server(server: RedisServer, key: str, name: str, call: Callable[..., Any]) -> None:
    """Raise ``ConfigError`` if a server would lose what it has to keep, or is too old.

    Args:
        server: What the URL says.
        key: A key of the namespace. A node of a cluster that does not have its slot is not checked, but answers ``MOVED``.
        name: How messages name the server.
        call: Returns the server's answer to a command.
    """
    # A connection is made within the time for a call, and so is all that follows: few round trips, or a far server has no time.
    info = read_info(call)
    # t=0  a host is started again: its Redis reads the log, and says meanwhile that it has none (aof_enabled:0)
    # t=1  the workers start: each would end at once, with the advice to set appendonly
    if info.get('loading') == '1':
        raise BackendUnavailable(f'{name} reads its data (LOADING: {OUTAGES["LOADING"]})')
    if info.get('cluster_enabled') == '1':
        # INFO and CONFIG GET have no key, so any node answers them: also one on which nothing of the namespace is kept.
        call('HGET', key, 'revision')
    found = re.match(r'(\d+)\.(\d+)', info.get('redis_version', ''))
    if found is None:
        raise ConfigError(f'{name} does not say its version in INFO, as a proxy does not: the URL must lead to the server itself')
    if tuple(map(int, found.groups())) < OLDEST:
        raise ConfigError(f'{name} is Redis {info["redis_version"]}; jobsync needs 6.2 or later')
    policy = info.get('maxmemory_policy', '')
    if info.get('maxmemory', '0') != '0' and policy.startswith('allkeys'):
        raise ConfigError(
            f'{name} drops keys of any kind when its memory is full (maxmemory-policy {policy}), also those that say '
            'which node owns which token; use noeviction or a volatile policy'
        )
    if server.sentinels and 'min_slaves_good_slaves' not in info:
        log.warning(
            '%s accepts writes while it is cut off from its replicas: set min-replicas-to-write and a min-replicas-max-lag below '
            'the heartbeat timeout, or two nodes may own one task while a replica is promoted',
            name,
        )
    if server.durable:
        _check_durable(name, info, call)


def _check_durable(name: str, info: Mapping[str, str], call: Callable[..., Any]) -> None:
    """Raise ``ConfigError`` if the server's settings are not those of a durable one; believe the URL about what cannot be read.

    Raise ``BackendUnavailable`` if it is not durable yet.
    """
    # t=0  an operator sets appendonly yes: the server begins to write the log that a restart would read
    # t=1  a node registers, and is given tokens; t=2  the log is not complete yet, and the server crashes
    # t=3  restarted with the setting, it finds no log and is empty, which a newcomer takes for a namespace that is new
    # INFO says the same of a server that had a log from its start, while it rewrites that for the first time.
    if info.get('aof_base_size') == '0' and '1' in (info.get('aof_rewrite_in_progress'), info.get('aof_rewrite_scheduled')):
        raise BackendUnavailable(
            f'{name} is rewriting its log for the first time (aof_rewrite_in_progress in INFO): if appendonly was set to yes '
            'only now, it would lose everything in a crash until that is done'
        )
    # Any user of jobsync's may read INFO, which says whether there is a log; only CONFIG says when it is flushed.
    found = {'appendonly': 'no' if info.get('aof_enabled') == '0' else 'yes'}
    # With the last one, a server flushes nothing while it saves or writes its log anew.
    wanted = {'appendonly': 'yes', 'appendfsync': 'always', 'no-appendfsync-on-rewrite': 'no'}
    with contextlib.suppress(redis.ResponseError):
        answer = call('CONFIG', 'GET', '*appendfsync*')
        found |= {key.decode(): value.decode() for key, value in zip(answer[::2], answer[1::2], strict=True)}
    for setting, value in wanted.items():
        if found.get(setting, value) != value:
            raise ConfigError(
                f'the URL says durable=yes, but {name} has {setting} {found[setting]}: set {setting} {value}, '
                'or leave durable out'
            )
