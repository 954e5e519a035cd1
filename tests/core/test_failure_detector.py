"""Suspicion (rule R2): by the observer's own clock, from its own readings."""

from __future__ import annotations

import itertools

import attrs
import pytest
from tests.core.builders import node

from jobsync._core.agent.failure_detector import FailureDetector

TIMEOUT, BLIND_AFTER, DOUBT_AFTER = 15.0, 9.0, 7.0
TIMEOUTS = {'b': TIMEOUT}


def watching(*until: float) -> FailureDetector:
    """An observer that has read the same heartbeat of ``b`` at 0 and at each of ``until``."""
    observer = FailureDetector(BLIND_AFTER)
    for time in (0.0, *until):
        observer.note_all([node('b')], time)
    return observer


def test_the_first_reading_counts() -> None:
    """A node is suspect once the same heartbeat has been read for its whole timeout since the first reading, not before."""
    observer = watching(5, 10, 14.999)
    assert observer.suspects(TIMEOUTS, 14.999) == {}
    assert observer.suspects(TIMEOUTS, 15.0) == {'b': node('b').beat}


def test_a_node_is_suspect_when_its_suspicion_is_due() -> None:
    """At the very time that ``next_suspicion`` returned, whatever sums of floats are: else it is asked again at that time."""
    observer, timeouts = FailureDetector(BLIND_AFTER), {'b': 0.3}
    observer.note_all([node('b')], 851.6348455704708)
    due = observer.next_suspicion(timeouts)
    assert due is not None
    assert observer.suspects(timeouts, due)


def test_a_heartbeat_read_late_is_not_yet_suspect() -> None:
    """However old a record is when it is first read, its timeout runs from that reading."""
    observer = FailureDetector(BLIND_AFTER)
    observer.note_all([node('b')], 1000.0)
    assert observer.suspects(TIMEOUTS, 1014.0) == {}


def test_a_moved_heartbeat_clears() -> None:
    """Another heartbeat starts the wait again."""
    observer = watching(5, 10)
    observer.note('b', node('b', heartbeat=8).beat, 12.0)
    observer.note_reading(18.0)
    observer.note_reading(25.0)
    assert observer.suspects(TIMEOUTS, 26.9) == {}
    assert observer.suspects(TIMEOUTS, 27.0) == {'b': node('b', heartbeat=8).beat}


def test_another_incarnation_clears() -> None:
    """The same count of another incarnation is another heartbeat."""
    observer = watching(5, 10)
    observer.note('b', node('b', run=2).beat, 12.0)
    assert observer.suspects(TIMEOUTS, 15.0) == {}


def test_blindness_is_no_silence() -> None:
    """Of a time without readings that is longer than it may be an observer counts nothing; what it saw before counts."""
    observer = watching(5, 15)
    observer.note_reading(22.0)
    assert observer.suspects(TIMEOUTS, 24.9) == {}
    assert observer.suspects(TIMEOUTS, 10 + TIMEOUT) == {'b': node('b').beat}


def test_a_reading_amid_blindness_begins_anew() -> None:
    """The time before it is no silence, and the blindness after it neither: what was read then is counted from its end."""
    observer = FailureDetector(BLIND_AFTER, DOUBT_AFTER)
    observer.note_own(0.0, 0.0)
    observer.note('b', node('b').beat, 5.0)
    observer.note_own(10.0, 10.0)
    assert observer.first_read_at('b') == 10.0


def test_a_heartbeat_that_was_not_due_before_blindness_has_a_whole_timeout_after_it() -> None:
    """Silence of an interval before counts for nothing; longer silence counts but for that."""
    observer = FailureDetector(BLIND_AFTER, DOUBT_AFTER, 5.0)
    observer.note_all([node('b')], 0.0)
    observer.note_all([node('b'), node('c')], 6.0)
    observer.note_own(8.0, 8.0)
    observer.note_reading(20.0)
    observer.note_own(30.0, 30.0)
    assert observer.first_read_at('b') == 30.0 - 3.0
    assert observer.first_read_at('c') == 30.0


@pytest.mark.parametrize('call_sec', [0.0, 1.5])
def test_the_dead_are_found_though_calls_fail_and_are_slow(call_sec: float) -> None:
    """A third of the heartbeats fails, and other calls fail too: the time around each failed heartbeat counts for nothing."""
    observer, sent = FailureDetector(BLIND_AFTER, DOUBT_AFTER), 0.0
    for pause in itertools.cycle((5.0, 5.0, 5.0 + call_sec + 2.5)):
        observer.note_own(sent, sent + call_sec)
        observer.note('b', node('b').beat, sent + call_sec)
        if observer.suspects(TIMEOUTS, sent + call_sec):
            break
        observer.note_failure(sent + 3.0)
        sent += pause
        assert sent < 60.0


def test_a_reading_that_comes_late_is_not_blindness() -> None:
    """Up to its limit an observer may miss a reading or two."""
    observer = watching(5, 5 + BLIND_AFTER)
    assert observer.suspects(TIMEOUTS, 15.0) == {'b': node('b').beat}


def test_any_successful_reading_keeps_the_observer_sighted() -> None:
    """Readings of other things than the nodes show as well that the store can be reached."""
    observer = watching()
    for time in (5.0, 10.0, 15.0):
        observer.note_reading(time)
    assert observer.suspects(TIMEOUTS, 15.0) == {'b': node('b').beat}


