"""What a new incarnation keeps of the one before: what this process is busy with, and no time of a hand-over."""

from __future__ import annotations

import pytest
from tests.core.bench import Bench
from tests.core.builders import assigned, ref, token_of

from jobsync._core.agent.in_flight import InFlight, TaskStart

HANDOVER_SEC = 30.0
ASKED = assigned('ab', targets={0: 'b'})
"""Token 0 is to pass from a to b."""


@pytest.mark.parametrize('kind', ['in flight', 'announced'])
def test_a_new_run_has_all_its_time_for_a_hand_over(kind: str) -> None:
    """The run before was evicted in the midst of the same hand-over: what it was busy with is not given up in its time."""
    tasks = InFlight(token_of, HANDOVER_SEC)
    if kind == 'in flight':
        tasks.starts[TaskStart('t0')] = None
    else:
        tasks.announce([0], 0.0)
    assert tasks.holding(ASKED, ref('a'), 0.0) == {0}
    tasks.reported = frozenset({0})
    tasks.begin_session()
    if kind == 'announced':
        tasks.announce([0], 20.0)
    assert tasks.holding(ASKED, ref('a', 2), 20.0) == {0}
    assert tasks.holding(ASKED, ref('a', 2), HANDOVER_SEC + 19.9) == {0}
    assert tasks.holding(ASKED, ref('a', 2), HANDOVER_SEC + 20.0) == frozenset()


def test_a_new_run_has_reported_nothing_as_held() -> None:
    """So it has nothing to correct, and gives up nothing that it never held."""
    tasks = InFlight(token_of, HANDOVER_SEC)
    tasks.starts[TaskStart('t0')] = None
    tasks.holding(ASKED, ref('a'), 0.0)
    tasks.reported = frozenset({0})
    tasks.begin_session()
    assert tasks.due(ASKED, ref('a', 2), 1.0) == float('inf')
    tasks.holding(ASKED, ref('a', 2), 1.0)
    assert tasks.overdue(frozenset(), ASKED) == (frozenset(), [])


def test_a_new_run_is_kept_from_nothing_by_the_time_of_the_run_before() -> None:
    """A task in flight that has no target any more keeps its token without an end."""
    tasks = InFlight(token_of, HANDOVER_SEC)
    tasks.starts[TaskStart('t0')] = None
    tasks.holding(ASKED, ref('a'), 0.0)
    tasks.begin_session()
    assert tasks.kept_until(ASKED, 't0', 0) == float('inf')
    assert not tasks.is_asked


def test_a_new_run_begins_with_no_hand_over() -> None:
    """Before it has read anything, its tasks in flight wait for no hand-over of the run before."""
    lease = Bench(tokens=2).start('a').lease
    lease.begin_session(ref('a'))
    lease.in_flight[TaskStart('t0')] = None
    lease.assignment = ASKED
    assert lease.holding(0.0) == {0}
    lease.begin_session(ref('a', 2))
    assert not lease.is_asked
    lease.assignment = ASKED
    assert lease.holding(20.0) == {0}
    assert lease.holding(20.0 + lease._config.handover_timeout_sec - 0.1) == {0}


def test_a_node_that_is_no_member_is_to_hand_over_nothing() -> None:
    """Nor does it count the time of a hand-over from before it is a member: all rows may be missing to a new run."""
    tasks = InFlight(token_of, HANDOVER_SEC)
    tasks.starts[TaskStart('t0')] = None
    assert tasks.holding(ASKED, ref('a'), 0.0) == {0}
    assert tasks.holding(assigned('-b'), ref('a'), 1.0) == frozenset()
    assert not tasks.is_asked
    assert tasks.holding(ASKED, ref('a'), HANDOVER_SEC + 5.0) == {0}
