"""The errors of jobsync in place of the driver's and of a script's refusals.

Errors of redis-py are distinguished by their class or the server's error code, refusals by the first word of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import redis

from jobsync.backend import NodeRef, evicted
from jobsync.backends.redis.connection import HeldBack
from jobsync.backends.redis.records import node_of
from jobsync.backends.redis.url import RedisServer
from jobsync.errors import (
    BackendUnavailable,
    ConfigError,
    Conflict,
    Fenced,
    JobsyncError,
    NameTaken,
    SchemaMismatch,
    TimelineChanged,
)

__all__ = ['OLDER', 'OUTAGES', 'SCHEMA', 'code_of', 'refusal', 'translate']

SCHEMA, OLDER = '4', '3'
"""The form of the keys and their content, and the form that can be brought to it while no node is registered."""

_REMEDIES = {
    OLDER: 'stop all nodes of the older version first; a node that makes tables (not skip_db_init) then upgrades it. One that '
    'was killed stays registered: start a node of the older version, which removes it after its timeout, and stop that one; to '
    'look or steer before that, use the jobsync of these nodes'
}
_NEWER = 'install the newer jobsync here too'
_OTHER = 'use another appname, or the jobsync that made it'
RIGHTS: Mapping[str, str] = {
    'NOPERM': 'grant this user the rights that the page on operating Redis lists',
    'NOAUTH': 'give user and password in the URL; those of sentinels are sentinel_username and sentinel_password',
    'WRONGPASS': 'check user and password in the URL; those of sentinels are sentinel_username and sentinel_password',
}
"""Refusals of this user, and what to do about them."""
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
    'SPOILT': 'put back what was there, or stop all nodes and delete the keys of the namespace',
}
"""States in which a server, or a script, refuses every user, and what they mean."""
FOREIGN = 'WRONGTYPE'
NO_DATABASE = 'DB index is out of range'
"""What SELECT says of a database that there is not; it has no code of its own."""
TOO_LARGE = 'invalid bulk length'
"""What a server says of a value that is larger than it takes, which has no code either."""

UNKNOWN = re.compile(r"unknown (?:redis )?command(?:[ ,]*['`](\w+))?", re.IGNORECASE)
"""What a server says of a command that it does not have, which has no code of its own either. A script's error names none."""

_HELD_BACK = (
    'if this goes on, the server may hold calls back: CLIENT PAUSE does, until CLIENT UNPAUSE, and a FAILOVER that does not get '
    'on, until FAILOVER ABORT'
)
"""What to say of a server that accepts a call and does not answer. No server before Valkey 8.1 reports whether it is paused."""

ENDED = re.compile('closed by server|while (?:writing to|reading from) ')
"""What redis-py says of a connection that ends in the middle of a call."""
_ENDED = (
    'if this goes on, the server may end a connection whose command or answer is larger than client-query-buffer-limit, '
    'client-output-buffer-limit or maxmemory-clients allows, as its log says then: raise that limit'
)

REFUSED_CERTIFICATE = re.compile('alert (?:(?:bad|unsupported) certificate|certificate |unknown ca)', re.IGNORECASE)
"""What OpenSSL says where a server ends a connection for want of a certificate that it accepts."""
_CERTIFICATE = (
    "the server does not accept this client's certificate, which may have expired, or wants one: give it as ssl_certfile, and "
    'its key as ssl_keyfile, in the URL'
)
_ENDED_TLS = f"{_ENDED}; or the server does not accept this client's certificate, or wants one (ssl_certfile, ssl_keyfile)"
"""A server may end a connection for that without a word, or its word may be lost."""

_NO_TLS = 'if this goes on, it may be a server that does not speak TLS, whose URL begins with redis:// or redis+sentinel://'
"""What to say of one that accepts a connection and does not answer the first message of TLS: that takes all of the time."""
_ALL_OR_NONE = 'with rediss+sentinel:// sentinels and servers must all speak TLS, and with redis+sentinel:// none of them'
_NO_TLS_THERE = f'if this goes on, it may be a sentinel or a server that does not speak TLS: {_ALL_OR_NONE}'
_TLS_THERE = f'{_ENDED}; or it speaks TLS: {_ALL_OR_NONE}'
"""What to say behind sentinels, where one scheme is for them and for the servers."""

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
"""redis-py leaves the code out where it has a class for it; a class stands before its base classes."""

