"""The stages of a session, from a job that was never entered to one that has left, as one table.

Signal handlers, other threads and an event loop may all want a session to end, in any order and at any moment. So the events that
have happened are the state, and the stage follows from them: an append is one step, which no signal and no thread can interrupt,
and no event is lost to another one.
"""

from __future__ import annotations

import enum

from jobsync.errors import JobsyncError

__all__ = ['TRANSITIONS', 'SessionEvent', 'Stage', 'Stages']


class Stage(enum.Enum):
    """Where a session is."""

    NEW = 'new'
    """The block was not entered yet."""
    INSIDE = 'inside its block'
    """The block is being entered, or was entered."""
    STOPPING = 'stopping'
    """The block goes on, and no further task is started."""
    LEAVING = 'leaving'
    """The block is being left."""
    LEFT = 'over'
    """The session is over, or will never be entered."""


class SessionEvent(enum.Enum):
    """An event in the life of a session."""

    ENTER = 'entered'
    """The block is entered."""
    SIGNAL = 'stopped by a signal'
    """The first signal has come."""
    STOP = 'stopped by the program'
    """``__exit__`` was called where the block cannot be left: the node is to leave, and the block goes on."""
    HURRY = 'hurried'
    """A second signal has come, or entering or leaving was cancelled: leaving waits for no task in flight and no other node."""
    TIMEOUT = 'hurried by shutdown_timeout_sec'
    """The block has not ended in time after the signal: leaving waits for as little as after ``HURRY``."""
    LEAVE = 'left'
    """The block has ended, or ``__exit__`` was called where the block can be left."""
    END = 'ended'
    """The node has left the cluster, or could not in time: what the session has opened is closed."""


_STOPS = (SessionEvent.SIGNAL, SessionEvent.STOP, SessionEvent.HURRY, SessionEvent.TIMEOUT)

TRANSITIONS: dict[Stage, dict[SessionEvent, Stage]] = {
    Stage.NEW: {SessionEvent.ENTER: Stage.INSIDE, **dict.fromkeys((*_STOPS, SessionEvent.LEAVE), Stage.LEFT)},
    Stage.INSIDE: {**dict.fromkeys(_STOPS, Stage.STOPPING), SessionEvent.LEAVE: Stage.LEAVING},
    Stage.STOPPING: {**dict.fromkeys(_STOPS, Stage.STOPPING), SessionEvent.LEAVE: Stage.LEAVING},
    Stage.LEAVING: {**dict.fromkeys((*_STOPS, SessionEvent.LEAVE), Stage.LEAVING), SessionEvent.END: Stage.LEFT},
    Stage.LEFT: dict.fromkeys((*_STOPS, SessionEvent.LEAVE, SessionEvent.END), Stage.LEFT),
}
"""The stage that each event leads to. A stage refuses an event that it does not list."""


class Stages:
    """The stage of one session, and the events that led to it. Any thread and any signal handler may call any method."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._events: list[SessionEvent] = []
        self.stage = Stage.NEW

    def record(self, event: SessionEvent) -> None:
        """Add an event, and move to the stage it leads to. Raise ``JobsyncError`` if the stage before it refuses it."""
        # t=0  main thread: finds that NEW allows ENTER
        # t=1  a signal's handler: appends SIGNAL, and the session is over
        # t=2  main thread: appends ENTER, and opens a backend that no ``leave`` closes any more
        # So an event is appended first, and refused, if it is, by the events that came before it.
        is_new = event not in self._events
        if is_new:
            self._events.append(event)
        # t=0  main thread, in a signal's handler: appends SIGNAL, and computes STOPPING
        # t=1  another thread leaves: appends LEAVE, and stores LEAVING
        # t=2  main thread: stores STOPPING, computes again, and stores LEAVING
        # The last thread to store computes again afterwards, so the stage ends up right whatever the order.
        while self.stage is not (stage := self._reached()):
            self.stage = stage
        before = self._reached(event) if is_new else stage
        if event not in TRANSITIONS[before]:
            if is_new:
                self._events.remove(event)
            raise JobsyncError(f'job {self._node_name!r} is {before.value}, and cannot be {event.value}')

    def has_seen(self, event: SessionEvent) -> bool:
        """Return whether the event has happened."""
        return event in self._events

    @property
    def is_hurried(self) -> bool:
        """Return whether leaving waits for no task in flight and for no other node."""
        return self.has_seen(SessionEvent.HURRY) or self.has_seen(SessionEvent.TIMEOUT)

    def _reached(self, before: SessionEvent | None = None) -> Stage:
        """Return the stage that the events lead to, or those ``before`` one of them."""
        stage = Stage.NEW
        for event in self._events:
            if event is before:
                break
            stage = TRANSITIONS[stage].get(event, stage)
        return stage
