"""A SQLite file for one test, and what can happen to it."""

from __future__ import annotations

import datetime as dt
import functools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.support.harnesses.sql import SqlHarness
from tests.support.timings import PATIENT

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.sqlite.plugin import connect
from jobsync.backends.sql.sqlite.store import SqliteStore
from jobsync.testing import Ability

__all__ = ['SqliteHarness']


NODE_SPOILS = {
    'weight': 'weight = 9e999',
    'no weight': "weight = 'heavy'",
    'timeout': 'timeout_sec = 9e999',
    'registration': "created_on = 'infinity'",
    'heartbeat': "last_heartbeat = 'tomorrow'",
    'count': "heartbeat = 'many'",
    'holding': "holding = '[1, '",
    'replaced': """replaces = '["x", [1]]'""",
}
LOCK_SPOILS = {
    'expiry': "expires_at = '10000-01-01'",
    'past': "expires_at = '2026-02-31'",
    'words': "patterns = 'w%'",
    'nested': """patterns = '["a", ["w%"]]'""",
    'deep': f"patterns = '{'[' * 2000}'",
    'none': "patterns = '[]'",
}
"""What an operator's UPDATE sets, for each way to spoil a row."""


def connect_to(path: Path, namespace: str, **options: float) -> Backend:
    """A handle as users get it."""
    return connect(f'sqlite:///{path}', BackendOptions(namespace, **{**PATIENT, **options}))


class SqliteHarness(SqlHarness):
    """The file ``jobs.db`` in a folder of the test."""

    abilities = frozenset(Ability) - {Ability.CRASH, Ability.OUTAGE}
    stopped_sec = 1.0
    node_spoils = tuple(NODE_SPOILS)
    lock_spoils = tuple(LOCK_SPOILS)

    def __init__(self, folder: Path) -> None:
        self.path = folder / 'jobs.db'
        self._ahead = dt.timedelta(0)
        self._backends: list[SqlBackend] = []

    @property
    def url(self) -> str:
        """Of the file."""
        return f'sqlite:///{self.path}'

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        backend = connect_to(self.path, namespace, **options)
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, SqliteStore)
        backend.store.now = lambda: dt.datetime.now(dt.UTC) + self._ahead
        self._backends.append(backend)
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()

    def restart(self) -> None:
        """Leave the files as a power failure would: what had been written, no more, and nobody has them open."""
        wal = self.path.with_name(self.path.name + '-wal')
        content, log = self.path.read_bytes(), wal.read_bytes()
        for backend in self._backends:
            assert isinstance(backend.store, SqliteStore)
            if backend.store._connections is not None:
                backend.store._connections.dispose()
                backend.store._connections = None
        self.path.write_bytes(content)
        wal.write_bytes(log)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.path)

    def execute(self, *statements: str) -> None:
        """Run SQL as an operator would."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """What an operator sees."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(f"UPDATE {namespace}node SET {NODE_SPOILS[way]} WHERE name = '{name}'")

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(f"UPDATE {namespace}lock SET {LOCK_SPOILS[way]} WHERE task_id = '{task_id}'")

    def _spoil(self, statement: str) -> None:
        """Run a statement that the tables' conditions refuse, without them."""
        self.execute('PRAGMA ignore_check_constraints = ON', statement)

    def refuse_writes(self) -> None:
        """Another program has begun to write, and does not end."""
        self._writer = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._writer.execute('BEGIN IMMEDIATE')

    def accept_writes(self) -> None:
        """See ``Harness``."""
        self._writer.close()

    def move_clock(self, by: dt.timedelta) -> None:
        """See ``Harness``."""
        self._ahead += by

    def fail_over(self) -> None:
        """Move a backup of the file into its place."""
        self.replace(self.backup())

    def backup(self) -> Path:
        """A copy of the database as it is now."""
        backup = self.path.with_name('backup.db')
        backup.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        return backup

    def replace(self, other: Path) -> None:
        """Move another file into the database's place."""
        other.replace(self.path)

    def wipe(self) -> None:
        """Delete the file, and leave what SQLite keeps beside it."""
        self.path.unlink()
