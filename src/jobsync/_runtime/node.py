"""The threads of one node: one for each of the agent's lanes that it needs, and a listener where the backend pushes.

The agent is used under one lock, which is held only for its decisions and never across a call of the backend. The user's threads
take no lock at all, since a signal whose handler leaves the cluster may interrupt them at any moment. They read single attributes
(``grant`` of the lease, ``status`` here), and store what they want of the node in single attributes; then they wake its threads
through a queue that is safe inside a signal handler.

**No thread here waits for a log.** A log handler may block for any time: on a pipe that no process reads, or on a lock that the
very thread holds which a signal has interrupted, while the signal's handler waits for this node to leave. So every line goes
through the event log (``jobsync._event_log``). Once the node is to leave, each thread serves all lanes: the thread that is free
first deregisters.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING

import attrs

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import AcquireLeadership, Command, DeclareDead, Lane, Register, Reply, named
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.agent.phase import Phase
from jobsync._core.config import NodeConfig
from jobsync._core.hashing import tokenizer
from jobsync._core.records import Leadership, NodeRef, Pulse
from jobsync._event_log import EventLogger
from jobsync._runtime import clock, threads
from jobsync._runtime.agent_log import AgentLog
from jobsync._runtime.callbacks import Callbacks, Functions
from jobsync._runtime.change_listener import ChangeListener
from jobsync._runtime.executor import execute
from jobsync._runtime.leader_record import record_leader
from jobsync._runtime.status import Status, status_of
from jobsync.backend import Backend
from jobsync.backends._common.importing import importing
from jobsync.errors import BackendUnavailable, JobsyncError, NameTaken

if TYPE_CHECKING:
    from jobsync._runtime.death_watch import DeathWatch

__all__ = ['NodeRuntime']

_logger = EventLogger('jobsync.node')
_SLEEP_SEC = 5.0
"""How long a lane sleeps at most."""
_AT_ONCE = -math.inf
_OVER = (Phase.LEFT, Phase.FAILED)
_POLL_SEC = 0.005
"""How often a thread that waits for the node's end reads its status. Reading is safe inside a signal handler."""
_ENDING_SEC, _ENDING_POLL_SEC = 1.0, 0.001
"""How long a thread that has closed the node waits for the threads to end, and the pauses between two checks."""


@attrs.frozen
class _LeaveRequest:
    """A request that the node leaves, and how."""

    at_once: bool
    worker: int | None
    """The worker whose tasks in flight are not waited for."""


