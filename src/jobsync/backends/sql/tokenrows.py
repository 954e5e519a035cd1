"""The rows of tokens: those that are owned, those that are not, and the log that tells which were written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Insert,
    String,
    Text,
    Update,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    true,
    update,
)

from jobsync.backends.sql.store import Store, Transaction
from jobsync.core.model import Revision
from jobsync.core.tokens import TokenGroup

__all__ = ['NEW', 'take_owned', 'take_unowned', 'write_groups']

NEW = bindparam('new', type_=BigInteger)
"""The number of the revision that a commit makes."""


def write_groups(tx: Transaction, groups: Iterable[TokenGroup], revision: Revision) -> bool:
    """Write tokens; whether ``change`` tells all that was written, as it does where they pass from owner to owner.

    One statement for all groups, or one for each, all sent at once, where the driver can; and others if rows were absent.
    """
    owned, loose, size = [], [], 0
    for group in groups:
        given = {
            'numbers': tx.store.listed(group.tokens),
            'new_target': group.target,
            'new_home': group.home,
            'new': revision.number,
        }
        if group.owner is None:
            loose.append(given)
        else:
            owned.append(given | {'new_owner': group.owner})
            size += len(group.tokens)
    all_told = not loose
    if owned and put_owned(tx, owned, revision) < size:
        all_told = False
        tx.execute(tx.store.built(add_owned), owned)
        tx.execute(tx.store.built(take_unowned), owned)
    if loose:
        tx.execute(tx.store.built(put_unowned), loose)
        tx.execute(tx.store.built(take_owned), loose)
    return all_told


def put_owned(tx: Transaction, groups: Sequence[Mapping[str, Any]], revision: Revision) -> int:
    """Change the rows that are there, and tell it in ``change``; how many they were."""
    if tx.store.writes_in_with:
        given = {'groups': tx.store.listed_rows(groups), 'new': revision.number}
        return int(tx.execute(tx.store.built(change_and_tell), given).scalar_one())
    changed = tx.execute(tx.store.built(change_tokens), groups).rowcount
    tx.execute(tx.store.built(tell), groups)
    return changed


SHARED = ('target', 'home')
"""What a group gives to each of its rows, besides the owner."""


def of_group(store: Store) -> dict[str, ColumnElement[Any]]:
    """``SHARED`` of the one group that is given."""
    columns = store.tables.token.c
    return {name: bindparam(f'new_{name}', type_=columns[name].type) for name in SHARED}


OWNER = bindparam('new_owner', type_=String)


def change_tokens(store: Store) -> Update:
    """Write the rows of the one group that is given, if they are there."""
    return changing(store, OWNER, of_group(store)).where(store.among(store.tables.token.c.token_id, 'numbers'))


def changing(store: Store, owner: ColumnElement[Any], shared: Mapping[str, ColumnElement[Any]]) -> Update:
    """Give rows to an owner; the version follows the owner."""
    token = store.tables.token
    kept = case((token.c.node == owner, token.c.version), else_=NEW)
    return update(token).values(node=owner, version=kept, changed=NEW, **shared)


def telling(
    store: Store,
    written: FromClause,
    owner: ColumnElement[Any],
    shared: Mapping[str, ColumnElement[Any]],
    *keys: ColumnElement[Any],
) -> Insert:
    """Insert into ``change`` what was written, gathered by version and ``keys``."""
    change, numbers = store.tables.change, store.joined(cast(written.c.token_id, Text))
    rows = select(NEW, owner, *shared.values(), written.c.version, func.count(), numbers).select_from(written)
    columns = ['revision', 'owner', *shared, 'version', 'size', 'numbers']
    return insert(change).from_select(columns, rows.group_by(written.c.version, *keys))


def tell(store: Store) -> Executable:
    """Tell of the rows of the one group that is given, which have just been written."""
    token = store.tables.token
    written = select(token).where(store.among(token.c.token_id, 'numbers')).subquery()
    return telling(store, written, OWNER, of_group(store))


def change_and_tell(store: Store) -> Executable:
    """Both for all groups, in one statement, which gives the number of rows."""
    token, change = store.tables.token, store.tables.change
    group = store.rows('groups', {'numbers': Text(), **{f'new_{name}': String() for name in ('owner', *SHARED)}})
    change_each = changing(store, group.c.new_owner, {name: group.c[f'new_{name}'] for name in SHARED})
    change_each = change_each.where(store.within(token.c.token_id, group.c.numbers))
    written = change_each.returning(token.c.token_id, token.c.version, token.c.node, *(token.c[name] for name in SHARED)).cte(
        'written'
    )
    keys = {name: written.c[name] for name in SHARED}
    told = telling(store, written, written.c.node, keys, written.c.node, *keys.values()).returning(change.c.size).cte('told')
    return select(func.coalesce(func.sum(told.c.size), 0))


def add_owned(store: Store) -> Executable:
    """Insert the rows that are absent."""
    token, numbers, shared = store.tables.token, store.elements('numbers', BigInteger()), of_group(store)
    rows = select(numbers.c.value, OWNER, NEW, NEW, *shared.values()).where(true())
    add = store.insert(token).from_select(['token_id', 'node', 'version', 'changed', *shared], rows)
    executable: Executable = add.on_conflict_do_nothing(index_elements=[token.c.token_id])
    return executable


def put_unowned(store: Store) -> Executable:
    """Insert tokens that are nobody's, or change what is there, the version apart."""
    unowned, numbers, shared = store.tables.unowned, store.elements('numbers', BigInteger()), of_group(store)
    rows = select(numbers.c.value, NEW, *shared.values()).where(true())
    put = store.insert(unowned).from_select(['token_id', 'version', *shared], rows)
    values = {name: put.excluded[name] for name in shared}
    executable: Executable = put.on_conflict_do_update(index_elements=[unowned.c.token_id], set_=values)
    return executable


def take_owned(store: Store) -> Executable:
    """Delete rows from ``token``."""
    return delete(store.tables.token).where(store.among(store.tables.token.c.token_id, 'numbers'))


def take_unowned(store: Store) -> Executable:
    """Delete rows from ``unowned``."""
    return delete(store.tables.unowned).where(store.among(store.tables.unowned.c.token_id, 'numbers'))
