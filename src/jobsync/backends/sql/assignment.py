"""Tokens and pins: reading them, and the leader's commit."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Insert,
    Row,
    Select,
    String,
    Table,
    Text,
    Update,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    union_all,
    update,
)

from jobsync.backends.sql import state as states
from jobsync.backends.sql.nodes import evicted, is_joined, run_of
from jobsync.backends.sql.state import State
from jobsync.backends.sql.store import Store, Transaction
from jobsync.core.model import Guard, Leadership, Member, NodeRef, NodeState, Pin, Revision
from jobsync.core.tokens import Changes, Plan, TokenGroup
from jobsync.errors import Conflict, Fenced

__all__ = ['commit', 'read']

REMEMBERED = 64
"""Versions a difference can build on, at least. A node reads every version or is far behind; then a complete reading is as cheap.
Twice as many are kept before the older half goes, so that few commits have any to delete."""


def state_query(store: Store) -> Select[Any]:
    """The state, and what a difference can build on."""
    return select(*states.columns(store), store.tables.state.c.builds_on)


def everybody(store: Store) -> Select[Any]:
    """All members."""
    return select(store.tables.state.c.members)


def read(tx: Transaction, since: Revision | None) -> Changes:
    """See ``Backend.read_assignment``."""
    row = tx.execute(tx.store.built(state_query)).one_or_none()
    state = states.parse(row)
    assert row is not None
    if since != state.version and since not in states.load_revisions(row.builds_on):
        since = None
    members: Mapping[str, Member | None] = {}
    groups: tuple[TokenGroup, ...] = ()
    if since is None:
        members = states.load_members(tx.execute(tx.store.built(everybody)).scalar_one())
        groups = read_groups(tx, state)
    elif since != state.version:
        members, groups = read_changes(tx, since)
    return Changes(
        version=state.version,
        base=since,
        members=members,
        groups=groups,
        pins=read_pins(tx, state),
    )


NAMELESS = literal_column("''", String)
"""No parameter: the same expression must be recognised in GROUP BY."""


def everyone(store: Store) -> Executable:
    """All tokens, gathered by the database: a million rows come as a few thousand."""

    def gathered(table: Table, owner: ColumnElement[Any]) -> Select[Any]:
        home = func.nullif(table.c.home, NAMELESS)
        numbers = store.joined(cast(table.c.token_id, Text))
        query = select(owner.label('owner'), table.c.target, home.label('home'), table.c.version, numbers.label('numbers'))
        within = table.c.token_id.between(0, bindparam('last', type_=BigInteger))
        return query.where(table.c.task_id.is_(None), within).group_by(table.c.target, home, table.c.version)

    token, unowned = store.tables.token, store.tables.unowned
    return union_all(gathered(token, token.c.node).group_by(token.c.node), gathered(unowned, cast(null(), String)))


def read_groups(tx: Transaction, state: State) -> tuple[TokenGroup, ...]:
    """All tokens."""
    rows = tx.execute(tx.store.built(everyone), {'last': state.settings.total_tokens - 1})
    return tuple(TokenGroup(array('i', sorted(numbers(row))), row.owner, row.target, row.home, row.version) for row in rows)


def numbers(row: Row[Any]) -> list[int]:
    """The tokens of a group as the database has them."""
    found: list[int] = json.loads(f'[{row.numbers}]')
    return found


def later(store: Store) -> Select[Any]:
    """What was written after a version, the latest first."""
    change = store.tables.change
    return select(change).where(change.c.revision > bindparam('since', type_=BigInteger)).order_by(change.c.revision.desc())


def read_changes(tx: Transaction, since: Revision) -> tuple[Mapping[str, Member | None], tuple[TokenGroup, ...]]:
    """The members and tokens that were written after ``since``. Of one that was written several times the latest counts."""
    members: dict[str, Member | None] = {}
    groups: list[TokenGroup] = []
    newest: int | None = None
    told: set[int] = set()
    for row in tx.execute(tx.store.built(later), {'since': since.number}):
        if row.members is not None:
            members = {**states.load_members(row.members), **members}
            continue
        if newest is not None and row.revision != newest:
            told.update(*(group.tokens for group in groups))
        tokens = sorted(numbers(row)) if not told else sorted(set(numbers(row)) - told)
        groups.append(TokenGroup(array('i', tokens), row.owner, row.target, row.home, row.version))
        newest = row.revision
    return members, tuple(groups)


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


def commit(tx: Transaction, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
    """See ``Backend.commit``."""
    row = tx.execute(tx.store.built(guarded), run_of(ref)).one_or_none()
    state = states.parse(row)
    assert row is not None
    check_guard(state, ref, guard, is_there=row.joined is not None)
    remove_nodes(tx, plan)
    revision = states.raised(state)
    before = states.load_revisions(row.builds_on)
    if write_groups(tx, [group for group in plan.groups if group.tokens], revision):
        builds_on = [*before, revision]
    else:
        builds_on = [revision]
    if len(builds_on) > 2 * REMEMBERED:
        builds_on = builds_on[-REMEMBERED:]
    if builds_on[:1] != before[:1]:
        tx.execute(tx.store.built(forget), {'oldest': builds_on[0].number})
    remove_pins(tx, plan.unpinned)
    write_pins(tx, plan.pins, state, revision)
    # Last, for the leader's own heartbeats wait for it, and what comes before may take seconds.
    conclude(tx, ref, plan, state, revision, builds_on)
    return revision


def guarded(store: Store) -> Select[Any]:
    """The state, and whether the leader is registered: nobody can change either before the transaction's end."""
    state, node = store.tables.state, store.tables.node
    query = select(*states.columns(store), state.c.builds_on, node.c.name.label('joined'))
    return query.select_from(state.outerjoin(node, is_joined(node)))


