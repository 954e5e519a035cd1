"""The rows of tokens: those that are owned, those that are not, and the log that tells which were written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Insert,
    String,
    Text,
    Update,
    bindparam,
    delete,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.types import TypeEngine

from jobsync.backend import Revision, TokenGroup
from jobsync.backends.sql.store import SqlStore, SqlTransaction

__all__ = ['NEW', 'take_owned', 'take_unowned', 'write_groups']

NEW = bindparam('new', type_=BigInteger)
"""The number of the revision that a commit makes."""

SHARED: Mapping[str, TypeEngine[Any]] = {'owner': String(), 'target': String(), 'home': String(), 'version': BigInteger()}
"""What a group gives to each of its rows."""


def write_groups(tx: SqlTransaction, groups: Iterable[TokenGroup], revision: Revision) -> None:
    """Write the rows of a plan's tokens, and log them in ``change``."""
    owned, loose, size = [], [], 0
    for group in groups:
        given = {
            'numbers': tx.store.listed(group.tokens),
            'new_owner': group.owner,
            'new_target': group.target,
            'new_home': group.home,
            'new_version': group.version,
            'new': revision.number,
        }
        if group.owner is None:
            loose.append(given)
        else:
            owned.append(given)
            size += len(group.tokens)
    # In most commits all tokens pass from owner to owner, and this is all there is to do.
    if owned and change_and_log(tx, owned, revision) < size:
        tx.execute(tx.store.built(add_owned), owned)
        tx.execute(tx.store.built(take_unowned), owned)
    if loose:
        tx.execute(tx.store.built(log_group), loose)
        tx.execute(tx.store.built(put_unowned), loose)
        tx.execute(tx.store.built(take_owned), loose)


def change_and_log(tx: SqlTransaction, groups: Sequence[Mapping[str, Any]], revision: Revision) -> int:
    """Change the rows that are there, log all groups, and return how many rows were there.

    One statement for all groups, or two for each, where the driver sends them at once.
    """
    if tx.store.writes_in_with:
        given = {'groups': tx.store.listed_rows(groups), 'new': revision.number}
        return tx.execute(tx.store.built(change_and_log_all), given).rowcount
    tx.execute(tx.store.built(log_group), groups)
    return tx.execute(tx.store.built(change_tokens), groups).rowcount


NUMBERS = bindparam('numbers', type_=Text)


def of_group() -> dict[str, ColumnElement[Any]]:
    """Return ``SHARED`` of the one group that is given."""
    return {name: bindparam(f'new_{name}', type_=type_) for name, type_ in SHARED.items()}


def columns(shared: Mapping[str, ColumnElement[Any]], *left_out: str) -> dict[str, ColumnElement[Any]]:
    """Return what a row of ``token`` or ``unowned`` gets, by column."""
    values = {'node': shared['owner'], **shared, 'changed': NEW}
    return {name: value for name, value in values.items() if name not in ('owner', *left_out)}


def change_tokens(store: SqlStore) -> Update:
    """Write the rows of the one group that is given, if they are there."""
    token = store.tables.token
    return update(token).values(columns(of_group())).where(store.among(token.c.token_id, 'numbers'))


def log_group(store: SqlStore) -> Insert:
    """Insert the one group that is given into ``change``."""
    return insert(store.tables.change).values(revision=NEW, **of_group(), numbers=NUMBERS)


def change_and_log_all(store: SqlStore) -> Update:
    """Write the rows of all groups, if they are there, and insert the groups into ``change``."""
    token, change = store.tables.token, store.tables.change
    given: dict[str, TypeEngine[Any]] = {'numbers': Text(), **{f'new_{name}': type_ for name, type_ in SHARED.items()}}
    group = select(*store.rows('groups', given).c).cte('given')
    shared = {name: group.c[f'new_{name}'] for name in SHARED}
    logged = insert(change).from_select(['revision', *SHARED, 'numbers'], select(NEW, *shared.values(), group.c.numbers))
    written = update(token).values(columns(shared)).where(store.within(token.c.token_id, group.c.numbers))
    return written.add_cte(logged.cte('logged'))


def add_owned(store: SqlStore) -> Executable:
    """Insert the rows that are absent."""
    token, numbers, values = store.tables.token, store.elements('numbers', BigInteger()), columns(of_group())
    rows = select(numbers.c.value, *values.values()).where(true())
    add = store.insert(token).from_select(['token_id', *values], rows)
    executable: Executable = add.on_conflict_do_nothing(index_elements=[token.c.token_id])
    return executable


def put_unowned(store: SqlStore) -> Executable:
    """Insert tokens that are nobody's, or change what is there."""
    unowned, numbers = store.tables.unowned, store.elements('numbers', BigInteger())
    values = columns(of_group(), 'node', 'changed')
    rows = select(numbers.c.value, *values.values()).where(true())
    put = store.insert(unowned).from_select(['token_id', *values], rows)
    new = {name: put.excluded[name] for name in values}
    executable: Executable = put.on_conflict_do_update(index_elements=[unowned.c.token_id], set_=new)
    return executable


def take_owned(store: SqlStore) -> Executable:
    """Delete rows from ``token``."""
    return delete(store.tables.token).where(store.among(store.tables.token.c.token_id, 'numbers'))


def take_unowned(store: SqlStore) -> Executable:
    """Delete rows from ``unowned``."""
    return delete(store.tables.unowned).where(store.among(store.tables.unowned.c.token_id, 'numbers'))
