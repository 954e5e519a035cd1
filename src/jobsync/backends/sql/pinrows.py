"""The rows of pins, which are in the tables of the tokens: numbered beyond them, and with a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    BigInteger,
    Executable,
    FromClause,
    String,
    Update,
    bindparam,
    case,
    cast,
    null,
    select,
    true,
    union_all,
    update,
)

from jobsync.backends.sql.state import State
from jobsync.backends.sql.store import Store, Transaction
from jobsync.backends.sql.tokenrows import NEW, take_owned, take_unowned
from jobsync.core.model import Pin, Revision

__all__ = ['read_pins', 'remove_pins', 'write_pins']

PIN = ('token_id', 'node', 'target', 'task_id', 'pattern')
"""The columns of a pin's row that a plan gives."""


def all_pins(store: Store) -> Executable:
    """Every pin, by id."""
    token, unowned = store.tables.token, store.tables.unowned
    tokens = bindparam('tokens', type_=BigInteger)
    return union_all(
        *(
            select(
                table.c.token_id, table.c.task_id, owner.label('owner'), table.c.target, table.c.version, table.c.pattern
            ).where(table.c.task_id.is_not(None), table.c.token_id > tokens)
            for table, owner in ((token, token.c.node), (unowned, cast(null(), String)))
        )
    ).order_by('token_id')


def read_pins(tx: Transaction, state: State) -> tuple[Pin, ...]:
    """All pins, by id."""
    rows = tx.conclude(tx.store.built(all_pins), {'tokens': state.settings.total_tokens})
    return tuple(Pin(row.token_id, row.task_id, row.owner, row.target, row.version, row.pattern) for row in rows)


def remove_pins(tx: Transaction, ids: Iterable[int]) -> None:
    """Delete pins by id."""
    if ids := frozenset(ids):
        numbers = {'numbers': tx.store.listed(ids)}
        tx.execute(tx.store.built(take_owned), numbers)
        tx.execute(tx.store.built(take_unowned), numbers)


def write_pins(tx: Transaction, pins: Sequence[Pin], state: State, revision: Revision) -> None:
    """Write pins, and show in each one's lock the pattern by which it was placed."""
    for owned, put, take in ((True, put_pins, take_unowned), (False, put_unowned_pins, take_owned)):
        some = [pin for pin in pins if (pin.owner is not None) == owned]
        if some:
            rows = [dict(zip(PIN, (pin.id, pin.owner, pin.target, pin.task_id, pin.pattern), strict=True)) for pin in some]
            given = tx.store.listed_rows(rows)
            tx.execute(tx.store.built(put), {'pins': given, 'new': revision.number})
            tx.execute(tx.store.built(take), {'numbers': tx.store.listed([pin.id for pin in some])})
            tx.execute(tx.store.built(show_patterns), {'pins': given, 'tokens': state.settings.total_tokens})


def pin_rows(store: Store) -> FromClause:
    """The pins of a plan."""
    return store.rows('pins', {name: store.tables.token.c[name].type for name in PIN})


def put_pins(store: Store) -> Executable:
    """Insert the rows of pins, or change what is there; the version follows the owner."""
    token, row = store.tables.token, pin_rows(store)
    put = store.insert(token).from_select([*PIN, 'version', 'changed'], select(*row.c, NEW, NEW).where(true()))
    new = put.excluded
    kept = case((token.c.node == new.node, token.c.version), else_=new.version)
    columns = {name: new[name] for name in (*PIN[1:], 'changed')}
    executable: Executable = put.on_conflict_do_update(index_elements=[token.c.token_id], set_={**columns, 'version': kept})
    return executable


def put_unowned_pins(store: Store) -> Executable:
    """The same of pins that are nobody's."""
    unowned, row = store.tables.unowned, pin_rows(store)
    names = [name for name in PIN if name != 'node']
    put = store.insert(unowned).from_select([*names, 'version'], select(*(row.c[name] for name in names), NEW).where(true()))
    columns = {name: put.excluded[name] for name in names[1:]}
    executable: Executable = put.on_conflict_do_update(index_elements=[unowned.c.token_id], set_=columns)
    return executable


def show_patterns(store: Store) -> Update:
    """Let each lock show the pattern its pin was placed by, if it shows another."""
    lock, row = store.tables.lock, pin_rows(store)
    is_its = lock.c.id == row.c.token_id - bindparam('tokens', type_=BigInteger)
    return update(lock).where(is_its, lock.c.node_pattern != row.c.pattern).values(node_pattern=row.c.pattern)
