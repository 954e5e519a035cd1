"""The ``Backend`` protocol on a SQL database: each method is one transaction of the store."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from jobsync.backend import BackendOptions, Changes, HistoryKind, Opened, Purged, Revision, Settings, Timeline
from jobsync.backends.sql import attempts, commits, heartbeats, locks, migrations, namespaces, nodes, read_assignment, state
from jobsync.backends.sql import history as histories
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.store import Mode, SqlStore, SqlTransaction
from jobsync.errors import JobsyncError, SchemaMismatch

__all__ = ['SqlBackend']

P = ParamSpec('P')
T = TypeVar('T')


def _in_one(
    mode: Mode, work: Callable[Concatenate[SqlTransaction, P], T], *, is_bulk: bool = False
) -> Callable[Concatenate[SqlBackend, P], T]:
    """Make the method of ``Backend`` that ``work`` is named after, and documented by: all of it in one transaction."""

    def call(self: SqlBackend, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = self._bulk if is_bulk else self._run
        return run(mode, lambda tx: work(tx, *args, **kwargs))

    return functools.update_wrapper(call, work)


class SqlBackend:
    """A ``Backend`` on a ``SqlStore``."""

    def __init__(self, store: SqlStore, options: BackendOptions) -> None:
        self.store = store
        self._options = options
        self._pins: read_assignment.KnownPins = None, ()
        """The pins of the last reading, and their version: most readings need those only that were written since."""
        self.info, self.wait, self.close = store.info, store.wait, store.close
        self.connection, self.check_no_writer_here = store.connection, store.check_no_writer_here

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.store!r}>'

    def _run(self, mode: Mode, work: Callable[[SqlTransaction], T]) -> T:
        return self._within(self._options.op_timeout_sec, mode, work)

    def _bulk(self, mode: Mode, work: Callable[[SqlTransaction], T]) -> T:
        return self._within(self._options.bulk_timeout_sec, mode, work)

    def _within(self, timeout_sec: float, mode: Mode, work: Callable[[SqlTransaction], T]) -> T:
        try:
            return self.store.run(mode, timeout_sec, work)
        except SchemaMismatch:
            # Of tables of another version a statement says only that a column or a table is not there.
            found = SCHEMA_VERSION
            with contextlib.suppress(JobsyncError):
                found = self.store.run(Mode.READ, self._options.op_timeout_sec, migrations.version)
            state.check_version(found)
            raise

    @property
    def tables(self) -> Mapping[str, str]:
        """The names of the tables, by those of ``Tables``, capitalised: ``Node``, ``Token`` and so on."""
        return self.store.tables.names()

    # The namespace

    def read_namespaces(self, limit: int) -> list[str]:
        return self._run(Mode.READ, lambda tx: self.store.namespaces(tx, limit))

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        self.store.reach(create, self._options.op_timeout_sec)
        version, found = None, None
        # In a transaction of its own: after its first reading none finds what a rewrite writes anew (``hold``).
        if self._run(Mode.READ, self.store.has_schema):
            version, found = self._run(Mode.READ, self._look)
        if version is None:
            if not create or settings is None:
                how = 'a worker without skip_db_init=True makes them' if settings is None else 'skip_db_init forbids to make them'
                raise SchemaMismatch(f'{self.store!r}: there are no tables of this namespace; {how}')
            self._bulk(Mode.WRITE, lambda tx: namespaces.create(self.store, tx, settings))
        elif create and version < SCHEMA_VERSION:
            self.store.run(Mode.STRUCTURE, self._options.bulk_timeout_sec, lambda tx: migrations.migrate(self.store, tx))
        if found is None:
            version, found = self._run(Mode.READ, self._look)
            state.check_version(version)
            assert found is not None
        # t=0  a role has no right to delete nodes, which only a leader needs, when one has died
        # t=1  months later its node leads, a node dies, and the leader's commits are refused
        if settings is not None:
            self._run(Mode.READ, self.store.check_rights)
        if settings is None or dead is None or found.settings == settings:
            return Opened(found.settings, found.timeline)
        return self._bulk(Mode.STRUCTURE, lambda tx: namespaces.put_settings(tx, settings, dead))

    def _look(self, tx: SqlTransaction) -> tuple[int, state.SqlState | None]:
        """Return the version of the schema, and the state if this code knows it; ``SchemaMismatch`` if tables are gone."""
        tx.hold(tx.tables.state)
        version = migrations.version(tx)
        if version != SCHEMA_VERSION:
            return version, None
        self.store.check_complete(tx)
        return version, state.read(tx)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        self._run(Mode.STRUCTURE, lambda tx: namespaces.renew(tx, expected, at_least, longest_timeout_sec))

    snapshot = _in_one(Mode.READ, heartbeats.snapshot)

    # Nodes

    register = _in_one(Mode.STRUCTURE, nodes.register)
    heartbeat = _in_one(Mode.WRITE, heartbeats.heartbeat)
    set_weight = _in_one(Mode.STRUCTURE, nodes.set_weight)
    deregister = _in_one(Mode.STRUCTURE, nodes.deregister)
    remove_node = _in_one(Mode.STRUCTURE, nodes.remove_node)

    # The leader

    acquire_leadership = _in_one(Mode.STRUCTURE, nodes.acquire_leadership)

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        known = self._pins
        changes = self._bulk(Mode.READ, lambda tx: read_assignment.read(tx, since, tokens, known))
        self._pins = changes.version, changes.pins
        return changes

    commit = _in_one(Mode.STRUCTURE, commits.commit, is_bulk=True)

    # Task locks

    read_locks = _in_one(Mode.READ, locks.read_locks, is_bulk=True)
    edit_locks = _in_one(Mode.STRUCTURE, locks.edit_locks, is_bulk=True)

    # The history

    append_claims = _in_one(Mode.WRITE, histories.append_claims, is_bulk=True)
    append_audits = _in_one(Mode.WRITE, histories.append_audits, is_bulk=True)
    forget_attempts = _in_one(Mode.WRITE, attempts.forget_attempts, is_bulk=True)
    lost_attempts = _in_one(Mode.READ, attempts.lost_attempts, is_bulk=True)
    history = _in_one(Mode.READ, histories.history, is_bulk=True)
    incomplete = _in_one(Mode.READ, histories.incomplete, is_bulk=True)

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        """See ``Backend.purge``. Where nothing may go, no other writer has to wait."""
        old = histories.old_rows(self.store.tables, kind, before, limit, after)
        portion = self._bulk(Mode.READ, lambda tx: self.store.portion(tx, old))
        if portion.rows is None:
            return Purged(0, portion.resume)
        rows = portion.rows
        return Purged(self._bulk(Mode.WRITE, lambda tx: histories.delete(tx, old, rows)), portion.resume)
