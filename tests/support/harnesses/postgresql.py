"""A schema of a PostgreSQL database for one test, and what can happen to it."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from tests.support.harnesses.sql import SqlHarness
from tests.support.servers import PostgresServer
from tests.support.timings import PATIENT

from jobsync.backend import Backend, BackendOptions, Settings
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.namespaces import begin
from jobsync.backends.sql.postgresql.ddl import WRITER
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.backends.sql.schema import tables_for
from jobsync.backends.sql.store import Mode
from jobsync.testing import Ability

__all__ = ['PostgresqlHarness']

NODE_SPOILS = {
    'weight': "weight = 'Infinity'",
    'no weight': "weight = 'NaN'",
    'timeout': "timeout_sec = 'Infinity'",
    'registration': "created_on = 'infinity'",
    'heartbeat': "last_heartbeat = '-infinity'",
    'holding': "holding = '[1, '",
    'replaced': "replaces = '[[1]]'",
}
LOCK_SPOILS = {
    'expiry': "expires_at = '10000-01-01'",
    'past': "expires_at = '-infinity'",
    'words': "patterns = 'w%'",
    'nested': """patterns = '[["w%"]]'""",
    'deep': f"patterns = '{'[' * 2000}'",
    'none': "patterns = '[]'",
}
"""What an operator's UPDATE sets, for each way to spoil a row."""

NAMESPACE = 'sync_'
_numbers = itertools.count(1)
_spare_schemas: WeakKeyDictionary[PostgresServer, list[str]] = WeakKeyDictionary()
"""Schemas with the tables of an empty namespace, without its state, that tests have left on a server."""


def connect_to(url: str, namespace: str, **options: float) -> Backend:
    """A handle as users get it."""
    return connect(url, BackendOptions(namespace, **{**PATIENT, **options}))


class PostgresqlHarness(SqlHarness):
    """A schema of its own on a server that tests share.

    To make and drop the tables of a namespace costs more than most tests. So a test that begins with ``connect_to_empty`` gets
    tables that an earlier one has left, emptied, and leaves its own unless it did more than calls of the protocol.
    """

    abilities = frozenset(Ability) - {Ability.CLOCK}
    node_spoils = tuple(NODE_SPOILS)
    lock_spoils = tuple(LOCK_SPOILS)

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._backends: list[Backend] = []
        self._is_reusable = False
        self._schema: str | None = None
        self._is_making = threading.Lock()

    @property
    def schema(self) -> str:
        """Its name. It is made when it is needed first, by whichever thread that is."""
        with self._is_making:
            if self._schema is None:
                self._schema = f'test_{next(_numbers)}'
                self.server.arrange(f'CREATE SCHEMA {self._schema}')
            return self._schema

    @property
    def url(self) -> str:
        """Of the superuser."""
        return f'{self.server.url()}?options=-csearch_path%3D{self.schema}'

    def connect(self, namespace: str = NAMESPACE, **options: float) -> Backend:
        """See ``Harness``."""
        self._is_reusable &= namespace == NAMESPACE
        backend = connect_to(self.url, namespace, **options)
        self._backends.append(backend)
        return backend

    def connect_to_empty(self, settings: Settings) -> Backend:
        """Return a handle for a namespace in which nothing has happened yet; must come before every other call."""
        spare = _spare_schemas.setdefault(self.server, [])
        emptied = spare.pop() if spare else None
        if emptied is not None:
            self._schema = emptied
        backend = self.connect()
        if emptied is not None:
            assert isinstance(backend, SqlBackend)
            backend.store.run(Mode.WRITE, PATIENT['op_timeout_sec'], lambda tx: begin(tx, settings))
        self._is_reusable = True
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()
        if self._is_reusable:
            names = {field: f'{self.schema}.{name}' for field, name in tables_for(NAMESPACE).names().items()}
            # A purge goes through a table page by page, so the pages of the history go too.
            history = [names.pop(field) for field in ('Rebalance', 'Claim', 'Audit')]
            deletions = [f'DELETE FROM {name}' for name in names.values()]
            beginning, truncation = f"BEGIN; SET LOCAL {WRITER} = '{NAMESPACE}'", f'TRUNCATE {", ".join(history)}'
            self.server.arrange('; '.join([beginning, *deletions, truncation, 'COMMIT']))
            _spare_schemas[self.server].append(self.schema)
        else:
            self.server.arrange(f'DROP SCHEMA IF EXISTS {self.schema} CASCADE')

    def restart(self) -> None:
        """See ``Harness``."""
        self._is_reusable = False
        self.server.kill()
        self.server.start()

    def stop(self) -> None:
        """The server is stopped dead: connections stay open, and nothing comes."""
        self._is_reusable = False
        self.server.pause()

    def start(self) -> None:
        """See ``Harness``."""
        self.server.resume()

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        self._is_reusable = False
        return functools.partial(connect_to, self.url)

    def execute(self, *statements: str) -> None:
        """Run SQL as an operator would."""
        self._is_reusable = False
        self.server.psql(f'SET search_path = {self.schema}', *statements)

    def end_sessions(self) -> None:
        """End every session of jobsync on the server, as a crash does; their connections have been closed afterwards."""
        sessions = "FROM pg_stat_activity WHERE application_name = 'jobsync'"
        self.server.arrange(f'SELECT pg_terminate_backend(pid) {sessions}')
        while self.server.psql(f'SELECT pid {sessions}'):
            pass

    def query(self, statement: str) -> list[tuple[str, ...]]:
        """What an operator sees."""
        return [tuple(line.split('|')) for line in self.server.psql(f'SET search_path = {self.schema}', statement)]

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(namespace + 'node', NODE_SPOILS[way], f"name = '{name}'")

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(namespace + 'lock', LOCK_SPOILS[way], f"task_id = '{task_id}'")

    def _spoil(self, table: str, change: str, where: str) -> None:
        """Change a row to what the table's conditions refuse, which are dropped first."""
        named = self.query(f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c'")
        self.execute(
            *(f'ALTER TABLE {table} DROP CONSTRAINT {name}' for (name,) in named),
            f'UPDATE {table} SET {change} WHERE {where}',
        )

    def refuse_writes(self) -> None:
        """Transactions are read-only, as on a standby."""
        self._set_read_only('on')

    def accept_writes(self) -> None:
        """See ``Harness``."""
        self._set_read_only('off')

    def _set_read_only(self, value: str) -> None:
        """Set it for the whole server, and wait until new sessions have it."""
        self._is_reusable = False
        self.server.psql(f'ALTER SYSTEM SET default_transaction_read_only = {value}', 'SELECT pg_reload_conf()')
        while self.server.psql('SHOW default_transaction_read_only') != [value]:
            time.sleep(0.02)

    def fail_over(self) -> None:
        """A dump is restored."""
        self._is_reusable = False
        dump = self.server.dump(self.schema)
        self.server.drop(self.schema)
        self.server.restore(dump)

    def wipe(self) -> None:
        """The tables are dropped."""
        self._is_reusable = False
        self.server.drop(self.schema)
        self.server.psql(f'CREATE SCHEMA {self.schema}')
