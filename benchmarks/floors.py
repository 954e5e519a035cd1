"""The floors: what nothing can be faster than, measured where the rest is.

    python -m benchmarks.floors

A call of nothing, the bare hash of an id and the clock that a lease is read on bound ``can_claim_task``; a store's smallest
question bounds everything that asks it; one write that is on the disk bounds everything that is recorded one at a time.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.claim import bare_hash, nothing, read_clock
from benchmarks.compare import in_turns, machine, markdown, per_call
from benchmarks.fresh import STORES, fresh

__all__ = ['CALLS', 'Floor', 'bare_calls', 'fsync', 'round_trip']

_IDS = 2_000
_TIMES = 200

Floor = Callable[[], float]
"""Makes a run, and returns seconds for one."""

CALLS: dict[str, Floor] = {
    'an empty call': lambda: per_call(nothing, range(_IDS)),
    'the clock': lambda: per_call(read_clock, range(_IDS)),
    'the bare hash of an int': lambda: per_call(bare_hash('int'), range(_IDS)),
    'the bare hash of a str': lambda: per_call(bare_hash('str'), [f'task-{number}' for number in range(_IDS)]),
}
"""Seconds of CPU for one."""


def repeated(action: Callable[[], object], times: int = _TIMES) -> float:
    """Seconds for one ``action``, the median of ``times``."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@contextmanager
def fsync(folder: Path | None = None) -> Iterator[Floor]:
    """One small write to a file, on the disk when it returns, in the folder where the servers keep their files."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix='jobsync-fsync-') as file:

        def write() -> None:
            os.write(file.fileno(), b'x' * 100)
            os.fsync(file.fileno())

        yield lambda: repeated(write)


@contextmanager
def round_trip(store: str, url: str) -> Iterator[dict[str, Floor]]:
    """The smallest question to a store by its bare driver, and the smallest write that it confirms."""
    with bare_calls(store, url) as bare:
        assert bare is not None
        ask, write = bare
        yield {'asks': lambda: repeated(ask), 'writes': lambda: repeated(write)}


@contextmanager
def bare_calls(store: str, url: str) -> Iterator[_Bare | None]:
    """The question and the write themselves; None for a store without a driver."""
    with ExitStack() as stack:
        if store not in _BARE:
            yield None
            return
        ask, write = _BARE[store](stack, url)
        write()
        yield ask, write


_Bare = tuple[Callable[[], object], Callable[[], object]]


def _postgresql(stack: ExitStack, url: str) -> _Bare:
    import psycopg

    connection = stack.enter_context(closing(psycopg.connect(url, autocommit=True)))
    connection.execute('CREATE TABLE IF NOT EXISTS floor_row (id int PRIMARY KEY, value int)')
    upsert = 'INSERT INTO floor_row VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET value = floor_row.value + 1'
    return lambda: connection.execute('SELECT 1').fetchone(), lambda: connection.execute(upsert)


def _sqlite(stack: ExitStack, url: str) -> _Bare:
    import sqlite3

    path = Path(urlsplit(url).path)
    connection = stack.enter_context(closing(sqlite3.connect(path.with_name('floor.db'), isolation_level=None)))
    connection.execute('PRAGMA journal_mode = WAL')
    connection.execute('PRAGMA synchronous = FULL')
    connection.execute('CREATE TABLE IF NOT EXISTS floor_row (id integer PRIMARY KEY, value int)')
    return lambda: connection.execute('SELECT 1').fetchone(), lambda: connection.execute(
        'INSERT OR REPLACE INTO floor_row VALUES (1, 1)'
    )


def _redis(stack: ExitStack, url: str) -> _Bare:
    import redis

    parts = urlsplit(url)
    assert parts.hostname
    client: Any = redis.Redis(parts.hostname, parts.port or 6379, password=unquote(parts.password or '') or None)
    stack.enter_context(closing(client))
    return client.ping, lambda: client.set('floor', 'x' * 100)


def _etcd(stack: ExitStack, url: str) -> _Bare:
    from jobsync.backends.etcd.driver import etcd3  # python-etcd3, importable beside a current protobuf

    parts = urlsplit(url)
    client: Any = stack.enter_context(closing(etcd3.client(host=parts.hostname, port=parts.port)))
    return lambda: client.get('floor'), lambda: client.put('floor', 'x' * 100)


_BARE: dict[str, Callable[[ExitStack, str], _Bare]] = {
    'postgresql': _postgresql,
    'sqlite': _sqlite,
    'redis': _redis,
    'etcd': _etcd,
}


def main(arguments: Sequence[str]) -> None:
    stores = arguments or STORES
    rows = [[name, f'{1e9 * seconds:,.0f} ns'] for name, seconds in in_turns(CALLS, 20).items()]
    with ExitStack() as stack:
        floors = {'a small write and fsync': stack.enter_context(fsync())}
        for store in stores:
            for what, floor in stack.enter_context(round_trip(store, stack.enter_context(fresh(store)))).items():
                floors[f'{store} {what}'] = floor
        rows += [[name, f'{1e6 * seconds:,.0f} us'] for name, seconds in in_turns(floors, 5).items()]
    print(machine(), markdown(['floor', 'one'], rows), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