_CODE = re.compile(rf'\b(?:{"|".join([*RIGHTS, *OUTAGES, FOREIGN])})\b')
"""An error code is the first word of a reply; before Redis 7 an error in a script has it further on, after a dash."""


def code_of(error: Exception) -> str:
    """Return the server's code for an error, '' for a code that is not in these tables."""
    for kind, code in CLASSES.items():
        if isinstance(error, kind):
            return code
    found = _CODE.search(str(error)) if isinstance(error, redis.ResponseError) else None
    return found[0] if found else ''


def _absent(command: str | None) -> str:
    """Return what to say of a command that the server does not have; None if the server does not name it."""
    which = 'a command' if command is None else f'the command {command}'
    return (
        f'this server does not have {which} that jobsync needs: it must not be renamed or disabled (rename-command). '
        'A sentinel and some proxies do not have it either'
    )


def translate(error: Exception, server: RedisServer) -> JobsyncError:
    """Return the error to raise in place of a driver's."""
    code, said = code_of(error), str(error) or type(error).__name__
    if isinstance(error, HeldBack) or (isinstance(error, redis.TimeoutError) and 'connecting' not in said):
        return BackendUnavailable(f'{server}: {said}; {_HELD_BACK}')
    if code in RIGHTS:
        return ConfigError(f'{server}: this user may not do what is needed: {said}; {RIGHTS[code]}')
    if (unknown := UNKNOWN.search(said)) and isinstance(error, redis.ResponseError):
        return ConfigError(f'{server}: {_absent(unknown[1])}')
    if NO_DATABASE in said:
        return ConfigError(f'{server}: {said}: the server has fewer databases (16 by default, and a cluster has only 0)')
    if code == FOREIGN:
        return SchemaMismatch(f'{server}: a key of the namespace is not from jobsync ({said}); choose another appname')
    if code in OUTAGES:
        return BackendUnavailable(f'{server}: {said} ({code}: {OUTAGES[code]})')
    if isinstance(error, redis.ConnectionError) and REFUSED_CERTIFICATE.search(said):
        return BackendUnavailable(f'{server}: {said.removesuffix(".")}; {_CERTIFICATE}')
    if isinstance(error, redis.ConnectionError) and ENDED.search(said):
        plain = _TLS_THERE if server.sentinels else _ENDED
        return BackendUnavailable(f'{server}: {said.removesuffix(".")}; {_ENDED_TLS if server.is_tls else plain}')
    if isinstance(error, redis.TimeoutError) and server.is_tls:
        return BackendUnavailable(f'{server}: {said}; {_NO_TLS_THERE if server.sentinels else _NO_TLS}')
    if TOO_LARGE in said:
        return BackendUnavailable(f'{server}: {said}: raise its proto-max-bulk-len, which is 512 MB by default')
    return BackendUnavailable(f'{server}: {said}')


def refusal(status: str, details: Sequence[bytes], named: Mapping[str, object], server: RedisServer, namespace: str) -> Exception:
    """Return the error for a script's refusal: the first word of its answer, what follows, and the script's arguments."""
    match status:
        case 'SchemaMismatch' if details:
            found = details[0].decode()
            is_newer = found.isdecimal() and int(found) > int(SCHEMA)
            return SchemaMismatch(
                f'{server}: the namespace {namespace!r} has format {found}, '
                f'this version of jobsync knows format {SCHEMA}: {_NEWER if is_newer else _REMEDIES.get(found, _OTHER)}'
            )
        case 'SchemaMismatch':
            return SchemaMismatch(f'{server} has no namespace {namespace!r}; a worker without skip_db_init=True makes it')
        case 'Evicted':
            return evicted(NodeRef(str(named['name']), str(named['run'])))
        case 'Fenced':
            return Fenced(f'node {named["name"]!r} no longer leads in epoch {named["epoch"]}: this is {details[0].decode()}')
        case 'Conflict':
            return Conflict(f'the plan does not fit any more: {details[0].decode()}')
        case 'TimelineChanged':
            return TimelineChanged(f'node {named["name"]!r} wants to register in another timeline than the present one')
        case 'NameTaken':
            return NameTaken(node_of(str(named['name']), details[0]))
        case 'Forbidden':
            command, said = (detail.decode() for detail in details)
            if UNKNOWN.search(said):
                return ConfigError(f'{server}: {_absent(command)}')
            return ConfigError(f'{server}: this user may not do what is needed: {command}: {said}')
    return AssertionError(f'a script answers {status!r}')
