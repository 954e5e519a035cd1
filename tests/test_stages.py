"""The stages of a session: every stage with every event, in every order, from any thread."""

from __future__ import annotations

import itertools
import threading

import pytest

from jobsync._worker.stages import TRANSITIONS, SessionEvent, Stage, Stages
from jobsync.errors import JobsyncError

WAY_TO: dict[Stage, list[SessionEvent]] = {
    Stage.NEW: [],
    Stage.INSIDE: [SessionEvent.ENTER],
    Stage.STOPPING: [SessionEvent.ENTER, SessionEvent.SIGNAL],
    Stage.LEAVING: [SessionEvent.ENTER, SessionEvent.LEAVE],
    Stage.LEFT: [SessionEvent.ENTER, SessionEvent.LEAVE, SessionEvent.END],
}
ORDER = list(Stage)


def after(*events: SessionEvent) -> Stages:
    stages = Stages('a')
    for event in events:
        stages.record(event)
    return stages


@pytest.mark.parametrize('event', SessionEvent)
@pytest.mark.parametrize('stage', Stage)
def test_every_event_at_every_stage(stage: Stage, event: SessionEvent) -> None:
    """An event leads to the stage in the table, or is refused with an error and changes nothing."""
    stages = after(*WAY_TO[stage])
    assert stages.stage is stage
    if event in TRANSITIONS[stage]:
        stages.record(event)
        assert stages.stage is TRANSITIONS[stage][event]
        assert stages.has_seen(event)
    else:
        with pytest.raises(JobsyncError, match='and cannot be'):
            stages.record(event)
        assert stages.stage is stage
        assert event in WAY_TO[stage] or not stages.has_seen(event)


def test_what_is_refused() -> None:
    """A block is entered once, and only a block that is being left ends."""
    refused = {(stage, event) for stage in Stage for event in SessionEvent if event not in TRANSITIONS[stage]}
    entered_again = {(stage, SessionEvent.ENTER) for stage in Stage if stage is not Stage.NEW}
    ended_early = {(stage, SessionEvent.END) for stage in (Stage.NEW, Stage.INSIDE, Stage.STOPPING)}
    assert refused == entered_again | ended_early


def test_no_way_leads_back() -> None:
    """No event leads to an earlier stage, and an event that has happened changes nothing when it happens again."""
    for stage, ways in TRANSITIONS.items():
        for event, reached in ways.items():
            assert ORDER.index(reached) >= ORDER.index(stage)
            assert TRANSITIONS[reached].get(event, reached) is reached


@pytest.mark.parametrize(
    'events', [*itertools.permutations([SessionEvent.SIGNAL, SessionEvent.HURRY, SessionEvent.TIMEOUT, SessionEvent.LEAVE])]
)
def test_the_order_of_what_asks_to_leave_does_not_matter(events: tuple[SessionEvent, ...]) -> None:
    """Signals, timeouts and the end of the block come in any order: the block is being left in a hurry."""
    stages = after(SessionEvent.ENTER, *events)
    assert stages.stage is Stage.LEAVING
    assert stages.is_hurried


@pytest.mark.parametrize(
    ('event', 'is_hurried'), [(SessionEvent.SIGNAL, False), (SessionEvent.HURRY, True), (SessionEvent.TIMEOUT, True)]
)
def test_hurried_after_the_end(event: SessionEvent, is_hurried: bool) -> None:
    """A signal that comes while the job waits for other nodes to own its tokens still ends that wait."""
    assert after(*WAY_TO[Stage.LEFT], event).is_hurried is is_hurried


def test_threads_lose_no_event() -> None:
    """Events from many threads at one moment are all kept, and the stage is the last one."""
    for _ in range(200):
        stages, start = after(SessionEvent.ENTER), threading.Barrier(4)

        def record(event: SessionEvent, stages: Stages = stages, start: threading.Barrier = start) -> None:
            start.wait()
            stages.record(event)

        events = [SessionEvent.SIGNAL, SessionEvent.HURRY, SessionEvent.TIMEOUT, SessionEvent.LEAVE]
        threads = [threading.Thread(target=record, args=(event,)) for event in events]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stages.stage is Stage.LEAVING
        assert all(stages.has_seen(event) for event in events)


def test_an_older_stage_that_is_stored_late_is_corrected() -> None:
    """A thread that has computed a stage, and is interrupted before it stores it by a later event, stores the later stage."""

    class Interrupted(Stages):
        """Leaves, as a signal's handler would, when SIGNAL has been computed and not stored."""

        is_interrupted = False

        def _reached(self, before: SessionEvent | None = None) -> Stage:
            reached = super()._reached(before)
            if reached is Stage.STOPPING and not self.is_interrupted:
                self.is_interrupted = True
                self.record(SessionEvent.LEAVE)
            return reached

    stages = Interrupted('a')
    stages.record(SessionEvent.ENTER)
    stages.record(SessionEvent.SIGNAL)
    assert stages.stage is Stage.LEAVING


def test_a_signal_just_before_the_block_is_entered() -> None:
    """A signal that comes when ENTER has been found allowed and is not recorded yet: ENTER is refused, and opens nothing."""

    class Interrupted(list[SessionEvent]):
        """Gets SIGNAL first, as from a signal's handler."""

        def append(self, event: SessionEvent) -> None:
            super().append(SessionEvent.SIGNAL)
            super().append(event)

    stages = Stages('a')
    stages._events = Interrupted()
    with pytest.raises(JobsyncError, match='is over, and cannot be entered'):
        stages.record(SessionEvent.ENTER)
    assert stages.stage is Stage.LEFT


def test_an_older_stage_that_is_stored_late_refuses_no_event() -> None:
    """An event is checked against the events so far: the stage may be one that another thread has computed before the last."""
    stages = after(SessionEvent.ENTER, SessionEvent.SIGNAL, SessionEvent.LEAVE)
    stages.stage = Stage.STOPPING
    stages.record(SessionEvent.END)
    assert stages.stage is Stage.LEFT
