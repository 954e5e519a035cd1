"""A place that one worker of the whole cluster holds at a time: the ownership of one task, without a record of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.redact import cut_repr
from jobsync._event_log import EventLogger
from jobsync._runtime import clock
from jobsync._worker.session import Session
from jobsync._worker.task_log import TaskLog
from jobsync._worker.tracing import TurnSpan
from jobsync.config import checks
from jobsync.errors import JobsyncError, NotOwned

__all__ = ['POLL_SEC', 'Place', 'Singleton', 'SingletonBase', 'Turn', 'TurnBase']

_logger = EventLogger('jobsync.job')
T = TypeVar('T', bound='TurnBase')

POLL_SEC = 0.1
"""How often a wait checks what this node owns. No I/O."""


class TurnBase:
    """A span of time in which this worker alone holds a place; true until the turn is over.

    The turn is over as soon as the node is requested to give the place up or to leave, its lease ends, or the place is given
    back. Once seen to be over, it stays so.
    """

    def __init__(self, session: Session, key: str, token: int, *, is_held: bool) -> None:
        self._session, self._key, self._token = session, key, token
        self._is_over = not is_held
        self.is_seen = False
        """Whether the program has seen if the turn is true."""
        runtime = session.runtime
        lease = runtime.lease if is_held and runtime is not None else None
        self._fence = None if lease is None else lease.assignment.fence(lease.ref, key, token)

    def __bool__(self) -> bool:
        """Return whether the turn goes on. No I/O, no lock."""
        self._session.note_progress()
        self.is_seen = True
        if not self._is_over and not self._goes_on():
            self._is_over = True
        return not self._is_over

    def _pauses(self, seconds: float | None) -> Iterator[float]:
        """Yield how long to sleep between two tests of the turn, until it is over, or at most so many seconds."""
        checks.longest_wait.of('seconds', seconds)
        until = math.inf if seconds is None else clock.now() + seconds
        while self and (left := until - clock.now()) > 0:
            yield min(left, POLL_SEC)

    def end(self) -> None:
        """End the turn, before its place is given back."""
        # t=0  the body of a turn has started a thread that goes on while the turn is true, and ends
        # t=1  another worker of this node takes the place: the thread would go on beside it
        self._is_over = True

    def _goes_on(self) -> bool:
        runtime = self._session.runtime
        may_claim = runtime is None or runtime.lease.may_claim(self._key, self._token, clock.now)
        return may_claim and not self._session.is_leaving and self.holds_place()

    def holds_place(self) -> bool:
        """Return whether the place cannot have passed on since the turn began, though it may have a target. No I/O."""
        session = self._session
        if not session.is_same_process:
            return False
        runtime = session.runtime
        if runtime is None:
            return True
        # t=0   this turn begins; the process is stopped
        # t=20  another node has a turn; then the task comes back to this node
        # t=30  this process goes on: the task is this node's, but under a higher fence, so this turn is over
        return runtime.lease.keeps(self._key, self._token, self._fence, clock.now)

    @property
    def fence(self) -> int:
        """The number that is higher with every new owner, for ``jobsync.fencing``.

        Raises:
            NotOwned: The turn never began, or coordination is off.
        """
        self.is_seen = True
        if self._fence is None:
            has_cluster = self._session.config.enabled
            why = 'it does not hold this place' if has_cluster else 'there is no cluster, so there are no fences'
            raise NotOwned(f'node {self._session.node_name!r} has no fence for {cut_repr(self._key)}: {why}')
        return self._fence


class Turn(TurnBase):
    """A turn of ``job.singleton``: true while this worker alone holds the place."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the turn is over, at most so many seconds; return whether it goes on.

        Args:
            seconds: The longest wait. None: until the turn is over.

        Raises:
            ConfigError: ``seconds`` is neither a number nor None.
        """
        for pause_sec in self._pauses(seconds):
            time.sleep(pause_sec)
        return bool(self)


class Place:
    """The task that stands for a place, and how a worker takes it and gives it back."""

    def __init__(self, session: Session, task_log: TaskLog, key: str, token: int) -> None:
        self.session, self._task_log, self.key, self.token = session, task_log, key, token
        self._start: TaskStart | None = None
        """The last start by which this object has taken the place."""

    @property
    def is_free_here(self) -> bool:
        """Return whether this node owns the place now. No I/O, no lock."""
        runtime = self.session.runtime
        if runtime is None:
            return not self.session.config.enabled
        return runtime.lease.may_claim(self.key, self.token, clock.now)

    def take(self) -> bool:
        """Take the place for this worker: in flight, so that a hand-over waits. Return False if it is not to be had."""
        if self.session.is_over:  # another thread has left: the worker gets no turn, and no error
            return False
        self.session.check_inside()
        start = self._task_log.occupy(self.key, self.token)
        if start is not None:
            self._start = start
        return start is not None

    def give_back(self) -> None:
        """Give the place back, so that it may pass on. May be repeated, also when another worker has the place by now."""
        if self._start is not None:
            self._task_log.take_back(self._start)

    def warn_of_blind_body(self) -> None:
        """Log, once, that the body of a block has run without the place, and without a test of its turn."""
        if self.key not in self._task_log.blind_places:
            self._task_log.blind_places.add(self.key)
            _logger.warning(
                'node %r: the body of a block of %r has run while this worker did not hold the place. The block does not wait, '
                'so a body that does not test its turn runs on each node: with job.singleton(…) as turn, and in it "if turn:"',
                self.session.node_name,
                self.key,
            )


class SingletonBase:
    """A place that one worker of the whole cluster holds at a time."""

    def __init__(self, place: Place) -> None:
        self._place, self._is_held = place, False
        self._entry = [None]
        """Empty while a block or a loop uses this object: only one can take out what is there."""
        self._last_turn: TurnBase | None = None
        self._span = TurnSpan(place.session.node_name, place.key)

    def __del__(self) -> None:
        # t=0  a block ends, and ``__exit__`` is called; or a loop is left, which frees this object at once
        # t=1  a signal's handler raises before the first step of ``__exit__``: no worker would ever get the place
        self._give_back()

    def _take(self, turn: type[T]) -> T:
        place = self._place
        # t=0  thread A enters: another node has the place, so its turn is false
        # t=1  the place is this node's by now; thread B enters by the same object, and has a turn
        # t=2  the block of A ends, and would give the place back that B holds: a third worker would get it
        try:
            self._entry.pop()
        except IndexError:
            raise JobsyncError(
                f'{cut_repr(place.key)}: this very object is in use: make another one with job.singleton'
            ) from None
        try:
            self._is_held = place.take()
            if self._is_held:
                self._span.begin()
            taken = self._last_turn = turn(place.session, place.key, place.token, is_held=self._is_held)
        except BaseException:  # of the program's code, which runs where a span begins, or of a signal's handler
            self._give_back()
            raise
        return taken

    def _give_back(self, error: BaseException | None = None) -> None:
        try:
            if self._is_held:
                self._release(error)
        finally:
            self._entry[:] = [None]

    def _leave(self, error: BaseException | None) -> None:
        """Give the place back at the end of a block."""
        is_held, turn = self._is_held, self._last_turn
        self._give_back(error)
        if error is None and not is_held and turn is not None and not turn.is_seen:
            self._place.warn_of_blind_body()

    def _release(self, error: BaseException | None) -> None:
        try:
            self._end_turn()
        except BaseException:  # of a signal's handler
            self._end_turn()
            raise
        finally:
            self._is_held = False
            self._span.end(error)

    def _end_turn(self) -> None:
        if self._last_turn is not None:
            self._last_turn.end()
        self._place.give_back()


class Singleton(SingletonBase):
    """A place that one worker of the whole cluster holds at a time, for ``with`` and ``for`` (see ``Job.singleton``)."""

    def __enter__(self) -> Turn:
        """Take the place if it is to be had, without waiting. The turn is false from the start otherwise."""
        return self._take(Turn)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """Give the place back."""
        self._leave(exc)

    def __iter__(self) -> Iterator[Turn]:
        """Yield a turn each time this worker holds the place, until the node is to leave. Raise before the block."""
        place = self._place
        place.session.check_entered()  # or the loop would wait for a block that never begins
        while not place.session.is_leaving:
            place.session.note_progress()
            if place.is_free_here:
                with self as turn:
                    if turn:
                        yield turn
                        continue
            time.sleep(POLL_SEC)
