"""The assignment as nodes read it: all of it, or what was written after a version."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, starmap
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import BigInteger, String, Table, Text

from jobsync.backend import Changes, Member, Pin, Revision, TokenGroup, rising
from jobsync.backends._common.tokens import latest
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['KnownPins', 'read']

PIN = ('token_id', 'task_id', 'node', 'target', 'version', 'pattern', 'home', 'item_group')
"""The columns of a pin's row, in the order of the fields of ``Pin``."""

NO_TEXT = sa.literal_column("''", String)
"""The empty text. It is no parameter: SELECT and GROUP BY must contain one expression."""

NULL = sa.cast(sa.null(), String)

FEW = 100
"""The most tokens that are read one by one."""

TOGETHER = 65_536
"""The database gathers at most so many tokens in one row, because drivers keep room for the largest row that they have read."""

PORTION = 65_536
"""About how many characters of a list of tokens are read at once."""

ROWS = 256
"""Rows that are fetched at once: one by one each takes several times longer, and all have the texts of a whole pool."""

MANY_PINS = 1000
"""More pins than these are not read one by one."""

JSON = json.JSONDecoder()

AssignmentDifference = tuple[Mapping[str, Member | None], tuple[TokenGroup, ...], frozenset[int] | None]
"""Members and tokens, each as last written, and the ids of the pins that were written or removed; None if those are not known."""

KnownPins = tuple[Revision | None, Sequence[Pin]]
"""All pins at a version, in the order of their ids; None before any was read."""


def read(tx: SqlTransaction, since: Revision | None, wanted: Collection[int] | None, known: KnownPins) -> Changes:
    """See ``Backend.read_assignment``. Few tokens are read by their primary keys, many with all others.

    ``known`` are the pins that the caller has read, and at which version. If ``since`` is that version, only those are read that
    were written later.
    """
    tx.hold(tx.tables.state, tx.tables.token, tx.tables.unowned, tx.tables.change)
    row = tx.execute(state_query).one_or_none()
    state = states.parse(row)
    assert row is not None
    tokens = state.settings.total_tokens
    # After a manual edit ``builds_on`` is empty, so that every version before it is followed by a complete reading.
    builds_on = states.load_revisions(row.builds_on)
    difference: AssignmentDifference | None = None
    if since == state.version:
        difference = {}, (), frozenset()
    elif since in builds_on:
        assert since is not None
        difference = read_changes(tx, since, [revision.number for revision in builds_on if revision.number > since.number])
    if difference is None:
        since, changed = None, None
        members: Mapping[str, Member | None] = states.load_members(tx.execute(all_members).scalar_one())
        if wanted is None or len(wanted) > FEW:
            groups = groups_of(tx.execute(all_groups, {'last': tokens - 1}))
        else:
            groups = groups_of(tx.execute(some_groups, {'wanted': list(wanted)}))
    else:
        members, groups, changed = difference
    pins: Iterable[Pin]
    if changed is None or since != known[0] or len(changed) > MANY_PINS:
        pins = starmap(Pin, tx.conclude(all_pins, {'tokens': tokens}))
    elif not changed:
        pins = known[1]
    else:
        after = {pin.id: pin for pin in known[1] if pin.id not in changed}
        after.update((pin.id, pin) for pin in starmap(Pin, tx.conclude(some_pins, {'tokens': tokens, 'wanted': [*changed]})))
        pins = (after[pin_id] for pin_id in sorted(after))
    return Changes(version=state.version, base=since, members=members, groups=groups, pins=tuple(pins))


def state_query(dialect: Dialect) -> sa.Select[Any]:
    """Select the state, and what a difference can build on."""
    return sa.select(*states.columns(dialect), dialect.tables.state.c.builds_on)


def all_members(dialect: Dialect) -> sa.Select[Any]:
    """Select all members."""
    return sa.select(dialect.tables.state.c.members)


def in_pool(table: Table) -> sa.ColumnElement[bool]:
    """Return whether a row is one of a token of the pool."""
    return table.c.token_id.between(0, sa.bindparam('last', type_=BigInteger))


def is_wanted(table: Table) -> sa.ColumnElement[bool]:
    """Return whether a row is one of those that are wanted."""
    return table.c.token_id.in_(sa.bindparam('wanted', type_=BigInteger, expanding=True))


def groups_where(dialect: Dialect, condition: Callable[[Table], sa.ColumnElement[bool]]) -> sa.Executable:
    """Select tokens by a condition on their row, gathered: a million rows come as a few dozen, each of at most ``TOGETHER``."""

    def gathered(table: Table, owner: sa.ColumnElement[Any]) -> sa.Select[Any]:
        home = sa.func.nullif(table.c.home, NO_TEXT)
        numbers = dialect.joined(sa.cast(table.c.token_id, Text))
        query = sa.select(owner.label('owner'), table.c.target, home.label('home'), table.c.version, numbers.label('numbers'))
        portion = table.c.token_id // sa.literal_column(str(TOGETHER), BigInteger)
        return query.where(table.c.task_id.is_(None), condition(table)).group_by(table.c.target, home, table.c.version, portion)

    token, unowned = dialect.tables.token, dialect.tables.unowned
    return sa.union_all(gathered(token, token.c.node).group_by(token.c.node), gathered(unowned, NULL))


