"""What is found in logs that were made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.faults.findings import LEASE, Log, answered_twice, gaps, last_change, missed, moves, owned_twice, read, worked_twice

Event = Mapping[str, Any]


def grant(at: float, until: float, gained: Sequence[int | str] = (), lost: Sequence[int | str] = ()) -> Event:
    """A change that took no time."""
    return {'what': 'grant', 't': at, 't0': at, 't1': at, 'until': until, 'gained': list(gained), 'lost': list(lost)}


def spans(log: Log, thing: int | str) -> list[tuple[float, float]]:
    """The times of a thing's spans."""
    return [(span.begin, span.end) for span in log.spans.get(thing, ())]


def log(run: str, *events: Event, death: float | None = None) -> Log:
    """A log up to t=100."""
    return read(run, events, death, until=100.0)


def test_a_span_ends_with_the_lease() -> None:
    """What was granted is owned until the end of the lease, though nothing was logged then."""
    found = log('a', grant(1, 10, [5]))
    assert spans(found, 5) == spans(found, LEASE) == [(1, 10)]


def test_an_extended_lease_makes_one_span() -> None:
    """A lease that is extended before its end makes no gap."""
    assert spans(log('a', grant(1, 10, [5]), grant(9, 18), grant(17, 26)), 5) == [(1, 26)]


def test_a_lease_that_begins_again_leaves_a_gap() -> None:
    """A lease that is extended after its end makes a second span."""
    assert spans(log('a', grant(1, 10, [5]), grant(12, 20)), 5) == [(1, 10), (12, 20)]


def test_a_token_that_is_given_up_ends_its_span() -> None:
    """A change that takes a token ends its span, and no other."""
    found = log('a', grant(1, 10, [5, 6]), grant(4, 10, lost=[5]))
    assert (spans(found, 5), spans(found, 6)) == ([(1, 4)], [(1, 10)])


def test_a_dropped_lease_ends_all_spans() -> None:
    """An end of the lease in the past ends what was open at the time of the change, and a later lease may begin with the same."""
    assert spans(log('a', grant(1, 10, [5]), grant(3, 0), grant(6, 12)), 5) == [(1, 3), (6, 12)]


def test_a_span_ends_with_the_process() -> None:
    """A process that was killed owns nothing afterwards, and one that has left nothing after its last line."""
    assert spans(log('a', grant(1, 10, [5]), death=4.0), 5) == [(1, 4)]
    assert spans(log('a', grant(1, 10, [5]), {'what': 'left', 't': 6.0}), 5) == [(1, 6)]


def test_owned_twice() -> None:
    """Two processes that own one token at one time are found, with the time; a process and its own spans are not."""
    a, b = log('a', grant(1, 10, [5, 6])), log('b', grant(8, 17, [5, 7]))
    (found,) = owned_twice([a, b])
    assert (found.thing, set(found.nodes), found.seconds) == ('5', {'a', 'b'}, 2)
    assert owned_twice([log('a', grant(1, 10, [5])), log('b', grant(10, 17, [5]))]) == ()


def test_a_task_is_owned_twice() -> None:
    """A pinned task is a thing of its own."""
    (found,) = owned_twice([log('a', grant(1, 10, [5, 'task x'])), log('b', grant(8, 17, ['task x']))])
    assert found.thing == 'task x'


def asked(*readings: tuple[float, float, list[int]]) -> list[Event]:
    """Readings of ``can_claim_task``."""
    events: list[Event] = []
    for number, (before, after, tokens) in enumerate(readings):
        events.append({'what': 'answers', 't': after, 'set': number, 'tokens': tokens})
        events.append({'what': 'asked', 't': after, 'set': number, 'before': before, 'after': after})
    return events


@pytest.mark.parametrize(
    ('before', 'after', 'tokens', 'count'), [(5, 6, [5], 1), (5, 6, [4], 0), (0, 6, [5], 0), (5, 16, [5], 0)]
)
def test_answered_twice(before: float, after: float, tokens: list[int], count: int) -> None:
    """A True answer counts if the whole reading lies inside a span of another process."""
    a = log('a', *asked((0.1, 0.2, []), (before, after, tokens), (20, 21, [])))
    assert len(answered_twice([a, log('b', grant(1, 10, [5]))])) == count


def test_worked_twice() -> None:
    """Work on one task at once counts, and is late if the first process had no lease any more when the second began."""
    begin, end = {'what': 'begin', 'task': 'x'}, {'what': 'end', 'task': 'x'}
    second = log('b', grant(4, 30, []), {**begin, 't': 12.0}, {**end, 't': 13.0})
    (found,) = worked_twice([log('a', grant(1, 20), {**begin, 't': 5.0}, {**end, 't': 15.0}), second])
    assert not found.is_late
    (found,) = worked_twice([log('a', grant(1, 10), {**begin, 't': 5.0}, {**end, 't': 15.0}), second])
    assert found.is_late
    assert worked_twice([log('a', grant(1, 20), {**begin, 't': 5.0}, {**end, 't': 11.0}), second]) == ()


def test_gaps_and_moves() -> None:
    """The times without an owner, the last of them, and the passes from one process to another."""
    logs = [log('a', grant(1, 10, [5])), log('b', grant(12, 30, [5]))]
    assert gaps(logs, [5, 6], 2, 20) == {5: [(10, 12)], 6: [(2, 20)]}
    assert moves(logs, 2, 20) == 1
    assert moves(logs, 13, 20) == 0
    assert last_change(logs, [5], 2, 20) == 12
    assert last_change(logs, [5], 13, 20) == 13


def test_missed() -> None:
    """A task that was begun and not ended is missed."""
    begun = log(
        'a',
        {'what': 'begin', 'task': 'x', 't': 1.0},
        {'what': 'end', 'task': 'x', 't': 2.0},
        {'what': 'begin', 'task': 'y', 't': 3.0},
    )
    assert missed([begun], ['x', 'y', 'z']) == ['y', 'z']