class NodeRuntime:
    """An agent, the threads that run it, and the backend they call."""

    def __init__(
        self,
        backend: Backend,
        config: NodeConfig,
        functions: Functions | None = None,
    ) -> None:
        self._backend, self.config = backend, config
        self._token_of = tokenizer(config.settings.hash_function, config.settings.total_tokens)
        self.agent = Agent(config, self._token_of, _new_id, clock.now())
        self.lease = self.agent.lease
        """What the user's threads read."""
        self._lock = threading.Lock()
        lanes = [lane for lane in Lane if lane is not Lane.UPKEEP or config.retention_days is not None]
        self._bells: dict[Lane, threads.Queue[None]] = {lane: threads.new_queue() for lane in lanes}
        """Each lane that has a thread, and what its thread waits for. One that no thread empties would grow for ever."""
        self._agent_log = AgentLog(config.name)
        self.callbacks = Callbacks(
            config.name,
            functions or Functions(),
            config.handover_timeout_sec,
            lease_end=lambda: self.lease.deadline,
            check_lease=self._check_lease,
            release=self._release,
        )
        self.death_watch: DeathWatch | None = None
        self._lost: dict[Lane, Command | None] = dict.fromkeys(Lane)
        """For each lane the call that an unexpected error has ended: the agent is to be given no answer to it."""
        self._leave_requests: list[_LeaveRequest] = []
        self._weight_wanted: float | None = None
        self.status = Status(Phase.OPENING)
        self.heartbeat_at: float | None = None
        """When the last successful heartbeat was sent, by the wall clock; for people."""
        self.trouble: JobsyncError | None = None
        """The error of the last call that was not a heartbeat; None if it succeeded."""
        self._change_listener = ChangeListener(backend, self.take_hint, lambda: self.agent.known_revision, lambda: self._is_done)
        self._threads: dict[str, tuple[threads.Running, Callable[[], bool]]] = {}
        """Each thread, and its step, by what it does."""
        self._recording: threads.Running | None = None
        """The thread that records that this node leads."""

    def watch_deaths(self, base: str | None) -> None:
        """Hold a lock that proves this process alive, and watch those of others on this host. To be called before ``start``."""
        with importing():
            from jobsync._runtime.death_watch import DeathWatch  # only now: a node that is to know nothing needs none of it

        self.death_watch = DeathWatch(self.config.name, base, self._take_death)

    def start(self) -> None:
        """Start the threads."""
        _running.add(self)
        self.callbacks.start()
        if self.death_watch is not None:
            self.death_watch.start(self.start_thread)
        for lane in self._bells:
            self.start_thread(lane.value, partial(self._run, lane))
        if self._backend.info.push:
            self.start_thread('listen', self._listen)

    def start_thread(self, what: str, step: Callable[[], bool]) -> None:
        """Repeat a step in a thread of its own until it returns False, whatever it raises.

        Raises ``RuntimeError`` if the process can start no thread now.
        """

        def run() -> None:
            threads.duty.serves_a_node = True
            threads.keep_on(self.config.name, f'the {what} thread', step, self.config.retry_sec)
            self._threads.pop(what, None)

        self._threads[what] = threads.start(self.config.name, what, run), step

    def _replace_ended(self, lane: Lane) -> None:
        """Start each thread anew that an error has ended outside all that catches one. Called by the thread of a lane."""
        # t=0  there is no memory for a step of the thread that sends heartbeats, on its way from one try to the next: it ends
        # t=1  the lease ends, and no other thread would send a heartbeat for as long as the process runs
        # Heartbeats are not to wait for the start of another thread: theirs replaces only the one that replaces all others.
        for what, (thread, step) in list(self._threads.items()):
            replaced_by = Lane.HEARTBEAT if what == Lane.WORK.value else Lane.WORK
            if lane is replaced_by and not (thread.is_alive() or self._is_done):
                with suppress(RuntimeError):  # the process can start no thread now: the next step tries again
                    self.start_thread(what, step)
                    _logger.error('node %r: the %s thread had ended by an error, and was started anew', self.config.name, what)

    # --- for the user's threads: no locks -----------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Return whether the node has left, or cannot go on."""
        return self.status.phase in _OVER

    def wake(self) -> None:
        """Wake the threads of all lanes."""
        for bell in self._bells.values():
            bell.put(None)

    def request_leave(self, at_once: bool = False, worker: int | None = None) -> None:
        """Have the node leave (see ``Agent.leave``). Does not wait. May be called again, to change how."""
        # t=0  main thread: leaves, and is about to store its request
        # t=1  a second signal's handler, in the midst of it: stores a request to leave at once
        # t=2  main thread: stores its own
        # An append keeps both. One request merged from the last would have been read before t=1, and would lose the handler's.
        self._leave_requests.append(_LeaveRequest(at_once, worker))
        self.wake()

    def request_weight(self, weight: float) -> None:
        """Have the node take this weight. Does not wait."""
        self._weight_wanted = weight
        self.wake()

    def wait_until_over(self, timeout: float) -> bool:
        """Wait until the node has left, at most ``timeout`` seconds after its last task in flight.

        Return whether it has left, or had not begun to join.
        """
        deadline = time.monotonic() + timeout
        latest = deadline + self.config.shutdown_timeout_sec
        # No other thread makes the node leave: that of the deaths goes on where entering could start none of these.
        lanes = {lane.value for lane in self._bells}
        while not self.is_over and any(what in lanes and thread.is_alive() for what, (thread, _) in list(self._threads.items())):
            moment = time.monotonic()
            if self.status.stays:
                deadline = min(latest, moment + timeout)
            if moment >= deadline:
                return False
            time.sleep(_POLL_SEC)
        return self.is_over or self.status.phase is Phase.OPENING

    def close(self) -> None:
        """End the threads, whether or not the node could leave. To be called after ``wait_until_over``."""
        _running.discard(self)
        self.wake()
        if self.death_watch is not None:
            self.death_watch.close(has_left=self.status.phase is Phase.LEFT)
        self.callbacks.close()

    def wait_for_record(self) -> None:
        """Wait a moment for the record that this node leads. To be called before the backend is closed."""
        # t=0  the workers of a cluster are stopped one after the other: this node leads, and is leaving already
        # t=1  it has left, and closes its backend; the thread that records the leader has not made its call
        until = time.monotonic() + _ENDING_SEC
        while self._recording is not None and self._recording.is_alive() and time.monotonic() < until:
            time.sleep(_ENDING_POLL_SEC)

    def wait_for_threads(self) -> None:
        """Wait a moment until the threads have ended. To be called after ``close``, and once the backend is closed."""
        # t=0  the threads are about to end, and the program ends
        # t=1  a library that they are in, such as gevent, takes itself apart at the end of the process: that crashes
        # A thread that waits for a store which does not answer may take longer than a person who stops a program waits.
        until, has_waited = time.monotonic() + _ENDING_SEC, False
        while any(thread.is_alive() for thread, _ in list(self._threads.values())) and time.monotonic() < until:
            time.sleep(_ENDING_POLL_SEC)
            has_waited = True
        if has_waited:
            time.sleep(_ENDING_POLL_SEC)  # the end of a thread comes just after what it does last

    # --- the threads --------------------------------------------------------------------------------------------------------

    @property
    def _is_done(self) -> bool:
        return self.is_over or self not in _running

    def _run(self, lane: Lane) -> bool:
        """Serve the lane, and all of them once the node is to leave; then sleep. Return False once there is no more to do."""
        if self._is_done:
            return False
        self._replace_ended(lane)
        due = [self._serve(each) for each in (tuple(Lane) if self._leave_requests else (lane,))]
        self.callbacks.abandon_hung_call()
        self._sleep(lane, min(due))
        return True

    def _serve(self, lane: Lane) -> float:
        """Make the lane's next call, if it is due; return when to try again."""
        call: Command | float = math.inf
        try:
            with self._lock:
                if (lost := self._lost[lane]) is not None:
                    self.agent.give_up(lane, lost, clock.now())
                    self._lost[lane] = None
                if self._weight_wanted is not None:
                    self.agent.set_weight(self._weight_wanted)
                if requests := tuple(self._leave_requests):
                    workers = frozenset(request.worker for request in requests if request.worker is not None)
                    self.agent.leave(clock.now(), any(request.at_once for request in requests), workers)
                call = self.agent.next(lane, clock.now())
                self._step_taken('')
            if isinstance(call, (int, float)):
                return call
            self._make(lane, call)
        except BaseException:
            # t=0  the agent has issued a heartbeat, and there is no memory for what comes before it or after it
            # t=1  this thread goes on: with the heartbeat counted as under way, the lane would wait for its end for ever
            # So the next step gives it up. To take note of it needs no memory: the key is there.
            if not isinstance(call, (int, float)):
                self._lost[lane] = call
            raise
        for other, bell in self._bells.items():
            if other is not lane:
                bell.put(None)
        return _AT_ONCE

    def _make(self, lane: Lane, call: Command) -> None:
        """Make a call that the agent has issued, and give the agent its outcome."""
        sent_at = time.time()
        outcome = self._perform(call)
        name = named(call)
        with self._lock:
            answered = self.agent.done(lane, outcome, clock.now())
            if isinstance(outcome, Pulse):
                self.heartbeat_at = sent_at
            if lane is Lane.WORK:
                self.trouble = outcome if isinstance(outcome, JobsyncError) and not answered else None
            if answered:
                self._agent_log.succeeded(name)
            self._step_taken(name)

    def _perform(self, call: Command) -> Reply:
        watch = self.death_watch
        try:
            if watch is not None and isinstance(call, Register):
                watch.hold(call.node.ref.incarnation)
            reply = execute(self._backend, call, self._token_of)
            if watch is not None and isinstance(call, DeclareDead):
                watch.made_known(call.ref)
            if isinstance(call, AcquireLeadership) and isinstance(reply, Leadership) and reply.node == call.ref:
                self._record_leader(reply)
        except JobsyncError as error:
            if watch is not None and isinstance(error, NameTaken) and watch.is_over(error.record.ref):
                self._take_death(error.record.ref)
            return error
        except BaseException as error:
            if self._agent_log.is_due(named(call)):
                _logger.exception('node %r: %s raised what no backend should', self.config.name, type(call).__name__)
            return BackendUnavailable(f'unexpected {type(error).__name__}: {error}')
        return reply

    def _record_leader(self, leadership: Leadership) -> None:
        """Record the leader on a thread of its own: the tokens of the one before wait for its first commit."""
        snapshot = self.agent.snapshot
        before = snapshot.leadership if snapshot is not None else None
        node = before.node if before and before.epoch == leadership.epoch - 1 else None
        try:
            make = partial(record_leader, self._backend, leadership, node)
            self._recording = threads.start(self.config.name, 'record', make)
        except RuntimeError as error:
            _logger.warning('epoch %d has no record of its leader: %s', leadership.epoch, error)

    def _check_lease(self) -> None:
        with self._lock:
            self.lease.declare_end(clock.now())
            self._step_taken('')

    def _take_death(self, ref: NodeRef) -> None:
        with self._lock:
            self.agent.know_dead(ref)
        self.wake()

    def _release(self, tokens: frozenset[int]) -> None:
        """Let tokens pass on: ``on_revoke`` has returned."""
        with self._lock:
            self.lease.release(tokens)
        self.wake()

    def _step_taken(self, call: str) -> None:
        """Log and hand on what happened, then publish the status. Under the lock."""
        agent = self.agent
        while agent.events:
            # t=0  the lease is over, and there is no memory for the line in the log that says so
            # t=1  the next step goes on with the event behind it: ``on_lost`` is called
            # So a line may be left out, and a change of the tokens may not: it leaves the list once it is handed on.
            event = agent.events[0]
            if isinstance(event, OwnershipChanged):
                if not self.callbacks.holds:
                    agent.lease.release(event.asked)
                self.callbacks.put(event)
            del agent.events[0]
            if isinstance(event, LogMessage):
                self._agent_log.write(event, call)
        if self.death_watch is not None:
            self.death_watch.take_members(agent.lease.assignment.members)
        self.status = status_of(self.agent, clock.now())

    def _sleep(self, lane: Lane, until: float) -> None:
        """Wait until the lane has something to do, or is woken."""
        bell = self._bells[lane]
        # t=0  this thread has served its lane: nothing to do for 5 s
        # t=1  another thread stores a request, and rings the bell
        # t=2  this thread sleeps: the bell is a queue, so it has kept the ring, and get() returns at once
        try:
            if (seconds := until - clock.now()) > 0:
                bell.get(timeout=min(seconds, _SLEEP_SEC))
            while True:
                bell.get_nowait()
        except Empty:
            pass

    def _listen(self) -> bool:
        """Wait for a change hint, and wake the other threads if it concerns this node. Only latency depends on this."""
        if self._is_done:
            return False
        self._change_listener.listen()
        return True

    def take_hint(self, revision: int) -> bool:
        """Wake the node's threads if a change concerns this node; return whether it does, or the node leaves."""
        with self._lock:
            is_due = self.agent.hint(revision, clock.now())
        if is_due:
            self.wake()
        # The changes that a node makes as it leaves are no burst of others': the end of its block would wait for a pause.
        return is_due or bool(self._leave_requests)


def _new_id() -> str:
    return os.urandom(16).hex()


_running: weakref.WeakSet[NodeRuntime] = weakref.WeakSet()


def _forget_in_child() -> None:
    """Drop the lease in a forked child, which has none of the threads, and is not the process that has the lease."""
    for runtime in list(_running):
        runtime.lease.forget()
        runtime.status = attrs.evolve(runtime.status, phase=Phase.FAILED)


os.register_at_fork(after_in_child=_forget_in_child)
