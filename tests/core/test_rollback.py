"""The signs that a store has gone back in time (rule R8), each by itself: everything else in the answer is as it should be."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobsync._core.agent.rollback import Known, RollbackDetector, StoreRolledBack
from jobsync._core.records import Leadership, Pulse, Revision, Timeline
from jobsync.errors import TimelineChanged

TIMELINE = Timeline(0, 'first', 'store')
READ = Pulse(5, TIMELINE, 'store', Revision(20, 200), Revision(10, 100), Leadership(1, None), None, position=1000)
"""The last answer that was read. A heartbeat that is sent now counts up to 6."""
NEXT = attrs.evolve(READ, heartbeat=6)

SIGNS: list[tuple[dict[str, Any], str]] = [
    ({'store': 'replica'}, "store 'replica' answers in place of 'store'"),
    ({'revision': Revision(19, 190)}, 'revision 20 was read before, now it is 19'),
    ({'revision': Revision(20, 201)}, 'revision 20 is another'),
    ({'position': 999}, "the store's position was 1000 before, now it is 999"),
    ({'version': Revision(9, 90)}, 'version 10 of the assignment was read before, now it is 9'),
    ({'version': Revision(10, 101)}, 'version 10 of the assignment is another'),
    ({'heartbeat': 5}, 'own heartbeat counter is 5, expected 6 to 6'),
    ({'heartbeat': 7}, 'own heartbeat counter is 7, expected 6 to 6'),
]


def issued() -> tuple[RollbackDetector, Known]:
    """A node that has read ``READ`` and sends a heartbeat, and what it knows then."""
    detector = RollbackDetector(15.0, timeline=TIMELINE, writes=5)
    detector.check(READ, READ.heartbeat, detector.known, least_heartbeat=0)
    detector.writes += 1
    return detector, detector.known


def take(detector: RollbackDetector, known: Known, answer: Pulse) -> None:
    """Take the answer to a heartbeat."""
    detector.check(answer, answer.heartbeat, known, least_heartbeat=known.heartbeat + 1)


@pytest.mark.parametrize('more', [{}, {'revision': Revision(21, 1)}, {'version': Revision(11, 1)}, {'position': 1001}])
def test_an_answer_without_a_sign(more: dict[str, Any]) -> None:
    """Nothing has changed in the store, or something has risen: the answer is taken."""
    detector, known = issued()
    take(detector, known, attrs.evolve(NEXT, **more))
    assert detector.heartbeat == 6


@pytest.mark.parametrize(('change', 'text'), SIGNS)
def test_each_sign_is_enough(change: dict[str, Any], text: str) -> None:
    """An answer in which one thing alone is wrong shows that the store went back."""
    detector, known = issued()
    with pytest.raises(StoreRolledBack, match=text):
        take(detector, known, attrs.evolve(NEXT, **change))


@pytest.mark.parametrize('timeline', [attrs.evolve(TIMELINE, id='other'), attrs.evolve(TIMELINE, generation=1)])
def test_another_timeline_is_no_sign_but_the_end_of_this_one(timeline: Timeline) -> None:
    """The node begins anew in the timeline that it reads, and renews nothing."""
    detector, known = issued()
    with pytest.raises(TimelineChanged):
        take(detector, known, attrs.evolve(NEXT, timeline=timeline))


@pytest.mark.parametrize(
    ('risen', 'other', 'text'),
    [
        ({'revision': Revision(21, 210)}, {'revision': Revision(21, 211)}, 'revision 21 is another'),
        ({'version': Revision(11, 110)}, {'version': Revision(11, 111)}, 'version 11 of the assignment is another'),
    ],
)
def test_another_stamp_than_that_read_while_the_call_was_under_way(
    risen: dict[str, Any], other: dict[str, Any], text: str
) -> None:
    """Of two answers that are of one number and differ, one is of another history, whichever was read first."""
    detector, known = issued()
    detector.check(attrs.evolve(READ, **risen), READ.heartbeat, detector.known, least_heartbeat=READ.heartbeat)
    with pytest.raises(StoreRolledBack, match=text):
        take(detector, known, attrs.evolve(NEXT, **other))


@pytest.mark.parametrize(
    ('other', 'text'),
    [
        ({'revision': Revision(20, 201)}, 'revision 20 is another'),
        ({'version': Revision(10, 101)}, 'version 10 of the assignment is another'),
    ],
)
def test_another_stamp_than_that_known_before_the_call(other: dict[str, Any], text: str) -> None:
    """Though a higher number was read while the call was under way."""
    detector, known = issued()
    risen = attrs.evolve(READ, revision=Revision(21, 210), version=Revision(11, 110))
    detector.check(risen, READ.heartbeat, detector.known, least_heartbeat=READ.heartbeat)
    with pytest.raises(StoreRolledBack, match=text):
        take(detector, known, attrs.evolve(NEXT, **other))


def test_an_answer_that_was_overtaken_is_no_sign_and_lowers_nothing() -> None:
    """An answer that another one has overtaken is taken, and what the other one brought remains known."""
    detector, known = issued()
    risen = attrs.evolve(READ, revision=Revision(21, 210), version=Revision(11, 110), position=1001)
    detector.check(risen, READ.heartbeat, detector.known, least_heartbeat=READ.heartbeat)
    take(detector, known, NEXT)
    assert detector.known == Known(Revision(21, 210), 6, 1001, Revision(11, 110))


def test_the_own_counter_is_what_the_highest_answer_brought() -> None:
    """A snapshot that was read before a heartbeat and comes after it leaves the counter as it is."""
    detector, known = issued()
    take(detector, known, NEXT)
    detector.check(READ, READ.heartbeat, known, least_heartbeat=known.heartbeat)
    assert detector.known.heartbeat == 6


def test_a_new_incarnation_knows_what_was_read_and_not_what_was_written() -> None:
    """Its record is a new one, whose counter begins at nothing; the highest revision, version and position count on."""
    detector, _ = issued()
    detector.begin_session()
    assert detector.timeline is None
    detector.timeline = TIMELINE
    assert (detector.writes, detector.known) == (0, Known(READ.revision, 0, READ.position, READ.version))