def test_the_blind_suspect_nobody() -> None:
    """Not even a node that was silent for its whole timeout, once the last reading is too old."""
    observer = watching(5, 12)
    assert observer.suspects(TIMEOUTS, 12 + BLIND_AFTER)
    assert observer.suspects(TIMEOUTS, 12 + BLIND_AFTER + 0.1) == {}


@pytest.mark.parametrize(
    ('failed_at', 'limit'), [(None, BLIND_AFTER), (-0.1, BLIND_AFTER), (0.0, DOUBT_AFTER), (3.0, DOUBT_AFTER)]
)
def test_an_observer_whose_heartbeats_do_not_get_through_is_blind(failed_at: float | None, limit: float) -> None:
    """However much it reads; sooner if a call has failed since the last heartbeat that got through."""
    observer = FailureDetector(BLIND_AFTER, DOUBT_AFTER)
    for time in (-10.0, -5.0, 0.0):
        observer.note_own(time, time)
        observer.note('b', node('b').beat, time)
    if failed_at is not None:
        observer.note_failure(failed_at)
    observer.note_reading(limit)
    assert observer.suspects(TIMEOUTS, limit)
    observer.note_reading(limit + 0.1)
    assert observer.suspects(TIMEOUTS, limit + 0.1) == {}
    observer.note_own(limit + 0.2, limit + 0.2)
    observer.note('b', node('b').beat, limit + 0.2)
    assert observer.suspects(TIMEOUTS, limit + 5.1) == {}
    assert observer.suspects(TIMEOUTS, limit + 5.3) == {'b': node('b').beat}


def test_a_heartbeat_counts_from_when_it_was_sent_if_a_call_has_failed_since() -> None:
    """The store may have taken it at once, and have been away until the answer came."""
    observer = FailureDetector(BLIND_AFTER, DOUBT_AFTER)
    observer.note_own(0.0, 4.9)
    assert observer.is_fresh(4.9 + BLIND_AFTER)
    observer.note_failure(4.8)
    assert observer.is_fresh(DOUBT_AFTER)
    assert not observer.is_fresh(DOUBT_AFTER + 0.1)


def test_an_observer_that_sends_no_heartbeats_may_be_blind_from_a_failure_to_its_next_reading() -> None:
    """One that reads more often than the others send, for which a failure costs little."""
    observer = FailureDetector(BLIND_AFTER, 0.0)
    for time in (0.0, 1.0, 2.0):
        observer.note_all([node('b')], time)
    observer.note_failure(3.0)
    assert not observer.is_fresh(3.0)
    observer.note_all([node('b')], 4.0)
    assert observer.first_read_at('b') == 2.0


def test_slow_answers_blind_nobody() -> None:
    """However long each heartbeat takes: each answer shows that the store takes them."""
    observer = FailureDetector(BLIND_AFTER, DOUBT_AFTER)
    for sent in (0.0, 5.0, 10.0, 15.0):
        observer.note_own(sent, sent + 4.9)
        observer.note('b', node('b').beat, sent + 4.9)
    assert observer.suspects(TIMEOUTS, 19.9) == {'b': node('b').beat}


def test_the_absent_are_forgotten() -> None:
    """A node that a complete reading does not show begins anew when it comes back."""
    observer = watching(5)
    observer.note_all([], 6.0)
    assert observer.suspects(TIMEOUTS, 100.0) == {}
    observer.note_all([node('b')], 7.0)
    assert observer.suspects(TIMEOUTS, 21.9) == {}


def test_each_by_its_own_timeout() -> None:
    """Each node is waited for as long as it asked for."""
    observer = FailureDetector(BLIND_AFTER)
    for time in (0.0, 7.0, 14.0):
        observer.note_all([node('b'), node('c')], time)
    assert set(observer.suspects({'b': 15.0, 'c': 60.0}, 20.0)) == {'b'}


def test_only_those_asked_for() -> None:
    """Nobody is suspected who is not asked for, and nobody who was never read."""
    assert watching(5, 10).suspects({'c': TIMEOUT}, 100.0) == {}


def test_next_suspicion() -> None:
    """The next suspicion is the earliest of the first readings with the timeouts added."""
    observer = FailureDetector(BLIND_AFTER)
    observer.note_all([node('b')], 0.0)
    observer.note_all([node('b'), node('c')], 4.0)
    assert observer.next_suspicion({'b': 30.0, 'c': 15.0}) == 19.0
    assert observer.next_suspicion({'b': 15.0, 'c': 15.0}) == 15.0
    assert observer.next_suspicion({'d': 15.0}) is None


def test_next_suspicion_moves_with_the_heartbeat() -> None:
    """A node that goes on beating puts its suspicion off."""
    observer = watching(5)
    observer.note_all([attrs.evolve(node('b'), heartbeat=8)], 6.0)
    assert observer.next_suspicion(TIMEOUTS) == 21.0


def test_clear_forgets_everything() -> None:
    """After a new start nothing read before counts."""
    observer = watching(5, 10)
    observer.clear()
    assert observer.next_suspicion(TIMEOUTS) is None
    observer.note_all([node('b')], 1000.0)
    assert observer.suspects(TIMEOUTS, 1001.0) == {}
