"""What ``jobsync doctor`` finds of sessions of PostgreSQL, and of processes at a file of SQLite, that keep nodes waiting."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsync.cli.folders import DoctorFinding
from jobsync.cli.output import age
from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ['examine_blockers']

_WATCH_SEC, _QUIET_SEC, _LOOK_SEC, _LONG_SEC = 3.0, 0.3, 0.1, 1.0
"""For how long to look, and if there is no sign of trouble; how often; and for how long a session must be in the way: a call of a
node is so for a moment."""
_BLOCKERS = """
WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks),
    here AS (
        SELECT * FROM locks WHERE relation IN (SELECT to_regclass(name)::oid FROM unnest(CAST(:tables AS text[])) AS name)
        AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    ),
    waiting AS (SELECT DISTINCT pid FROM locks WHERE NOT granted),
    found AS (
        SELECT unnest(pg_blocking_pids(pid)) AS pid FROM waiting WHERE pid IN (SELECT pid FROM here)
        UNION SELECT coalesce(pid, 0) FROM here WHERE :refused AND granted AND mode <> 'AccessShareLock'
    )
SELECT pid, (SELECT min(virtualtransaction) FROM locks WHERE locks.pid = found.pid), usename, application_name, state,
    extract(epoch FROM now() - xact_start)::float8, wait_event = 'SyncRep'
FROM found LEFT JOIN pg_catalog.pg_stat_activity USING (pid) WHERE pid NOT IN (SELECT pid FROM waiting)
"""
"""A database that is a copy of another one (``TEMPLATE``) has tables of the same oids. ``virtualtransaction`` says to every user
whether a session, as one of a node's, is at another transaction by now."""
_SUBSCRIPTIONS = """
SELECT quote_ident(subname), string_agg(srrelid::regclass::text, ', ' ORDER BY srrelid)
FROM pg_catalog.pg_subscription_rel JOIN pg_catalog.pg_subscription ON pg_subscription.oid = srsubid
WHERE subenabled AND srrelid IN (SELECT to_regclass(name)::oid FROM unnest(CAST(:tables AS text[])) AS name) GROUP BY 1 ORDER BY 1
"""
_FILE_LOCKS = Path('/proc/locks')
_WRITER, _EXCLUSIVE = 120, 0x40000000
"""The byte of ``-shm`` that SQLite locks for a writer, and that from which it locks the database to have it alone."""
_PREPARED = 'SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 3'


def examine_blockers(cluster: Cluster, *, is_refused: bool = False, is_silent: bool = False) -> Iterator[DoctorFinding]:
    """Yield a finding for each session that keeps calls of nodes waiting, for prepared transactions, and for commits that wait.

    And one for each subscription of logical replication that writes into the tables.

    Args:
        cluster: The cluster.
        is_refused: Whether a write was refused: then a session that holds a lock is in the way, though no call waits just now.
        is_silent: Whether nodes are silent.
    """
    backend: Any = cluster._backend
    tables = getattr(backend, 'tables', None)  # one that wraps another has none
    if backend.info.name == 'sqlite' and tables is not None:
        yield from _writers(backend.store.file.path, is_refused or is_silent)
    if backend.info.name != 'postgresql' or tables is None:
        return
    import sqlalchemy as sa  # a third of the time in which the command line starts

    values = {'tables': [*tables.values()], 'refused': is_refused}
    with contextlib.suppress(JobsyncError, sa.exc.SQLAlchemyError), contextlib.closing(backend.connection()) as connection:
        rows = _blockers(connection, sa.text(_BLOCKERS), values, _WATCH_SEC if is_refused or is_silent else _QUIET_SEC)
        if any(waits for *_, waits in rows):
            words = (
                'commits wait for a synchronous standby that is away: bring it back, or take it out of synchronous_standby_names'
            )
            yield DoctorFinding('bad', 'waiting', words)
        for pid, _, user, program, state, seconds, waits in rows:
            if not pid:
                names = ', '.join(repr(gid) for (gid,) in connection.execute(sa.text(_PREPARED)))
                words = f'a prepared transaction keeps calls of nodes waiting; there are {names}: ROLLBACK PREPARED ends one'
                yield DoctorFinding('bad', 'waiting', words)
            elif not waits:
                since = '' if seconds is None else f', whose transaction began {age(seconds)} ago'
                who = f'process {pid} of the server ({user}, {program or "no name"}, {state or "state not known"}{since})'
                words = f'{who} keeps calls of nodes waiting: SELECT pg_terminate_backend({pid}) ends it'
                yield DoctorFinding('bad', 'waiting', words)
        for name, written in connection.execute(sa.text(_SUBSCRIPTIONS), values):
            words = (
                f"the subscription {name} writes another cluster's rows into {written}, at which workers begin a new timeline: "
                f'ALTER SUBSCRIPTION {name} DISABLE ends that'
            )
            yield DoctorFinding('bad', 'replication', words)


def _blockers(connection: sa.Connection, query: sa.TextClause, values: dict[str, Any], quiet_sec: float) -> list[tuple[Any, ...]]:
    """Return the sessions that are in the way for long."""
    first = dict[tuple[Any, ...], float]()
    begun = time.monotonic()
    while True:
        now = time.monotonic()
        rows = [tuple(row) for row in connection.execute(query, values)]
        for row in rows:
            first.setdefault(row[:2], now)
        if long := [row for row in rows if now - first[row[:2]] >= _LONG_SEC]:
            return long
        # Not before a second answer, however slow the first one was.
        if now >= begun + (_WATCH_SEC if first else quiet_sec):
            return []
        time.sleep(_LOOK_SEC)


def _writers(path: Path, is_trouble: bool) -> Iterator[DoctorFinding]:
    """Yield a finding for each process that keeps others from writing into a file of SQLite for long."""
    writing = _locking(path) if is_trouble else set()
    until = time.monotonic() + _LONG_SEC
    while writing and time.monotonic() < until:
        time.sleep(_LOOK_SEC)
        writing &= _locking(path)
    for process in sorted(writing):
        with contextlib.suppress(OSError):
            lines = Path(f'/proc/{process}/status').read_text(errors='replace').splitlines()
            said = dict(line.partition(':\t')[::2] for line in lines)
            words = (
                f'process {process} ({said.get("Name")}, {said.get("State")}) has a transaction open that writes into {path}, or '
                f'has the file to itself, so no node can write: end that, or the process; kill -CONT {process} if it is stopped'
            )
            yield DoctorFinding('bad', 'waiting', words)


def _locking(path: Path) -> set[int]:
    """Return the processes that have a writer's lock on a file of SQLite; none where the system shows none (not Linux)."""
    first_bytes = dict[str, int]()
    found = set[int]()
    for file, byte in ((path, _EXCLUSIVE), (Path(f'{path}-shm'), _WRITER)):
        with contextlib.suppress(OSError):
            known = file.stat()  # opened and closed, it would lose this process the locks that SQLite has here
            first_bytes[f'{os.major(known.st_dev):02x}:{os.minor(known.st_dev):02x}:{known.st_ino}'] = byte
    with contextlib.suppress(OSError):
        for line in _FILE_LOCKS.read_text().splitlines():
            parts = line.split()  # number, kind, advisory or not, mode, process, file, first byte, last byte; or one that waits
            if parts[1] == '->' or parts[3] != 'WRITE' or parts[5] not in first_bytes:
                continue
            byte, last = first_bytes[parts[5]], parts[7]
            if int(parts[4]) > 0 and (last == 'EOF' or int(last) >= byte) and (byte != _WRITER or int(parts[6]) <= byte):
                found.add(int(parts[4]))
    return found
