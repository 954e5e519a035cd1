"""What a SQL backend needs of its database besides SQL: what the two databases do differently.

A ``SqlStore`` runs *work*, a function of a ``SqlTransaction``, inside one database transaction. The three modes of a transaction
differ in what they lock, and in whether the triggers that watch for manual edits are active.
"""

from __future__ import annotations

import abc
import datetime as dt
import enum
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

import attrs
import sqlalchemy as sa

from jobsync._random import RANDOM
from jobsync.backend import BackendInfo, Reach
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.schema import Tables
from jobsync.errors import BackendUnavailable, SchemaMismatch

__all__ = ['Busy', 'Mode', 'OldRows', 'Portion', 'SqlStore', 'SqlTransaction', 'Statement', 'patiently']

T = TypeVar('T')
Statement = sa.Executable | Callable[[Dialect], sa.Executable]

MAX_REMOVALS = 5_000
"""How many removals a plan may have. They go to the database in a few values; a commit with twice as many takes a second."""


class Mode(enum.Enum):
    """What a transaction does."""

    READ = 'sees one state of the store throughout'
    WRITE = 'writes a heartbeat or history: the revision stays'
    STRUCTURE = 'changes nodes, tokens or locks: nothing else changes them meanwhile, and no trigger takes it for a manual edit'


class Busy(BackendUnavailable):
    """Another transaction stood in the way, nothing was written, and another attempt may succeed."""


