"""The functions that ``every`` has registered: one thread checks what is due, and each tick has a thread of its own."""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from concurrent.futures import CancelledError
from functools import partial

from jobsync._core.records import NodeRef
from jobsync._event_log import EventLogger
from jobsync._runtime import clock, threads
from jobsync._worker.session import Session
from jobsync._worker.singleton import POLL_SEC
from jobsync._worker.stages import Stage
from jobsync._worker.store_clock import StoreClock
from jobsync._worker.ticks import Scheduled, Start, Tick, TickRecord, decide, is_known
from jobsync._worker.tracing import tick_span
from jobsync.config.callables import check_has_run
from jobsync.errors import ConfigError, JobsyncError

__all__ = ['Scheduler']

_logger = EventLogger('jobsync.job')

_TAKEOVER_SEC = 2.0
"""How long the change of an owner may take beyond ``heartbeat_timeout_sec`` (promise P3)."""
_AGAIN_SEC = 1.0
"""How long to wait before a tick is tried again that could not begin."""
_MOST_BEGINNING, _ROOM_SEC = 8, 0.01
"""How many ticks are begun at a time, at most, and after how long to try again. Each takes a connection to the store for that."""
_CHECK_SEC = 60.0
"""How often, at least, the store's clock is read for the next tick."""


