"""Running one node: two threads for the agent's two lanes, and a listener where the backend pushes.

The agent is touched under one lock, held only for its decisions and never across a call of the backend. The user's threads take
no lock at all, for any of them may be interrupted at any moment by a signal whose handler leaves the cluster: what they need
is read from single attributes (``ownership`` and ``deadline`` of the agent, ``status`` here), and what they want is put as a wish
into a queue that is safe inside a signal handler.

**No thread here waits for a log.** A log handler may block for as long as it likes: on a pipe that nobody reads, or on a lock
that the very thread holds which a signal has interrupted, while the signal's handler waits for this node to leave. So every line
goes by way of the event log (``jobsync._event_log``). Once the node is to leave each thread serves both lanes: whichever is free
deregisters.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from queue import Empty, SimpleQueue

import attrs

from jobsync._core.agent.agent import Agent, Phase
from jobsync._core.agent.commands import Command, Lane, Reply
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.config import NodeConfig
from jobsync._core.hashing import tokenizer
from jobsync._core.records import Node, Pulse, Unreadable
from jobsync._event_log import EventLogger, event_log
from jobsync._runtime.callbacks import Callbacks, Functions
from jobsync._runtime.clock import now
from jobsync._runtime.executor import execute
from jobsync._runtime.reporting import Reporter
from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['NodeRuntime', 'Status']

_logger = EventLogger('jobsync.node')
_LISTEN_SEC = 5.0
_AT_ONCE, _NEVER = float('-inf'), float('inf')
_POLL_SEC = 0.005
"""How often a thread that waits for the end looks whether it has come: a plain look is safe inside a signal handler."""


@attrs.frozen
class Status:
    """How the node stands, as of its last step."""

    phase: Phase
    planned: bool
    """Part of the plan, and in possession of what that gives it now: perhaps nothing, while others have yet to let go."""
    settled: bool
    """In possession of its whole share."""
    leads: bool
    stays: bool
    """On its way out, and still busy."""
    distributed: bool
    """The cluster has had its first distribution, with this node or without."""
    registered_nodes: int
    """As last read; 0 before the first reading."""
    failure: JobsyncError | None
    unreadable: tuple[Unreadable, ...] = ()
    """The records that could not be read in full."""
    log_lines_dropped: int = 0
    """Lines that never reached the log, of all jobsync in this process: the log was blocked, or refused them by raising."""


@attrs.frozen
class _Wish:
    """How to leave."""

    at_once: bool
    thread: int | None


class NodeRuntime:
    """An agent at work."""

    def __init__(
        self,
        backend: Backend,
        config: NodeConfig,
        functions: Functions | None = None,
    ) -> None:
        self._backend = backend
        self._token_of = tokenizer(config.settings.hash_function, config.settings.total_tokens)
        self.agent = Agent(config, self._token_of, _new_id, now())
        self._lock = threading.Lock()
        self._bells: dict[Lane, SimpleQueue[None]] = {lane: SimpleQueue() for lane in Lane}
        self._reporter = Reporter(config.name)
        self._callbacks = Callbacks(
            config.name,
            functions or Functions(),
            config.handover_timeout_sec,
            lease_end=lambda: self.agent.lease.deadline,
            look_at_lease=self._look_at_lease,
            release=self._release,
        )
        self._leave_wanted: _Wish | None = None
        self._weight_wanted: float | None = None
        self.status = Status(Phase.OPENING, False, False, False, False, False, 0, None)
        self.heartbeat_at: float | None = None
        """Wall time at which the last successful heartbeat was sent; for people."""
        self.trouble: JobsyncError | None = None
        """Why the last call that was not a heartbeat failed, if it did."""
        name = config.name
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f'jobsync-{lane.value}-{name}', daemon=True) for lane in Lane
        ]
        if backend.info.push:
            self._threads.append(threading.Thread(target=self._listen, name=f'jobsync-listen-{name}', daemon=True))

    def start(self) -> None:
        """Begin."""
        _running.add(self)
        self._callbacks.start()
        for thread in self._threads:
            thread.start()

    # --- for the user's threads: no locks ------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the node has left, or cannot go on."""
        return self.status.phase in (Phase.LEFT, Phase.FAILED)

    def poke(self) -> None:
        """Have both lanes look again now."""
        for bell in self._bells.values():
            bell.put(None)

    def ask_to_leave(self, at_once: bool = False, thread: int | None = None) -> None:
        """Want to leave (see ``Agent.leave``); does not wait. May be called again, to change how."""
        before = self._leave_wanted or _Wish(False, None)
        self._leave_wanted = _Wish(at_once or before.at_once, before.thread if thread is None else thread)
        self.poke()

    def ask_for_weight(self, weight: float) -> None:
        """Want this weight; does not wait."""
        self._weight_wanted = weight
        self.poke()

    def wait_until_over(self, timeout: float) -> bool:
        """Wait until the node has left, at most ``timeout`` seconds from when it is busy no more; say whether it has."""
        deadline = time.monotonic() + timeout
        latest = deadline + self.agent.config.shutdown_timeout_sec
        while not self.is_over and any(thread.is_alive() for thread in self._threads):
            moment = time.monotonic()
            if self.status.stays:
                deadline = min(latest, moment + timeout)
            if moment >= deadline:
                return False
            time.sleep(_POLL_SEC)
        return True

    def close(self) -> None:
        """Release the threads, whether or not the node could leave. After ``ask_to_leave`` and the wait for it."""
        _running.discard(self)
        self.poke()
        self._callbacks.close()

    def wait_until_told(self, timeout: float) -> bool:
        """After ``close``: wait until the user's functions have been told all; say whether they have."""
        return self._callbacks.wait_until_told(timeout)

    # --- the threads -----------------------------------------------------------------------------------------------------------

    @property
    def _is_done(self) -> bool:
        return self.is_over or self not in _running

    def _run(self, lane: Lane) -> None:
        while not self._is_done:
            try:
                due = [self._serve(each) for each in (tuple(Lane) if self._leave_wanted else (lane,))]
                self._callbacks.look_for_a_hang()
                self._sleep(lane, min(due))
            except BaseException:
                _logger.exception('node %r: the %s thread goes on after an unexpected error', self.agent.config.name, lane.value)
                time.sleep(self.agent.config.retry_sec)

    def _serve(self, lane: Lane) -> float:
        """Make the lane's next call, if it is time; say when to look again."""
        with self._lock:
            if self._weight_wanted is not None:
                self.agent.weigh(self._weight_wanted)
            if self._leave_wanted is not None:
                self.agent.leave(now(), self._leave_wanted.at_once, self._leave_wanted.thread)
            call = self.agent.next(lane, now())
            self._step_taken('')
        if call is None or isinstance(call, (int, float)):
            return _NEVER if call is None else call
        sent_at = time.time()
        outcome = self._perform(call)
        name = type(call).__name__.lower()
        with self._lock:
            answered = self.agent.done(lane, outcome, now())
            if isinstance(outcome, Pulse):
                self.heartbeat_at = sent_at
            if lane is Lane.WORK:
                self.trouble = outcome if isinstance(outcome, JobsyncError) and not answered else None
            if answered:
                self._reporter.succeeded(name)
            self._step_taken(name)
        for other in Lane:
            if other is not lane:
                self._bells[other].put(None)
        return _AT_ONCE

    def _perform(self, call: Command) -> Reply:
        try:
            return execute(self._backend, call, self._token_of)
        except JobsyncError as error:
            return error
        except BaseException as error:
            _logger.exception('node %r: %s raised what no backend should', self.agent.config.name, type(call).__name__)
            return BackendUnavailable(f'unexpected {type(error).__name__}: {error}')

    def _look_at_lease(self) -> None:
        """Have the agent say whether the lease has ended."""
        with self._lock:
            self.agent.lease.look_at_lease(now())
            self._step_taken('')

    def _release(self, tokens: frozenset[int]) -> None:
        """The user has been told that these tokens go."""
        with self._lock:
            self.agent.lease.release(tokens)
        self.poke()

    def _step_taken(self, call: str) -> None:
        """Note what happened, then publish the status; under the lock."""
        agent = self.agent
        events, agent.events = agent.events, []
        self._reporter.note((event for event in events if isinstance(event, LogMessage)), call)
        for event in events:
            if isinstance(event, OwnershipChanged):
                if not self._callbacks.holds:
                    agent.lease.release(event.asked)
                self._callbacks.put(event)
        snapshot = agent.snapshot
        self.status = Status(
            phase=agent.phase,
            planned=agent.is_planned,
            settled=agent.is_settled,
            leads=agent.epoch is not None,
            stays=agent.phase is Phase.LEAVING and agent.is_staying(now()),
            distributed=bool(agent.lease.assignment.members),
            registered_nodes=0 if snapshot is None else len(_joined(snapshot.nodes)),
            failure=agent.failure,
            unreadable=agent.unreadable,
            log_lines_dropped=event_log.dropped,
        )

    def _sleep(self, lane: Lane, until: float) -> None:
        """Until the agent wants to be asked again, or the bell rings."""
        bell = self._bells[lane]
        try:
            if (seconds := until - now()) > 0:
                bell.get(timeout=min(seconds, _LISTEN_SEC))
            while True:
                bell.get_nowait()
        except Empty:
            pass

    def _listen(self) -> None:
        """Wait for change hints. Nothing but latency depends on this thread."""
        known = 0
        while not self._is_done:
            started = time.monotonic()
            try:
                revision = self._backend.wait(known, _LISTEN_SEC)
            except BackendUnavailable:
                revision = known
            except BaseException:
                _logger.exception('node %r: waiting for changes failed', self.agent.config.name)
                revision = known
            if revision > known:
                with self._lock:
                    self.agent.hint(revision, now())
                self.poke()
            elif time.monotonic() - started < _LISTEN_SEC / 2:
                time.sleep(0.1)
            known = revision


def _joined(nodes: tuple[Node, ...]) -> list[Node]:
    return [node for node in nodes if node.last_heartbeat is not None]


def _new_id() -> str:
    return os.urandom(16).hex()


_running: weakref.WeakSet[NodeRuntime] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child has none of the threads and is not the process that was given the lease: it owns nothing."""
    for runtime in list(_running):
        runtime.agent.lease.forget()
        runtime.status = attrs.evolve(runtime.status, phase=Phase.FAILED)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_in_child)
