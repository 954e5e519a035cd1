"""The checker of histories: what it accepts and refuses, and that it finds a comparison that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from jobsync.backend import Guard, Leadership, NodeRef, Pulse, Revision, Timeline
from jobsync.testing.conformance.call_history import Call, SharedState, commit, heartbeat, read
from jobsync.testing.conformance.linearizability import UNKNOWN_END, Operation, linearize

Event = tuple[str, float, float]


def operation(event: Event) -> Operation[int]:
    """Return a call on a register that holds a number: ``read 3``, ``write 3``, or ``cas 3 4``, compared and written."""
    what, begin, end = event
    kind, *numbers = what.split()

    def step(numbers: Sequence[int], state: int) -> int | None:
        if kind == 'write' or state == numbers[0]:
            return numbers[-1]
        return state if end == UNKNOWN_END else None

    return Operation(what, begin, end, partial(step, [int(number) for number in numbers]))


def is_linearizable(*events: Event) -> bool:
    """Check a history of a register that holds 0."""
    return linearize([operation(event) for event in events], 0)[1]


@pytest.mark.parametrize(
    'events',
    [
        [('write 1', 0, 1), ('read 1', 2, 3)],
        [('write 1', 0, 10), ('read 0', 1, 2), ('read 1', 3, 4)],
        [('cas 0 1', 0, 10), ('cas 1 2', 0, 10), ('read 2', 11, 12)],
        [('cas 0 1', 0, UNKNOWN_END), ('read 0', 1, 2), ('read 1', 3, 4)],
        [('cas 0 1', 0, UNKNOWN_END), ('read 0', 1, 2), ('read 0', 3, 4)],
    ],
    ids=['one after the other', 'during a write', 'in the other order', 'took effect late', 'never took effect'],
)
def test_accepted(events: Sequence[Event]) -> None:
    """An order exists."""
    assert is_linearizable(*events)


@pytest.mark.parametrize(
    'events',
    [
        [('write 1', 0, 1), ('read 0', 2, 3)],
        [('write 1', 0, 10), ('read 1', 1, 2), ('read 0', 3, 4)],
        [('cas 0 1', 0, 10), ('cas 0 2', 0, 10)],
        [('read 1', 1, 2), ('cas 0 1', 3, UNKNOWN_END)],
        [('cas 0 1', 0, UNKNOWN_END), ('read 1', 1, 2), ('read 0', 3, 4)],
    ],
    ids=['stale', 'back in time', 'two winners', 'before its begin', 'undone'],
)
def test_refused(events: Sequence[Event]) -> None:
    """No order exists."""
    assert not is_linearizable(*events)


def test_the_longest_order_is_shown() -> None:
    """Where no order is whole, the longest is returned, for people."""
    order, is_whole = linearize([operation(event) for event in [('write 1', 0, 1), ('read 1', 2, 3), ('read 0', 4, 5)]], 0)
    assert ([call.what for call in order], is_whole) == (['write 1', 'read 1'], False)


def test_many_calls_of_unknown_outcome() -> None:
    """The search does not try every subset of calls that changed nothing."""
    unknown: list[Event] = [(f'cas 7 {number}', 0, UNKNOWN_END) for number in range(10, 60)]
    assert not is_linearizable(*unknown, ('write 1', 1, 2), ('read 0', 3, 4))


OLD, NEW = Revision(5, 1), Revision(7, 2)
TIMELINE = Timeline(0, 'timeline', 'store')


def answer(version: Revision) -> Pulse:
    """Return what a run's first heartbeat returns that reads this version."""
    return Pulse(1, TIMELINE, 'store', version, version, Leadership(0, None), None)


def explains(*calls: tuple[Call, object, float, float]) -> bool:
    """Check a history of one node and one version: calls with their outcomes, begins and ends."""
    history = [Operation('', begin, end, partial(step, of)) for call, of, begin, end in calls for step in call.steps]
    return linearize(history, SharedState(('run', 0), OLD))[1]


@pytest.mark.parametrize(
    ('version', 'evicted', 'found', 'is_right'),
    [
        (OLD, None, SharedState(('run', 0), NEW), True),
        (NEW, None, SharedState(('run', 0), NEW), True),
        (NEW, None, SharedState(('run', 1), NEW), True),
        (NEW, None, SharedState(('run', 1), OLD), False),
        (OLD, ('run', 0), SharedState(None, NEW), False),
    ],
    ids=['counts later', 'counts last', 'counts at once', 'counts before it reads', 'counts though it is evicted'],
)
def test_a_heartbeat_counts_as_it_reads_or_later(
    version: Revision, evicted: tuple[str, int] | None, found: SharedState, *, is_right: bool
) -> None:
    """In between the version may change, and the node's record may not."""
    leader = commit(NodeRef('leader', '1'), Guard(TIMELINE, 0, OLD), evicted)
    history = [(heartbeat('run'), answer(version), 0.0, 10.0), (leader, NEW, 1.0, 9.0), (read(), found, 4.0, 5.0)]
    assert explains(*history) == is_right