def pins_where(dialect: Dialect, condition: Callable[[Table], sa.ColumnElement[bool]]) -> sa.Executable:
    """Select pins by a condition on their row, in the order of their ids."""

    def pins(table: Table) -> sa.Select[Any]:
        fields: list[sa.ColumnElement[Any]] = [table.c[name] if name in table.c else NULL.label(name) for name in PIN[:-1]]
        fields.append(sa.func.coalesce(table.c.item_group, NO_TEXT))  # null in rows from before there were items
        beyond = table.c.token_id > sa.bindparam('tokens', type_=BigInteger)
        return sa.select(*fields).where(table.c.task_id.is_not(None), beyond, condition(table))

    return sa.union_all(pins(dialect.tables.token), pins(dialect.tables.unowned)).order_by('token_id')


# A statement is built once for each function object.
all_groups, some_groups = (partial(groups_where, condition=condition) for condition in (in_pool, is_wanted))
all_pins, some_pins = (partial(pins_where, condition=condition) for condition in (lambda _: sa.true(), is_wanted))


def later(dialect: Dialect) -> sa.Select[Any]:
    """Select what was written after a version, the latest first."""
    change = dialect.tables.change
    fields = [change.c[name] for name in ('revision', 'owner', 'target', 'home', 'version', 'numbers', 'members')]
    return (
        sa.select(*fields).where(change.c.revision > sa.bindparam('since', type_=BigInteger)).order_by(change.c.revision.desc())
    )


def numbers(listed: str, typecode: Literal['i', 'q'] = 'i') -> array[int]:
    """Return the tokens of a group, as the database gathers them or as ``Dialect.listed`` writes them.

    Ids of pins need the type code ``q``: an operator may insert a lock with any id, and tokens are few in comparison.
    """
    text = listed.strip('[]{}')
    if len(text) <= PORTION:
        return array(typecode, JSON.raw_decode(f'[{text}]')[0])
    found, start = array(typecode), 0
    while start < len(text):  # portion by portion: a list of a million numbers takes ten times the memory of the array
        stop = text.find(',', start + PORTION)
        stop = len(text) if stop < 0 else stop
        found.extend(JSON.raw_decode(f'[{text[start:stop]}]')[0])
        start = stop + 1
    return found


def groups_of(rows: Iterable[sa.Row[Any]]) -> tuple[TokenGroup, ...]:
    """Return the groups of tokens that were gathered in rows."""
    groups: defaultdict[tuple[Any, ...], array[int]] = defaultdict(lambda: array('i'))
    for row in rows:
        groups[row.owner, row.target, row.home, row.version].extend(numbers(row.numbers))
    return tuple(TokenGroup(rising(tokens), *shared) for shared, tokens in groups.items() if tokens)


def read_changes(tx: SqlTransaction, since: Revision, commits: Collection[int]) -> AssignmentDifference | None:
    """Return what was written after ``since`` by the ``commits`` (their revisions); None if the rows of one are gone."""
    members: dict[str, Member | None] = {}
    logged = set[int]()
    pins: dict[int, array[int]] = {}

    def written() -> Iterator[TokenGroup]:
        """Yield the groups of tokens, the latest first, and note members and pins on the way."""
        nonlocal members
        rows: Iterable[Any] = chain.from_iterable(tx.execute(later, {'since': since.number}).partitions(ROWS))
        for revision, owner, target, home, version, listed, changed in rows:
            if changed is None:
                yield TokenGroup(numbers(listed), owner, target, home, version)
                continue
            logged.add(revision)
            members = states.load_members(changed) | members
            if listed:
                pins[revision] = numbers(listed, 'q')

    # t=0  an operator deletes a revision from ``builds_on``, and so one commit is listed where the rows of two are read
    # t=1  the reader writes the groups in the order given: with the latest first a token would be as the earlier commit has it
    groups = latest(written()) if len(commits) > 1 else tuple(written())[::-1]
    # t=0  a table that was made UNLOGGED is empty after a crash, or a restore without triggers has cleared it
    # t=1  node a reads a difference that says nothing of its token 42, which has passed to b: both would work on it
    if not logged >= set(commits):
        return None
    # t=0  a node of the version before logs no pins; it leads, and commits
    # t=1  this node reads a difference: without the pins of t=0 it would go by a pin that has been given to another node
    is_logged = pins.keys() >= set(commits)
    return members, groups, frozenset().union(*pins.values()) if is_logged else None
