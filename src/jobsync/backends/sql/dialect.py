"""The expressions that each database writes differently, for the statements that the backends share."""

from __future__ import annotations

import abc
import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from jobsync.backend import safe_repr
from jobsync.backends.sql.schema import Tables
from jobsync.errors import UnsupportedOperation

__all__ = ['Dialect', 'joined_numbers', 'parameter']

T = TypeVar('T')

_PORTION = 8192
"""How many numbers are texts of their own at once."""


def parameter(values: str | sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the text parameter of this name, or the column itself."""
    return sa.bindparam(values, type_=sa.Text) if isinstance(values, str) else values


def joined_numbers(numbers: Iterable[int]) -> str:
    """Return numbers with commas between them. A million texts at once would take 60 MB."""
    rest = iter(numbers)
    return ','.join(iter(lambda: ','.join(map(str, islice(rest, _PORTION))), ''))


class Dialect(abc.ABC):
    """One database's way to write SQL for the tables of one namespace."""

    name: ClassVar[str]
    """As the conditions of ``sound`` and SQLAlchemy know the dialect."""

    is_upsert_slow: ClassVar[bool]
    """Whether an INSERT with ON CONFLICT takes much longer than a search first and an INSERT without."""

    writes_in_with: ClassVar[bool]
    """Whether a SELECT can have an INSERT in its WITH clause. Where it cannot, a second statement costs no round trip."""

    first_key: ClassVar[int]
    """The ``key`` of the first of ``elements``."""

    longest_id: ClassVar[int | None] = None
    """How many bytes of UTF-8 a task's id may have. None: as many as it likes."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._built: dict[object, Any] = {}

    def check_ids(self, ids: Iterable[str]) -> None:
        """Raise ``UnsupportedOperation`` for the id of a task that is too long."""
        most = self.longest_id
        if most is None:
            return
        for each in ids:
            if len(each) > most // 4 and (length := len(each.encode())) > most:
                raise UnsupportedOperation(
                    f'task id {safe_repr(each)} has {length} bytes, and {self.name} takes {most} at most: use a shorter '
                    'one, such as a digest of it'
                )

    def built(self, build: Callable[[Dialect], T]) -> T:
        """Return what ``build`` makes of this dialect. Made once: most statements take longer to build than to run."""
        if build not in self._built:
            self._built[build] = build(self)
        found: T = self._built[build]
        return found

    def is_sound(self, condition: Callable[[str, str], str], named: object) -> sa.ColumnElement[bool]:
        """Return whether a column, or a row of a table, given by name, meets a condition of ``sound``."""
        return sa.literal_column(condition(str(named), self.name), sa.Boolean)

    @abc.abstractmethod
    def insert(self, table: sa.Table) -> Any:
        """Return the dialect's own INSERT, which has ``on_conflict_do_update``, ``on_conflict_do_nothing`` and ``excluded``."""

    @abc.abstractmethod
    def identity(self) -> sa.ColumnElement[str]:
        """Return the store's own identity (rule R8), to select."""

    @abc.abstractmethod
    def position(self) -> sa.ColumnElement[Any]:
        """Return the store's own position (``Snapshot.position``), to select: null where it has none."""

    @abc.abstractmethod
    def clock(self) -> sa.ColumnElement[Any]:
        """Return the store's time, to select or to write."""

    @abc.abstractmethod
    def is_written_here(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Return whether a row is the one that the UPDATE before, of one row of ``table``, has written."""

    @abc.abstractmethod
    def moment(self, moment: dt.datetime) -> str:
        """Return a moment as text that the database reads as this moment, whatever timezone the session has."""

    def as_time(self, moments: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return a column of moments so that it compares as time does, in whatever form an operator has written them."""
        return moments

    @abc.abstractmethod
    def listed(self, values: Iterable[Any]) -> str:
        """Return numbers or texts as one value, for ``elements`` and ``among``. One value is sent faster than many."""

    @abc.abstractmethod
    def elements(self, values: str | sa.ColumnElement[str], type_: TypeEngine[Any]) -> sa.FromClause:
        """Return the elements of a ``listed`` value, a parameter or a column, as rows of ``value`` and ``key``, their number."""

    @abc.abstractmethod
    def among(self, column: sa.ColumnElement[Any], values: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return whether ``column`` is an element of a ``listed`` value: of a parameter, or of another column."""

    def listed_rows(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Return rows as one value for ``rows``: JSON, which is written and read faster than as many values one by one."""
        return json.dumps(rows, default=self.moment, ensure_ascii=False)

    @abc.abstractmethod
    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> sa.FromClause:
        """Return the rows in the parameter ``name``, which has a value of ``listed_rows``."""

    @abc.abstractmethod
    def joined(self, texts: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return the aggregate of all texts of a group, with commas between them."""

    @abc.abstractmethod
    def patched(self, text: sa.ColumnElement[str], changes: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        """Return a JSON object of arrays with ``changes`` made: another object, whose nulls are the names to remove."""
