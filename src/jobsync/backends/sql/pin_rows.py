"""The rows of pins, which are in the tables of the tokens: numbered beyond them, and with a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Select,
    String,
    Table,
    Update,
    bindparam,
    cast,
    null,
    select,
    true,
    union_all,
    update,
)

from jobsync.backend import Pin, Revision
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.backends.sql.token_rows import NEW, take_owned, take_unowned

__all__ = ['read_pins', 'remove_pins', 'write_pins']

PIN = ('token_id', 'task_id', 'node', 'target', 'version', 'pattern', 'home')
"""The columns of a pin's row, in the order of the fields of ``Pin``."""


def all_pins(store: SqlStore) -> Executable:
    """Every pin, by id."""
    token, unowned = store.tables.token, store.tables.unowned
    tokens = bindparam('tokens', type_=BigInteger)

    def pins(table: Table) -> Select[Any]:
        fields = [table.c[name] if name in table.c else cast(null(), String).label(name) for name in PIN]
        return select(*fields).where(table.c.task_id.is_not(None), table.c.token_id > tokens)

    return union_all(pins(token), pins(unowned)).order_by('token_id')


def read_pins(tx: SqlTransaction, state: SqlState) -> tuple[Pin, ...]:
    """All pins, by id."""
    rows = tx.conclude(tx.store.built(all_pins), {'tokens': state.settings.total_tokens})
    return tuple(starmap(Pin, rows))


def remove_pins(tx: SqlTransaction, ids: Iterable[int]) -> None:
    """Delete pins by id."""
    if ids := frozenset(ids):
        numbers = {'numbers': tx.store.listed(ids)}
        tx.execute(tx.store.built(take_owned), numbers)
        tx.execute(tx.store.built(take_unowned), numbers)


def write_pins(tx: SqlTransaction, pins: Sequence[Pin], state: SqlState, revision: Revision) -> None:
    """Write pins, and show in each one's lock the pattern by which it was placed."""
    for owned, put, take in ((True, put_pins, take_unowned), (False, put_unowned_pins, take_owned)):
        some = [pin for pin in pins if (pin.owner is not None) == owned]
        if some:
            given = tx.store.listed_rows([dict(zip(PIN, attrs.astuple(pin), strict=True)) for pin in some])
            tx.execute(tx.store.built(put), {'pins': given, 'new': revision.number})
            tx.execute(tx.store.built(take), {'numbers': tx.store.listed([pin.id for pin in some])})
            tx.execute(tx.store.built(show_patterns), {'pins': given, 'tokens': state.settings.total_tokens})


def pin_rows(store: SqlStore) -> FromClause:
    """The pins of a plan."""
    return store.rows('pins', {name: store.tables.token.c[name].type for name in PIN})


def put_pins(store: SqlStore) -> Executable:
    """Insert the rows of pins, or change what is there."""
    return putting(store, store.tables.token, {**pin_rows(store).c, 'changed': NEW})


def put_unowned_pins(store: SqlStore) -> Executable:
    """Insert the rows of pins that are nobody's, or change what is there."""
    return putting(store, store.tables.unowned, {name: column for name, column in pin_rows(store).c.items() if name != 'node'})


def putting(store: SqlStore, table: Table, values: Mapping[str, ColumnElement[Any]]) -> Executable:
    """Insert rows with these values, by column, or change those with the same ``token_id``."""
    put = store.insert(table).from_select(list(values), select(*values.values()).where(true()))
    new = {name: put.excluded[name] for name in values if name != 'token_id'}
    executable: Executable = put.on_conflict_do_update(index_elements=[table.c.token_id], set_=new)
    return executable


def show_patterns(store: SqlStore) -> Update:
    """Let each lock show the pattern its pin was placed by, if it shows another."""
    lock, row = store.tables.lock, pin_rows(store)
    is_its = lock.c.id == row.c.token_id - bindparam('tokens', type_=BigInteger)
    return update(lock).where(is_its, lock.c.node_pattern != row.c.pattern).values(node_pattern=row.c.pattern)