def forget(store: Store) -> Executable:
    """Delete the changes that no difference needs any more."""
    change = store.tables.change
    return delete(change).where(change.c.revision <= bindparam('oldest', type_=BigInteger))


def check_guard(state: State, ref: NodeRef, guard: Guard, *, is_there: bool) -> None:
    """Refuse a commit that may not be made."""
    if not is_there:
        raise evicted(ref)
    if state.leadership != Leadership(guard.epoch, ref):
        raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {state.leadership}')
    if state.timeline != guard.timeline or state.timeline.store != state.store:
        raise Conflict(f'planned in {guard.timeline}, but this is {state.timeline} on store {state.store}')
    if state.revision != guard.revision:
        raise Conflict(f'planned from {guard.revision}, but the namespace is at {state.revision}')


def remove_nodes(tx: Transaction, plan: Plan) -> None:
    """Remove the evicted and the departed; ``Conflict`` if one of them is not as the plan saw it."""
    node = tx.tables.node

    def remove(ref: NodeRef, condition: ColumnElement[bool], what: str) -> None:
        gone = delete(node).where(node.c.name == ref.name, node.c.incarnation == ref.incarnation, condition)
        if tx.execute(gone).rowcount == 0:
            raise Conflict(f'node {ref.name!r} is not as it was when it {what}')

    for eviction in plan.evictions:
        remove(eviction.ref, node.c.heartbeat == eviction.heartbeat, 'was taken for dead')
    for departed in plan.departed:
        remove(departed, node.c.state == NodeState.LEFT.value, 'left')


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


NEW = bindparam('new', type_=BigInteger)
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


def conclude(tx: Transaction, ref: NodeRef, plan: Plan, state: State, revision: Revision, builds_on: Sequence[Revision]) -> None:
    """Record the rebalance, count the leader's own write, and make the revision the namespace's and the assignment's."""
    given = {
        'triggered_at': state.now,
        'trigger_reason': plan.reason,
        'leader_node': ref.name,
        'nodes_before': plan.nodes_before,
        'nodes_after': plan.nodes_after,
        'tokens_moved': plan.moved,
        'duration_ms': plan.duration_ms,
        'new_number': revision.number,
        'new_stamp': revision.stamp,
        'new_members': states.dump_members(plan.members),
        'new_builds_on': states.dump_revisions(builds_on),
        **run_of(ref),
    }
    if tx.store.writes_in_with:
        tx.conclude(tx.store.built(all_at_once), given)
        return
    for step in (record, raise_heartbeat, tell_members, save_version):
        tx.execute(tx.store.built(step), given)


def all_at_once(store: Store) -> Update:
    """All of it in one statement."""
    beside = {'recorded': record, 'raised': raise_heartbeat, 'told': tell_members}
    return save_version(store).add_cte(*(build(store).cte(name) for name, build in beside.items()))


def record(store: Store) -> Insert:
    """Append a rebalance, if anything was moved."""
    rebalance = store.tables.rebalance
    columns = [column for column in rebalance.c if column is not rebalance.c.id]
    row = select(*(bindparam(column.name, type_=column.type) for column in columns))
    return insert(rebalance).from_select(columns, row.where(bindparam('tokens_moved', type_=BigInteger) > 0))


def raise_heartbeat(store: Store) -> Update:
    """Count the leader's own write."""
    node = store.tables.node
    return update(node).where(is_joined(node)).values(heartbeat=node.c.heartbeat + 1)


NEW_NUMBER = bindparam('new_number', type_=BigInteger)
NEW_MEMBERS = bindparam('new_members', type_=Text)
NO_MEMBERS = literal_column(f"'{states.dump_members({})}'", Text)


def tell_members(store: Store) -> Insert:
    """Insert into ``change`` which members were written, if any were."""
    given: dict[str, ColumnElement[Any]] = {'revision': NEW_NUMBER, 'version': NEW_NUMBER, 'members': NEW_MEMBERS}
    given |= {'size': literal_column('0'), 'numbers': NAMELESS}
    row = select(*given.values()).where(NEW_MEMBERS != NO_MEMBERS)
    return insert(store.tables.change).from_select(list(given), row)


def save_version(store: Store) -> Update:
    """Make a revision the namespace's and the assignment's, and write the members that change."""
    state, stamp = store.tables.state, bindparam('new_stamp', type_=BigInteger)
    members = case((NEW_MEMBERS == NO_MEMBERS, state.c.members), else_=store.patched(state.c.members, NEW_MEMBERS))
    values = {'revision': NEW_NUMBER, 'stamp': stamp, 'version': NEW_NUMBER, 'version_stamp': stamp}
    return update(state).values(**values, members=members, builds_on=bindparam('new_builds_on', type_=Text))
