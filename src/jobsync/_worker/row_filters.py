"""Conditions by which a database returns the rows of this node's tasks, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import compress
from typing import TYPE_CHECKING, Any

from jobsync._core.redact import safe_repr
from jobsync._runtime import clock
from jobsync._worker.session import Session
from jobsync.database import RowFilter, TokenColumn
from jobsync.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = ['where_clause', 'where_text']

_NAME = re.compile(r'(?P<table>(?:(?:\w+|"[^"]+")\.)*)(?:\w+|"[^"]+")')
"""A column's name, perhaps with that of its table."""


def where_text(session: Session, token_of: Callable[[str], int], column: str, token_column: str | None) -> RowFilter:
    """Return the condition as text, for columns by their names."""
    if token_column is None:
        name = _NAME.fullmatch(column)
        if name is None:
            raise ConfigError(f'column is {safe_repr(column)}: must be the name of a column, unless token_column is given')
        token_column = name['table'] + _usual_name(session)
    if not isinstance(token_column, str):
        raise ConfigError(f'token_column is {safe_repr(token_column)}: must be the name of a column, as column is')
    return _snapshot(session, token_of, column, token_column)


def where_clause(session: Session, token_of: Callable[[str], int], column: Any, token_column: Any) -> ColumnElement[bool]:
    """Return the condition as a clause of SQLAlchemy."""
    from jobsync.database.clause import clause, column_element

    element, name = column_element('column', column, 'or the name of one'), _usual_name(session)
    if token_column is not None:
        token_element = column_element('token_column', token_column, 'as column is')
    else:
        found = getattr(getattr(element, 'table', None), 'c', {}).get(name)
        if found is None:
            raise ConfigError(f'the table of {element} has no column {name}: add it, or give token_column')
        token_element = found
    return clause(_snapshot(session, token_of, str(element), str(token_element)), element, token_element)


def _usual_name(session: Session) -> str:
    return TokenColumn(session.config.hash_function, session.config.total_tokens).name


def _snapshot(session: Session, token_of: Callable[[str], int], column: str, token_column: str) -> RowFilter:
    lease = session.lease_here
    if lease is None:
        return RowFilter(column, token_column, tokens=() if session.config.enabled else None)
    deadline, pins, mine = lease.grant
    tokens = list(compress(range(len(mine)), mine))
    pinned = [(key, token_of(key), is_mine) for key, is_mine in (pins or {}).items()]
    here = {key: token for key, token, is_mine in pinned if is_mine and not mine[token]}
    elsewhere = tuple(key for key, token, is_mine in pinned if not is_mine and mine[token])
    lent = tuple(sorted({*here.values()}))
    # The clock is read last, as in Job.can_claim_task.
    if clock.now() >= deadline:
        return RowFilter(column, token_column, tokens=())
    return RowFilter(column, token_column, tuple(sorted([*tokens, *lent])), lent, tuple(here), elsewhere)