class Scheduler:
    """Runs the scheduled functions of one job from its entering to its leaving."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.clock = StoreClock(session)
        self._all: dict[str, Scheduled] = {}
        self._beginning: dict[Scheduled, None] = {}
        """The functions with a tick whose thread has not called the function yet, and is not over as far as is known."""
        self._starting = threading.Lock()
        self._turn: object = None
        """The turn of the thread that checks what is due: each has one of its own. None before the first."""
        self._grace = dt.timedelta(seconds=session.config.heartbeat_timeout_sec + _TAKEOVER_SEC)

    def add(self, scheduled: Scheduled) -> None:
        """Add a function. Raise ``ConfigError`` if there is one of its name."""
        # t=0  the function is in the table, and no thread can be started now, which is an error
        # t=1  it tries again: the name would be taken, by a function that no thread runs
        try:
            if is_new := self._all.setdefault(scheduled.name, scheduled) is scheduled:
                self.start()
        except BaseException:
            if self._all.get(scheduled.name) is scheduled:
                self._all.pop(scheduled.name, None)
            raise
        if not is_new:
            raise ConfigError(
                f'name is {scheduled.name!r}: must be another one, since a function of that name is scheduled already'
            )

    def start(self) -> None:
        """Start the thread, if there is a function and the job is inside its block."""
        with self._starting:
            if self._all and self._turn is None and self._session.stages.stage is Stage.INSIDE:
                # t=0  the thread begins; a signal's handler raises before that is known here, and the program goes on
                # t=1  the next function starts another thread: the first one finds that it is not its turn, and ends
                try:
                    turn = self._turn = object()
                    if self._session.runtime is None:
                        threads.start(self._session.node_name, 'every', partial(self._run, turn))
                    else:
                        self._session.runtime.start_thread('every', partial(self._step_all, turn))
                except BaseException as error:  # the next function tries again
                    self._turn = None
                    if not isinstance(error, RuntimeError):
                        raise
                    raise JobsyncError(f'job {self._session.node_name!r}: no thread for the schedule: {error}') from error

    def _run(self, turn: object) -> None:
        threads.keep_on(self._session.node_name, 'the schedule thread', partial(self._step_all, turn), _AGAIN_SEC)

    def _step_all(self, turn: object) -> bool:
        """Begin the ticks that are due, and sleep until the next, for a short time at most.

        Return False once the job leaves, or it is the turn of another thread.
        """
        if self._session.is_leaving or turn is not self._turn:
            return False
        try:
            until = min((self.step(each) for each in list(self._all.values())), default=math.inf)
        except JobsyncError:  # the job is over
            until = clock.now() + POLL_SEC
        time.sleep(min(max(until - clock.now(), 0.0), POLL_SEC))
        return True

    def step(self, each: Scheduled) -> float:
        """Begin the tick that is due, if this node is to run it; return when to call again, on the clock of leases."""
        if each.holder is not None and each.holder is each.attempt and not each.is_busy:
            # t=0  a tick is over, and there is no memory to give the place back: its thread ends
            # t=1  the next tick is due, and finds the place taken
            # But not the place of a thread that began so late that it counted as one that could not start: it may be at work.
            self._give_back(each)
        if each.is_busy or not each.place.is_free_here:
            return clock.now() + POLL_SEC
        if clock.now() < each.check_at:
            return each.check_at
        # t=0  it is midnight, and this node has the places of a thousand functions: a thread of each is to record its tick
        # t=1  each has a connection of its own: the server refuses those of all other nodes, and their heartbeats
        if len(self._beginning) >= _MOST_BEGINNING:
            for other in list(self._beginning):
                if not other.is_busy:
                    self._beginning.pop(other, None)
            return clock.now() + _ROOM_SEC
        moment = self.clock.read()
        if moment is None:
            return clock.now() + POLL_SEC
        tick = each.schedule.latest(moment)
        # Never back, even if the store's clock is set back: a tick before the last one is not due.
        if tick is not None and (each.handled is None or tick > each.handled):
            return self._begin(each, tick, moment - tick)
        if each.handled is not None and each.handled > moment + self._grace and each.handled != each.awaited:
            each.awaited = each.handled
            text = "node %r: the store's clock was set back to %s: %r runs again after its tick of %s, which was the last"
            _logger.warning(text, self._session.node_name, moment.isoformat(), each.name, each.handled.isoformat())
        following = each.schedule.following(moment)
        wait = _CHECK_SEC if following is None else min(_CHECK_SEC, (following - moment).total_seconds())
        each.check_at = clock.now() + wait
        return each.check_at

    def _begin(self, each: Scheduled, moment: dt.datetime, late: dt.timedelta) -> float:
        try:
            attempt = object()
            self._beginning[each] = None
            each.thread = threads.start(self._session.node_name, 'tick', partial(self._attempt, each, attempt, moment, late))
            each.attempt = attempt
        except RuntimeError:  # the process cannot start another thread now
            self._beginning.pop(each, None)
            each.check_at = clock.now() + _AGAIN_SEC
        return clock.now() + POLL_SEC

    def _give_back(self, each: Scheduled) -> None:
        each.place.give_back()
        each.holder = None

    # --- the thread of a tick -----------------------------------------------------------------------------------------------

    def _attempt(self, each: Scheduled, attempt: object, moment: dt.datetime, late: dt.timedelta) -> None:
        check_at = -math.inf
        try:
            # The run is read before the place is taken: what the store refuses to this run is not begun by the next.
            ref = None if self._session.runtime is None else self._session.runtime.agent.ref
            if each.place.take():
                each.holder = attempt
                try:
                    tick = Tick(each, moment)
                    record = TickRecord(self._session, tick, runs_missed=each.runs_missed)
                    start = self._decide(each, moment, record, ref, is_late=late > self._grace)
                    is_to_do = record.begin(ref) if start is Start.RUN else False
                    if is_to_do:
                        each.unbegun = None
                    if start is Start.WAIT or is_to_do is None:
                        check_at = clock.now() + _AGAIN_SEC
                    else:
                        each.handled, before = moment, each.handled
                        if is_to_do and not self._call(each, tick):
                            record.fail(ref)
                        elif is_to_do and not record.complete(ref):
                            each.handled = before  # its owner, which may be this node, decides about it anew
                finally:
                    self._give_back(each)
        except JobsyncError as error:
            check_at = clock.now() + _AGAIN_SEC
            if not self._session.is_over:
                _logger.warning('node %r: a tick of %r is tried again: %s', self._session.node_name, each.name, error)
        except Exception:
            check_at = clock.now() + _AGAIN_SEC
            _logger.exception('node %r: a tick of %r is tried again', self._session.node_name, each.name)
        finally:
            self._beginning.pop(each, None)
            each.check_at = check_at

    def _decide(self, each: Scheduled, moment: dt.datetime, record: TickRecord, ref: NodeRef | None, *, is_late: bool) -> Start:
        # t=0  this run finds no claim, and makes one; its lease has ended meanwhile: the tick is not begun, nor that recorded
        # t=1  its lease goes on: its own claim, if it is the only one, says nothing about the tick
        # The run is the same, so no other process has claimed the tick under this node's name.
        is_unbegun = each.unbegun == (moment, ref)
        claims = record.read_claims(is_unbegun_here=is_unbegun)
        claim = claims[0] if claims else None
        if claim is not None and record.is_complete:
            return Start.LEAVE_OUT
        is_new = claim is None and is_late and each.runs_missed and not is_unbegun
        start = decide(
            is_late=is_late,
            is_begun=claim is not None,
            is_in_hand=each.runs_missed and any(map(record.is_in_hand, claims)),
            runs_missed=each.runs_missed,
            is_known=is_unbegun or (is_new and is_known(self._session, each, moment)),
        )
        each.unbegun = (moment, ref) if claim is None else None
        if claim is not None and start is Start.RUN and record.complete_for_its_node():
            return Start.LEAVE_OUT
        if claim is not None and start is not Start.WAIT:
            rest = 'is run again' if start is Start.RUN else "is not run again, as its misfire is 'skip'"
            text = 'node %r: the tick of %r at %s was begun by %r and never completed; it %s'
            _logger.warning(text, self._session.node_name, each.name, moment.isoformat(), claim.node, rest)
        return start

    def _call(self, each: Scheduled, tick: Tick) -> bool:
        self._beginning.pop(each, None)
        try:
            with tick_span(self._session.node_name, tick.id):
                check_has_run('function', each.function(tick))
        except CancelledError:  # by an AsyncJob that leaves
            _logger.warning(
                'node %r: tick %s was cancelled before its end, and stays incomplete', self._session.node_name, tick.id
            )
            return False
        except BaseException:
            _logger.exception('node %r: tick %s raised, and stays incomplete', self._session.node_name, tick.id)
            return False
        finally:
            tick.end()
        return True
