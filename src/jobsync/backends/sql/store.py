"""What a SQL backend asks of its database besides SQL: the seam between the shared code and a dialect.

A ``SqlStore`` runs *work*, a function of a ``SqlTransaction``, inside one database transaction. Three kinds of it differ in what
they lock and in what the triggers that watch for edits by hand make of them.
"""

from __future__ import annotations

import abc
import enum
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import attrs
from sqlalchemy import Boolean, ColumnElement, Connection, CursorResult, Executable, FromClause, literal_column
from sqlalchemy.schema import Table
from sqlalchemy.types import TypeEngine

from jobsync.backend import BackendInfo, Settings
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends.sql.schema import Tables, moment_as_text
from jobsync.errors import BackendUnavailable, SchemaMismatch

__all__ = ['MAX_REMOVALS', 'Busy', 'Mode', 'SqlStore', 'SqlTransaction', 'patiently']

T = TypeVar('T')

MAX_REMOVALS = 5_000
"""All that a plan names goes to the database in a few parameters, so that twice as many pass as well; it takes a second."""


class Mode(enum.Enum):
    """What a transaction does."""

    READ = 'sees one state of the store throughout'
    WRITE = 'writes a heartbeat or a trail: the revision stays'
    STRUCTURE = 'changes nodes, tokens or locks: nothing else changes them meanwhile, and no trigger takes it for a hand'


class Busy(BackendUnavailable):
    """Another transaction stood in the way, nothing was written, and trying again may help."""


@attrs.frozen
class SqlTransaction:
    """A connection inside a transaction, with what the shared code needs to write its statements."""

    connection: Connection
    tables: Tables
    store: SqlStore

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run one statement, once for each set of parameters."""
        return self.connection.execute(statement, parameters)

    def execute_text(self, statement: str) -> CursorResult[Any]:
        """Run one statement of the dialect's own, as it is."""
        return self.connection.exec_driver_sql(statement)

    def conclude(self, statement: Executable, parameters: Mapping[str, Any]) -> CursorResult[Any]:
        """Run one statement, and commit with it if the store can: what follows it is another transaction then."""
        return self.execute(statement, parameters)


