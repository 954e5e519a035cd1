"""The records of nodes, read from their rows, which an operator may have spoilt (rule R9)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from jobsync.backend import Node, NodeState, Revision, Unreadable
from jobsync.backends._common.values import LAST, LONGEST_TIMEOUT_SEC, MOST_WEIGHT
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.sound import is_readable, is_text, text_bytes
from jobsync.backends.sql.state import SqlState, is_upto
from jobsync.backends.sql.types import Spoilt

__all__ = ['columns', 'read_nodes']

STATES = {state.value: state for state in NodeState}
"""The states by their texts: found in a fifth of the time that a call of the enum takes."""

NONE: frozenset[Any] = frozenset()


def columns(dialect: Dialect) -> list[sa.ColumnElement[Any]]:
    """Return what ``read_nodes`` needs in a row."""
    node = dialect.tables.node
    named = sa.literal_column(text_bytes(f'{node.name}.name || {node.name}.incarnation', dialect.name), sa.Integer)
    return [*node.c, dialect.is_sound(is_readable, node.name).label('is_readable'), named.label('text_bytes')]


def read_nodes(rows: Iterable[sa.Row[Any]], state: SqlState) -> tuple[tuple[Node, ...], tuple[Unreadable, ...]]:
    """Return the nodes in these rows, and a report for each row that cannot be read in full."""
    nodes: list[Node] = []
    reports: list[Unreadable] = []
    for row in rows:
        problems: list[str] = []
        if row.is_readable and is_text(row.name + row.incarnation, row.text_bytes):
            nodes.append(parse(row, state, problems))
        elif row.is_readable:
            problems.append('its name or incarnation is no UTF-8: left out, as if the node were not registered')
        else:
            problems.append('a list or a number in it is none: left out, as if the node were not registered')
        if problems:
            reports.append(Unreadable('node', str(row.name), '; '.join(problems)))
    if reports:
        nodes.sort(key=lambda node: (node.created_on, node.name))
    return tuple(nodes), tuple(reports)


def parse(row: sa.Row[Any], state: SqlState, problems: list[str]) -> Node:
    """Return a node's record, with a harmless value for each unreadable one, which is added to ``problems``."""

    def sound(field: str, is_sound: bool, harmless: Any) -> Any:
        value = getattr(row, field)
        if is_sound and not isinstance(value, Spoilt):
            return value
        found = value.value if isinstance(value, Spoilt) else value
        problems.append(f'{field} is {found!r}: read as {harmless}')
        return harmless

    has_timeout = is_upto(row.timeout_sec, LONGEST_TIMEOUT_SEC) and row.timeout_sec > 0
    return Node(
        name=row.name,
        incarnation=row.incarnation,
        heartbeat=row.heartbeat,
        seen=Revision(row.seen, row.seen_stamp),
        holding=listed(row.holding),
        state=STATES[row.state],
        replaces=listed(row.replaces),
        weight=sound('weight', is_upto(row.weight, MOST_WEIGHT), 1.0),
        timeout_sec=sound('timeout_sec', has_timeout, state.longest_timeout_sec),
        host=row.host,
        pid=row.pid,
        created_on=sound('created_on', True, LAST),  # the last candidate for leadership
        last_heartbeat=sound('last_heartbeat', True, None),
        candidate=row.candidate,
        settings=row.settings,
        stalled=row.stalled,
    )


def listed(text: str) -> frozenset[Any]:
    """Return the values of a list in JSON, which is empty in most records."""
    return NONE if text == '[]' else frozenset(json.loads(text))
