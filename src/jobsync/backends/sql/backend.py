"""The ``Backend`` protocol on a SQL database: each method is one transaction of the store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from jobsync.backend import (
    Audit,
    BackendInfo,
    BackendOptions,
    Changes,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    Opened,
    Plan,
    Pulse,
    Purged,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backends.sql import (
    attempts,
    commits,
    heartbeats,
    history,
    locks,
    migrations,
    namespaces,
    nodes,
    read_assignment,
    state,
)
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.store import Mode, SqlStore, SqlTransaction
from jobsync.errors import SchemaMismatch

__all__ = ['SqlBackend']

T = TypeVar('T')


class SqlBackend:
    """A ``Backend`` on a ``SqlStore``."""

    def __init__(self, store: SqlStore, options: BackendOptions) -> None:
        self.store = store
        self._options = options
        self._pins: read_assignment.KnownPins = None, ()
        """The pins of the last reading, and their version: most readings need those only that were written since."""

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.store!r}>'

    @property
    def info(self) -> BackendInfo:
        """What the store guarantees."""
        return self.store.info

    def _run(self, mode: Mode, work: Callable[[SqlTransaction], T]) -> T:
        return self.store.run(mode, self._options.op_timeout_sec, work)

    def _bulk(self, mode: Mode, work: Callable[[SqlTransaction], T]) -> T:
        return self.store.run(mode, self._options.bulk_timeout_sec, work)

    # For SQL users

    @property
    def tables(self) -> Mapping[str, str]:
        """The names of the tables, by those of ``Tables``, capitalised: ``Node``, ``Token`` and so on."""
        return self.store.tables.names()

    def connection(self) -> Connection:
        """Return a connection to the same database, for the caller to use and close. Each statement commits by itself.

        What a statement changes in the tables of nodes, tokens, locks or items counts as a manual edit. A transaction (begun with
        BEGIN) that is left open keeps the database from vacuuming or checkpointing; one that has written keeps every node from
        writing.
        """
        return self.store.connection()

    def check_no_writer_here(self) -> None:
        """Raise ``UnsupportedOperation`` if what the caller has written over a ``connection()`` keeps this backend from writing.

        That is so on SQLite, while the transaction is open.
        """
        self.store.check_no_writer_here()

    # The namespace

    def read_namespaces(self, limit: int) -> list[str]:
        """See ``BackendInfo.namespaces``."""
        return self._run(Mode.READ, lambda tx: self.store.namespaces(tx, limit))

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        """See ``Backend.open``."""
        self.store.reach(create, self._options.op_timeout_sec)
        if not self._run(Mode.READ, self.store.has_schema):
            if not create or settings is None:
                how = 'a worker without skip_db_init=True makes them' if settings is None else 'skip_db_init forbids to make them'
                raise SchemaMismatch(f'{self.store!r}: there are no tables of this namespace; {how}')
            self._run(Mode.WRITE, lambda tx: namespaces.create(self.store, tx, settings))
        version = self._run(Mode.READ, migrations.version)
        if create and version < SCHEMA_VERSION:
            self._bulk(Mode.STRUCTURE, lambda tx: migrations.migrate(self.store, tx))
        else:
            state.check_version(version)
        self._run(Mode.READ, self.store.check_complete)
        found = self._run(Mode.READ, state.read)
        if settings is None or dead is None or found.settings == settings:
            return Opened(found.settings, found.timeline)
        return self._bulk(Mode.STRUCTURE, lambda tx: namespaces.put_settings(tx, settings, dead))

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """See ``Backend.renew_timeline``."""
        self._run(Mode.STRUCTURE, lambda tx: namespaces.renew(tx, expected, at_least, longest_timeout_sec))

    def close(self) -> None:
        """See ``Backend.close``."""
        self.store.close()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        return self._run(Mode.READ, heartbeats.snapshot)

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        return self.store.wait(revision, timeout)

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        self._run(Mode.STRUCTURE, lambda tx: nodes.register(tx, node, timeline, at_least, replacing))

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """See ``Backend.heartbeat``."""
        return self._run(Mode.WRITE, lambda tx: heartbeats.heartbeat(tx, ref, seen, holding, candidate))

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        """See ``Backend.set_weight``."""
        self._run(Mode.STRUCTURE, lambda tx: nodes.set_weight(tx, ref, weight, stalled))

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        """See ``Backend.deregister``."""
        self._run(Mode.STRUCTURE, lambda tx: nodes.deregister(tx, ref, died))

    def remove_node(self, ref: NodeRef) -> bool:
        """See ``Backend.remove_node``."""
        return self._run(Mode.STRUCTURE, lambda tx: nodes.remove_node(tx, ref))

    # The leader

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        return self._run(Mode.STRUCTURE, lambda tx: nodes.acquire_leadership(tx, ref, epoch))

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        known = self._pins
        changes = self._bulk(Mode.READ, lambda tx: read_assignment.read(tx, since, tokens, known))
        self._pins = changes.version, changes.pins
        return changes

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        return self._bulk(Mode.STRUCTURE, lambda tx: commits.commit(tx, ref, plan, guard))

    # Task locks

    def read_locks(self) -> LockReading:
        """See ``Backend.read_locks``."""
        return self._bulk(Mode.READ, locks.read)

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        return self._bulk(Mode.STRUCTURE, lambda tx: locks.edit(tx, edit))

    # The history

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        """See ``Backend.append_claims``."""
        return self._bulk(Mode.WRITE, lambda tx: history.append_claims(tx, ref, items, date, tolerated))

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        """See ``Backend.forget_attempts``."""
        self._bulk(Mode.WRITE, lambda tx: attempts.forget_attempts(tx, items, date, ref))

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        """See ``Backend.lost_attempts``."""
        return self._bulk(Mode.READ, lambda tx: attempts.lost_attempts(tx, date, at_least))

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        self._bulk(Mode.WRITE, lambda tx: history.append_audits(tx, node, items, date))

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """See ``Backend.history``."""
        return self._bulk(Mode.READ, lambda tx: history.history(tx, kind, limit, date, item))

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        return self._bulk(Mode.READ, lambda tx: history.incomplete(tx, date, older_than))

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        """See ``Backend.purge``. Where nothing may go, no other writer has to wait."""
        old = history.old_rows(self.store.tables, kind, before, limit, after)
        portion = self._bulk(Mode.READ, lambda tx: self.store.portion(tx, old))
        if portion.rows is None:
            return Purged(0, portion.resume)
        rows = portion.rows
        return Purged(self._bulk(Mode.WRITE, lambda tx: history.delete(tx, old, rows)), portion.resume)
