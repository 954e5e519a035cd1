"""The stores of the harness, each with a new server for each scenario."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import psutil
from tests.support.servers import EtcdServer, PostgresServer, RedisServer, ServerProcess
from tests.support.stores import KINDS, Kind

from jobsync.errors import ConfigError
from jobsync_bench.bench import BenchStore
from jobsync_bench.run import Place

__all__ = ['DEFAULT', 'QUICK', 'ServedStore', 'places']

DEFAULT = ('postgresql', 'redis', 'etcd', 'sqlite')
QUICK = ('postgresql', 'redis')
"""The stores of a quick run."""


@attrs.frozen
class ServedStore(BenchStore):
    """A store whose server was started by the harness."""

    server: ServerProcess | None = None


def cpu_seconds(server: ServerProcess) -> float:
    """Return the CPU seconds of a server: its processes, and their children that have ended."""
    first = psutil.Process(server.pid)
    total = 0.0
    for process in (first, *first.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # what it used is among its parent's children's
        total += times.user + times.system + times.children_user + times.children_system
    return total


def version_of(server: ServerProcess | None) -> str:
    """Return the version of a server."""
    match server:
        case PostgresServer():
            (told,) = server.psql('SHOW server_version')
            return told.split()[0]
        case RedisServer():
            fields = dict(line.strip().split(':', 1) for line in server.ask('INFO', 'server').splitlines() if ':' in line)
            return fields.get('valkey_version') or fields['redis_version']
        case EtcdServer():
            return server.ctl('version').split()[2]
        case _:
            return '' if server is not None else sqlite3.sqlite_version


@contextmanager
def opened(kind: Kind) -> Iterator[BenchStore]:
    """Yield a new store with its server."""
    with kind.server() as server, TemporaryDirectory(prefix=f'jobsync-{kind.name}-') as folder:
        used = None if server is None else partial(cpu_seconds, server)
        yield ServedStore(kind.name, kind.empty(server, Path(folder)), used, version_of(server), server)


def places(names: Iterable[str]) -> list[Place]:
    """Return the places of these kinds, each once. Raises ``ConfigError`` for an unknown kind."""
    wanted = dict.fromkeys(names)
    if unknown := sorted(wanted.keys() - KINDS.keys()):
        raise ConfigError(f'there is no store {", ".join(map(repr, unknown))}; there are {", ".join(KINDS)}')
    return [Place(kind.name, partial(opened, kind), kind.reach) for kind in map(KINDS.__getitem__, wanted)]
