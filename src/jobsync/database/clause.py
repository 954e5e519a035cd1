"""The condition that a row's task is this node's, as a clause of SQLAlchemy."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from sqlalchemy import BindParameter, ColumnElement, Integer, Text, Uuid, and_, bindparam, cast, false, or_, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import Boolean, TypeDecorator, TypeEngine

from jobsync._core.redact import safe_repr
from jobsync.database.row_filter import RowFilter
from jobsync.errors import ConfigError

__all__ = ['clause', 'column_element']


def clause(condition: RowFilter, column: ColumnElement[Any], token_column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition for these columns, in place of those that it names. Compiles for PostgreSQL and SQLite."""
    if condition.tokens is None:
        return true()
    if not condition.tokens:
        return false()
    key, tokens, keys = _Exactly(cast(column, Text)), _Several(Integer()), _Keys(isinstance(column.type, Uuid))
    parts: list[ColumnElement[bool]] = [_Among(token_column, _parameter(condition.tokens, tokens))]
    if condition.pinned_here:
        is_own = _NotAmong(token_column, _parameter(condition.lent_tokens, tokens))
        parts.append(or_(is_own, _Among(key, _parameter(condition.pinned_here, keys))))
    if condition.pinned_elsewhere:
        parts.append(_NotAmong(key, _parameter(condition.pinned_elsewhere, keys)))
    return and_(*parts)


def column_element(name: str, given: Any, alternative: str) -> ColumnElement[Any]:
    """Return the column or expression that an argument is or, as an attribute of a mapped class, stands for."""
    while not isinstance(given, ColumnElement) and hasattr(given, '__clause_element__'):
        given = given.__clause_element__()
    if not isinstance(given, ColumnElement):
        raise ConfigError(f'{name} is {safe_repr(given)}: must be a column of SQLAlchemy, {alternative}')
    return given


class _Several(TypeDecorator[Sequence[Any]]):
    """Values of one type as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return ARRAY(self.of) if dialect.name == 'postgresql' else Text()

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        several = list(value or ())
        return several if dialect.name == 'postgresql' else json.dumps(several)


class _Keys(_Several):
    """Keys of tasks, as the text of a column's values."""

    cache_ok = True

    def __init__(self, are_uuids: bool) -> None:
        super().__init__(Text())
        self.are_uuids = are_uuids

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        if self.are_uuids and not dialect.supports_native_uuid:  # SQLAlchemy stores them without hyphens there
            value = [uuid.UUID(key).hex for key in value or () if _is_uuid(key)]
        return super().process_bind_param(value, dialect)


def _is_uuid(key: str) -> bool:
    try:
        return str(uuid.UUID(key)) == key
    except ValueError:
        return False


class _Among(FunctionElement[bool]):
    """Whether a value is among those of one parameter."""

    type = Boolean()
    inherit_cache = True
    stringify_dialect = 'sqlite'  # for ``str(statement)``, which knows no dialect
    forms: ClassVar[Mapping[str, str]] = {
        'postgresql': '({} = ANY ({}))',
        'sqlite': '({} IN (SELECT value FROM json_each({})))',
    }
    """How each dialect writes it, of value and parameter."""

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002 - as in the base class
        """Return this element. As a boolean it would become ``(…) = 1`` on SQLite, for which no index is used."""
        return self


class _NotAmong(_Among):
    """Whether a value is not among those of one parameter."""

    inherit_cache = True
    forms: ClassVar[Mapping[str, str]] = {
        'postgresql': '({} <> ALL ({}))',
        'sqlite': '({} NOT IN (SELECT value FROM json_each({})))',
    }


class _Exactly(FunctionElement[str]):
    """A text that equals only itself, whatever the collation of its column."""

    type = Text()
    inherit_cache = True
    forms: ClassVar[Mapping[str, str]] = {'postgresql': '{} COLLATE "C"', 'sqlite': '{} COLLATE BINARY'}


def _parameter(several: Sequence[Any], type_: _Several) -> BindParameter[Any]:
    return bindparam(None, several, type_=type_, unique=True)


@compiles(_Among, 'postgresql')
@compiles(_Among, 'sqlite')
@compiles(_Exactly, 'postgresql')
@compiles(_Exactly, 'sqlite')
def _rendered(element: _Among | _Exactly, compiler: SQLCompiler, **options: Any) -> str:
    return element.forms[compiler.dialect.name].format(*(compiler.process(part, **options) for part in element.clauses))