@attrs.frozen
class SqlTransaction:
    """A connection inside a transaction.

    A statement is given as it is, or as the function that builds it from a ``Dialect``.
    """

    connection: sa.Connection
    dialect: Dialect

    @property
    def tables(self) -> Tables:
        """The tables of the namespace."""
        return self.dialect.tables

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        """Run one statement."""
        built = statement if isinstance(statement, sa.Executable) else self.dialect.built(statement)
        return self.connection.execute(built, parameters)

    def execute_text(self, statement: str) -> sa.CursorResult[Any]:
        """Run one statement in the dialect's own SQL. On PostgreSQL ``%%`` is a percent sign, as the driver takes it."""
        return self.connection.exec_driver_sql(statement)

    def execute_texts(self, statements: Iterable[str]) -> None:
        """Run statements in the dialect's own SQL that return nothing, in one message if the store can."""
        for statement in statements:
            self.execute_text(statement)

    def hold(self, *tables: sa.Table) -> None:
        """Keep tables as they are until the end, where the store must. To be called before the first of several readings."""

    def announce(self, number: int, concerned: Iterable[str] | None) -> None:
        """Name the nodes that the revision ``number`` concerns, which this transaction makes; None: all of them."""

    def enqueue(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement that returns nothing, if the store can in one message with the next one."""
        self.execute(statement, parameters)

    def conclude(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        """Run one statement, and commit with it if the store can: later statements are another transaction then."""
        return self.execute(statement, parameters)


@attrs.frozen
class OldRows:
    """What a portion of a purge is to contain."""

    table: sa.Table
    may_go: sa.ColumnElement[bool]
    """Whether a row of the table may be deleted once it is old."""
    before: dt.datetime
    limit: int
    after: str

    @property
    def made(self) -> sa.Column[dt.datetime]:
        """Return the column that says when a row was made."""
        return self.table.c['triggered_at' if 'triggered_at' in self.table.c else 'created_on']


@attrs.frozen
class Portion:
    """Some rows of a table."""

    rows: sa.ColumnElement[bool] | None
    """Whether a row is one of them. None: there is nothing to delete."""
    resume: str
    """See ``Purged.resume``."""


class SqlStore(abc.ABC):
    """A database and the tables of one namespace in it. Thread-safe."""

    namespaces_query: ClassVar[str]
    """Selects the prefixes of tables, sorted. Known by two of three tables, so that one which has lost one of them is listed."""

    def __init__(self, dialect: Dialect, reach: Reach, folder: str | None = None) -> None:
        self.info = BackendInfo(
            dialect.name,
            durable=True,
            push=True,
            reach=reach,
            max_tokens=1_000_000,
            max_removals=MAX_REMOVALS,
            sql=True,
            namespaces=True,
            folder=folder,
        )
        self.dialect = dialect
        self.tables = dialect.tables
        forget_in_child(self)

    def run(self, mode: Mode, timeout_sec: float, work: Callable[[SqlTransaction], T]) -> T:
        """Run ``work`` in a transaction, again while the database is busy and time is left.

        ``BackendUnavailable`` after ``timeout_sec``.
        """
        deadline = time.monotonic() + timeout_sec

        def once() -> T:
            with self.transaction(mode, deadline) as transaction:
                return work(transaction)

        return patiently(deadline, once)

    @abc.abstractmethod
    def transaction(self, mode: Mode, deadline: float) -> AbstractContextManager[SqlTransaction]:
        """Begin a transaction that commits at the end of the block; ``deadline`` is on ``time.monotonic``.

        The block raises a driver's errors translated; ``Busy`` only if nothing was written.
        """

    def reach(self, create: bool, timeout_sec: float) -> None:
        """Open the database, and create it if there is none and ``create``."""

    def lock_schema(self, tx: SqlTransaction) -> None:
        """Keep other processes from creating the tables until the end of the transaction."""

    @abc.abstractmethod
    def existing_tables(self, tx: SqlTransaction) -> set[str]:
        """Return the names of the namespace's tables that exist."""

    def namespaces(self, tx: SqlTransaction, limit: int) -> list[str]:
        """Return the names of the first namespaces in the database, sorted."""
        return [name for (name,) in tx.execute_text(f'{self.namespaces_query} LIMIT {limit}')]

    def has_schema(self, tx: SqlTransaction) -> bool:
        """Return whether any of the tables exists; ``SchemaMismatch`` if they are not from this jobsync."""
        found, state = self.existing_tables(tx), self.tables.state.name
        if found and state not in found:
            raise SchemaMismatch(
                f'{self!r} has {", ".join(sorted(found))} but no {state}: these tables are not from this version of jobsync; '
                f'bring {state} back from a backup if there was one; else stop all nodes, and choose another appname or drop them'
            )
        return bool(found)

    def check_complete(self, tx: SqlTransaction) -> None:
        """Raise ``SchemaMismatch`` unless all tables exist."""
        if missing := set(self.tables.names().values()) - self.existing_tables(tx):
            raise SchemaMismatch(
                f'{self!r} has lost {", ".join(sorted(missing))}: bring them back from a backup, or stop all nodes, drop the '
                'other tables of the namespace too, and start one, which makes them'
            )

    def check_rights(self, tx: SqlTransaction) -> None:
        """Raise ``ConfigError`` unless this user has all rights that a node may come to need, where the database has rights."""

    @abc.abstractmethod
    def watch(self, tx: SqlTransaction) -> None:
        """Create the triggers that notice manual edits."""

    @abc.abstractmethod
    def unwatch(self, tx: SqlTransaction) -> None:
        """Drop the triggers, of whatever version they are, so that the tables can be changed."""

    @abc.abstractmethod
    def portion(self, tx: SqlTransaction, old: OldRows) -> Portion:
        """Return the rows to delete next of a history, about ``old.limit`` or fewer, in whatever order is quick to read."""

    @abc.abstractmethod
    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything, now and for good."""

    @abc.abstractmethod
    def forget(self) -> None:
        """Abandon, in a forked child, everything that the parent has open."""

    @abc.abstractmethod
    def connection(self) -> sa.Connection:
        """Return a connection to the same database, for the caller to use and close. Each statement commits by itself.

        What a statement changes in the tables of nodes, tokens, locks or items counts as a manual edit. A transaction (begun with
        BEGIN) that is left open keeps the database from vacuuming or checkpointing; one that has written keeps every node from
        writing.
        """

    def check_no_writer_here(self) -> None:
        """Raise ``UnsupportedOperation`` if what the caller has written over a ``connection()`` keeps the backend from writing.

        That is so on SQLite, while the transaction is open.
        """


def patiently(deadline: float, action: Callable[[], T]) -> T:
    """Return what ``action`` returns, called again while it is ``Busy`` and before the deadline (on ``time.monotonic``)."""
    obstacle = ''
    while True:
        try:
            return action()
        except BaseException as error:
            # t=0  an exception from outside (KeyboardInterrupt, ``func_timeout``) ends a call before it has taken a statement's
            #      rows, or just before the block of its transaction begins
            # t=1  as long as the program has the exception, its traceback has the cursor, whose statement SQLite keeps open, or
            #      the whole transaction: nothing is written over this connection, or by no process
            traceback.clear_frames(error.__traceback__)
            if not isinstance(error, Busy):
                if obstacle and type(error) is BackendUnavailable:
                    # The last attempt has what time is left, which may be too little: that says nothing of what stood in the way.
                    raise BackendUnavailable(f'{error}; before that: {obstacle}') from error
                raise
            if time.monotonic() >= deadline:
                raise
            obstacle = str(error)
        # Short random pauses that do not grow: the thread that has waited longest has had the most chances.
        time.sleep(RANDOM.uniform(0.001, 0.008))
