"""The rights that a role needs on the tables, and those that it lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from jobsync.backends.sql.schema import Tables

__all__ = ['grants', 'lacking', 'needed', 'needed_at_once']

RIGHTS = {
    'SELECT, INSERT, UPDATE, DELETE': ('node', 'token', 'unowned', 'lock', 'item', 'claim'),
    'SELECT, INSERT, DELETE': ('change', 'rebalance', 'audit'),
    'SELECT, UPDATE': ('state',),
}
"""The rights that a node's role needs, and the tables on which it needs them. To read a cluster, SELECT is enough."""

LACKING = """
    SELECT quote_ident(current_user), relation, need
    FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS needed(relation, need, place)
    WHERE NOT has_table_privilege(to_regclass(relation), need) ORDER BY place
"""


def needed(tables: Tables) -> list[tuple[str, str]]:
    """Return each table's name with each right that a node's role needs on it."""
    fields = [(field, rights.split(', ')) for rights, fields in RIGHTS.items() for field in fields]
    return [(getattr(tables, field).name, right) for field, rights in fields for right in rights]


def needed_at_once(tables: Tables) -> list[tuple[str, str]]:
    """Return what ``needed`` returns, without the rights that only a purge of the history needs."""
    history = {tables.claim.name, tables.audit.name, tables.rebalance.name}
    return [(table, right) for table, right in needed(tables) if right != 'DELETE' or table not in history]


def lacking(connection: psycopg.Connection[Any], pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the first table of which the connection's role lacks a right, and the statements that give it what it lacks.

    Both are '' if it lacks none of ``pairs`` on tables that it finds.
    """
    found = connection.execute(LACKING, [*map(list, zip(*pairs, strict=True))]).fetchall()
    return (found[0][1], grants([(table, right) for _, table, right in found], found[0][0])) if found else ('', '')


def grants(pairs: Iterable[tuple[str, str]], role: str) -> str:
    """Return the statements that give a role these rights on tables: first the right to read, which is enough to look."""
    rights: defaultdict[str, list[str]] = defaultdict(list)
    for table, right in pairs:
        rights[table].append(right)
    tables: defaultdict[str, list[str]] = defaultdict(list)
    for table, its in rights.items():
        if 'SELECT' in its:
            tables['SELECT'].append(table)
    for table, its in rights.items():
        if others := [right for right in its if right != 'SELECT']:
            tables[', '.join(others)].append(table)
    return '; '.join(f'GRANT {rights} ON {", ".join(names)} TO {role}' for rights, names in tables.items())
