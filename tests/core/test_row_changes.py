"""The rows of a plan, each judged alone by the plain rule, against ``row_changes``, which judges them by the sort."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

import attrs
from hypothesis import given
from hypothesis import strategies as st

from jobsync._core.assignment import ABSENT, UNOWNED, Assignment
from jobsync._core.leader.handover import Released
from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.leader.removals import Removals
from jobsync._core.leader.row_changes import row_changes
from jobsync._core.records import INITIAL, NOBODY, Member
from jobsync._core.tokens import NO_TARGETS

NAMES = ('gone', 'late', 'one', 'two', 'zero')
ROSTER = OwnerTable(
    nodes={},
    alive={},
    status={
        'gone': OwnerStatus.GONE,
        'late': OwnerStatus.WAITING,
        'one': OwnerStatus.PRESENT,
        'two': OwnerStatus.PRESENT,
        'zero': OwnerStatus.PRESENT,
    },
    members={},
    removals=Removals((), (), (), frozenset()),
    absent_since={},
    due_at=math.inf,
)
Row = tuple[str | None, str | None, str | None]


@attrs.frozen
class Case:
    """What ``row_changes`` is given."""

    old: Assignment
    handed_over: frozenset[int]
    moves: Mapping[str, array[int]]
    receivers: frozenset[str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Every row a token can have, and every place for it that a planner can choose."""
    total = draw(st.integers(1, 25))
    receivers = draw(st.sampled_from([frozenset({'one', 'two', 'new'}), frozenset({'one'}), frozenset[str]()]))
    owner = array('i', draw(st.lists(st.integers(ABSENT, 4), min_size=total, max_size=total)))
    home = array('i', draw(st.lists(st.integers(UNOWNED, 4), min_size=total, max_size=total)))
    targets = {
        token: draw(st.sampled_from((*NAMES, 'new', NOBODY)))
        for token in range(total)
        if owner[token] != ABSENT and draw(st.booleans())
    }
    handed = {token for token in targets if owner[token] >= 2 and draw(st.booleans())}
    moves: dict[str, array[int]] = {}
    for token in range(total):
        if receivers and owner[token] != 1 and draw(st.booleans()):
            place = draw(st.sampled_from(sorted(receivers)))
            if owner[token] < 0 or NAMES[owner[token]] != place:
                moves.setdefault(place, array('i')).append(token)
    since = array('q', [1]) * total
    flat = NO_TARGETS.changed((((token,), name) for token, name in targets.items()), total)
    members: dict[str, Member] = draw(st.sampled_from([{}, {'one': Member('run', 15.0)}]))
    old = Assignment(INITIAL, members, NAMES, owner, home, since, flat, {})
    return Case(old, frozenset(handed), moves, receivers)


def place_of(case: Case, token: int) -> tuple[bool, str | None]:
    """Whether anything is decided about the token, and whose it is to be."""
    row = case.old.row(token)
    for place, tokens in case.moves.items():
        if token in tokens:
            return True, place
    if row.absent:
        return not (case.old.members or case.receivers), None
    if row.owner == 'late':
        return False, None
    if row.target is not None:
        if row.target in case.receivers:
            return True, row.target
        if row.owner in case.receivers and token not in case.handed_over:
            return True, row.owner
        return not case.receivers, None
    return not case.receivers and row.owner is not None, None


def row_after(case: Case, token: int, place: str | None) -> Row:
    """The plain rule: a present owner is asked, what nobody has its hands on passes at once and remembers a home it lost."""
    row = case.old.row(token)
    if row.owner in ('one', 'two', 'zero') and token not in case.handed_over:
        target = NOBODY if place is None else None if place == row.owner else place
        return row.owner, target, row.home
    if token in case.handed_over:
        return place, None, None
    home = row.owner or row.home
    return place, None, None if home == place else home


@given(cases())
def test_every_row_is_as_the_plain_rule_has_it(case: Case) -> None:
    """What changes is written, once; what does not is not; and the owners that follow are told."""
    held = {name: frozenset(case.old.targets) - case.handed_over for name in ('one', 'two', 'zero')}
    released = Released(held, len(case.handed_over), is_complete=False, owners=len(held), answered=len(held))
    writing = row_changes(case.old, ROSTER, released, case.moves, case.receivers, 9)
    expected: dict[int, tuple[str | None, str | None, str | None, int]] = {}
    moved = 0
    for token in range(case.old.total_tokens):
        row = case.old.row(token)
        is_decided, place = place_of(case, token)
        if not is_decided:
            continue
        after = row_after(case, token, place)
        moved += after[0] is not None and after[0] != row.owner
        if row.absent or after != (row.owner, row.target, row.home):
            expected[token] = (*after, 9 if row.absent or after[0] != row.owner else row.version)
    written = [
        (token, (group.owner, group.target, group.home, group.version)) for group in writing.groups for token in group.tokens
    ]
    assert len(written) == len(expected)
    assert dict(written) == expected
    assert writing.moved == moved
    for token in range(case.old.total_tokens):
        row = case.old.row(token)
        owner = expected[token][0] if token in expected else row.owner
        assert writing.owner_of(token) == (owner, token in expected or not (row.absent and case.old.members))
    assert all(list(group.tokens) == sorted(group.tokens) for group in writing.groups)
    assert len({(group.owner, group.target, group.home, group.version) for group in writing.groups}) == len(writing.groups)