class SqlStore(abc.ABC):
    """A database and the tables of one namespace in it. Thread-safe."""

    writes_in_with = False
    """Whether a WITH may hold an UPDATE, whose answer the rest of the statement uses."""

    looks_before_it_puts = False
    """Whether an INSERT with ON CONFLICT takes much longer than to look first and insert without."""

    def __init__(self, info: BackendInfo, tables: Tables) -> None:
        self.info = info
        self.tables = tables
        self._built: dict[object, Any] = {}
        forget_in_child(self)

    def built(self, build: Callable[[SqlStore], T]) -> T:
        """What ``build`` makes of this store: statements, which take longer to build than to run. Made once."""
        if build not in self._built:
            self._built[build] = build(self)
        found: T = self._built[build]
        return found

    def run(self, mode: Mode, timeout_sec: float, work: Callable[[SqlTransaction], T]) -> T:
        """Run ``work`` in a transaction, again while the database is merely busy and time is left.

        ``BackendUnavailable`` after ``timeout_sec``.
        """
        deadline = time.monotonic() + timeout_sec

        def once() -> T:
            with self.transaction(mode, deadline) as transaction:
                return work(transaction)

        return patiently(deadline, once)

    @abc.abstractmethod
    def transaction(self, mode: Mode, deadline: float) -> AbstractContextManager[SqlTransaction]:
        """A transaction that commits at the end of the block; ``deadline`` is on ``time.monotonic``.

        Errors of the driver come out of it translated; ``Busy`` only if nothing was written.
        """

    @abc.abstractmethod
    def prepare(self, settings: Settings, create: bool, timeout_sec: float) -> None:
        """Make the schema with these settings if there is none and ``create``; ``SchemaMismatch`` if it may not be used."""

    @abc.abstractmethod
    def tables_there(self, tx: SqlTransaction) -> set[str]:
        """The names of the namespace's tables that exist."""

    def has_schema(self, tx: SqlTransaction) -> bool:
        """Whether there is any of the tables; ``SchemaMismatch`` if they are not from this jobsync."""
        found, state = self.tables_there(tx), self.tables.state.name
        if found and state not in found:
            raise SchemaMismatch(
                f'{self!r} has {", ".join(sorted(found))} but no {state}: these tables are not from this version of jobsync; '
                'choose another appname, or drop them'
            )
        return bool(found)

    def check_complete(self, tx: SqlTransaction) -> None:
        """``SchemaMismatch`` unless all tables are there."""
        if missing := set(self.tables.names().values()) - self.tables_there(tx):
            raise SchemaMismatch(
                f'{self!r} has lost {", ".join(sorted(missing))}: bring them back from a backup, or drop the other tables of the '
                'namespace too, and they are made anew'
            )

    @abc.abstractmethod
    def watch(self, tx: SqlTransaction) -> None:
        """Make the triggers that notice edits by hand."""

    @abc.abstractmethod
    def unwatch(self, tx: SqlTransaction) -> None:
        """Remove them, of whatever version they are, so that the tables can be changed."""

    @abc.abstractmethod
    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything, now and for good."""

    @abc.abstractmethod
    def forget(self) -> None:
        """In a forked child: go on with nothing that the parent has open."""

    @abc.abstractmethod
    def connection(self) -> Connection:
        """A connection for the user's own statements, who closes it. Each commits by itself, unless the user says BEGIN."""

    # Expressions

    def is_sound(self, condition: Callable[[str, str], str], named: object) -> ColumnElement[bool]:
        """Whether a column, or a row of a table, given by name, meets a condition of ``sound``."""
        return literal_column(condition(str(named), self.info.name), Boolean)

    @abc.abstractmethod
    def identity(self) -> ColumnElement[str]:
        """The store's own identity (rule R8), to select: as it is in the transaction that runs the statement."""

    @abc.abstractmethod
    def position(self) -> ColumnElement[Any]:
        """The store's own position (``Snapshot.position``), to select: null where it has none."""

    @abc.abstractmethod
    def clock(self) -> ColumnElement[Any]:
        """The store's time, to select or to write: as it is in the transaction that runs the statement."""

    @abc.abstractmethod
    def elements(self, name: str, type_: TypeEngine[Any]) -> FromClause:
        """The elements of the parameter ``name`` as rows of one column, ``value``; give the parameter as ``listed``."""

    @abc.abstractmethod
    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """Whether ``column`` is an element of the parameter ``name``; give the parameter as ``listed``."""

    def within(self, column: ColumnElement[Any], elements: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether ``column`` is an element of what another column holds, as ``listed`` gives it. Where ``writes_in_with``."""
        raise NotImplementedError

    @abc.abstractmethod
    def listed(self, values: Iterable[Any]) -> Any:
        """Values as one parameter for ``elements`` or ``among``."""

    @abc.abstractmethod
    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """The rows in the parameter ``name``, which are mappings by column; give the parameter as ``listed_rows``."""

    @abc.abstractmethod
    def joined(self, texts: ColumnElement[Any]) -> ColumnElement[str]:
        """All texts of a group of rows, with commas between them."""

    @abc.abstractmethod
    def patched(self, text: ColumnElement[str], changes: ColumnElement[str]) -> ColumnElement[str]:
        """A JSON object of arrays with ``changes`` made: another, whose nulls are the names to remove."""

    @abc.abstractmethod
    def json_elements(self, texts: ColumnElement[Any]) -> tuple[FromClause, ColumnElement[str], ColumnElement[int]]:
        """The texts in a JSON array as rows to join, with each one's text, and its place from 1 on."""

    def listed_rows(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Rows as one parameter for ``rows``: JSON, which is written and read faster than so many values one by one."""
        return json.dumps(rows, default=moment_as_text, ensure_ascii=False)

    @abc.abstractmethod
    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT, which has ``on_conflict_do_update``, ``on_conflict_do_nothing`` and ``excluded``."""


def patiently(deadline: float, action: Callable[[], T]) -> T:
    """Do ``action``, again while it is ``Busy`` and the deadline (on ``time.monotonic``) is not reached."""
    while True:
        try:
            return action()
        except Busy:
            if time.monotonic() >= deadline:
                raise
        # A short random pause and no growth: whoever waits longest has had the most chances.
        time.sleep(random.uniform(0.001, 0.008))
