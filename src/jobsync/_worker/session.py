"""A job's way into its cluster and out of it, and what the job has only in between."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from jobsync._core.agent.lease import Lease
from jobsync._core.assignment import Assignment
from jobsync._event_log import EventLogger, event_log
from jobsync._runtime import NodeRuntime, clock, threads
from jobsync._runtime.callbacks import Functions
from jobsync._runtime.process_mark import new_mark
from jobsync._runtime.startup import node_config, refuse_patched_threads, refuse_unlocked_threads, wait_until_entered
from jobsync._threads import others_run
from jobsync._worker.beside import call_beside
from jobsync._worker.connecting import backend_for, import_needed_later
from jobsync._worker.refusals import without_chain
from jobsync._worker.stages import SessionEvent, Stage, Stages
from jobsync._worker.store_calls import StoreCalls, worker_id
from jobsync.backend import Backend, Reach, Snapshot
from jobsync.backends._common.importing import importing
from jobsync.config import CoordinationConfig
from jobsync.errors import ConfigError, JobsyncError, WrongProcess

if TYPE_CHECKING:
    from jobsync.database import Connection

__all__ = ['Session']

_logger = EventLogger('jobsync.job')

# Read for each task of a loop: a member of an enum class takes several times as long to read as a constant.
_RUNNING = (Stage.NEW, Stage.INSIDE)
_LEFT = Stage.LEFT


class Session:
    """One stay in the cluster; with coordination off, only the use of the backend, if there is one.

    **Signals.** ``leave`` may be called by a signal handler that has interrupted any step of any method here, in this very
    thread. So there is no lock here, and ``leave`` works after each step: an object is stored before it is started, and the
    event that ends a session is recorded before anything is read.
    """

    def __init__(self, node_name: str, config: CoordinationConfig, create: bool) -> None:
        """Store the parts. ``create``: whether the store's tables may be made."""
        self.node_name, self.config, self._create = node_name, config, create
        # t=0   the store is away, and a worker waits in a call of its job until it is back
        # t=10  progress_timeout_sec is over: if that counted as a worker that hangs, an outage would move its share (promise P4)
        call_thread = f'jobsync-calls-{node_name}' if config.enabled else None
        self.caller = StoreCalls(2 * config.op_timeout_sec, call_thread, self.waiting)
        self.runtime: NodeRuntime | None = None
        self.is_preparing = False
        """Whether a ``lock_provider`` runs: this node owns nothing before it has ended."""
        self._weight: float | None = None
        """The weight that the program has given the node meanwhile."""
        self._has_raised = False
        """Whether ``raise_failure`` has raised what stopped the node."""
        self.lease: Lease | None = None
        """The lease that ``can_claim_task`` reads. None before the runtime has one, and once the session is to end."""
        self.stages = Stages(node_name)
        self.instrument: Callable[[Backend], Backend] = lambda backend: backend
        """Called with the backend when it is made; what it returns is used (see ``jobsync.metrics``)."""
        self._backend: Backend | None = None
        self._connections: dict[None, Connection] = {}
        """The job's own connection to the database, once it is used."""
        self._pid: int | None = None
        """The process that entered."""
        self._entry = threading.Lock()
        """Taken for good by the one thread that enters."""
        self.mark: Sequence[bool] = (True,)
        """Begins with False in a fork of the process that entered, however it was forked (see ``process_mark``)."""

    # --- in and out ---------------------------------------------------------------------------------------------------------

    def enter(self, wait_on_enter: float, prepare: Callable[[], object], functions: Functions) -> None:
        """Become part of the cluster. If this raises, ``leave`` must be called.

        ``prepare`` is called once the store is open with this node's settings. That is before the node registers, unless the
        settings in force are others, which the node's agent replaces if all their nodes are dead.
        """
        self.check_enterable()
        config = self.config
        if config.enabled:
            refuse_patched_threads(self.node_name)
        self._pid, self.mark = os.getpid(), new_mark()
        self.stages.record(SessionEvent.ENTER)
        backend = self._backend = None if config.backend is None else self.caller.call(self._connect)
        # t=0  this thread has recorded that it enters, and is to connect
        # t=1  another thread leaves: it finds no backend to close, and the session is over
        # t=2  this thread stores the backend, and closes it itself
        if self.is_over:
            self._close()
            raise self._requested_to_leave()
        if backend is None:
            return
        if config.enabled:
            refuse_unlocked_threads(self.node_name)
        may_replace = config.enabled and config.weight > 0
        opened = self.caller.call(lambda: backend.open(config.settings, self._create, () if may_replace else None))
        if not config.enabled:
            return
        if backend.info.max_tokens < config.total_tokens:
            raise ConfigError(
                f'total_tokens is {config.total_tokens}: must be at most {backend.info.max_tokens} on {backend.info.name}'
            )
        has_same_settings = opened.settings == config.settings
        if has_same_settings:
            prepare()
        own = node_config(
            self.node_name, config, backend.info, create=self._create, wait_on_enter=wait_on_enter, announces=functions.announces
        )
        runtime = NodeRuntime(backend, own, functions)
        if config.known_death and backend.info.reach is not Reach.PROCESS:
            runtime.watch_deaths(config.known_death_dir)
        self.runtime = runtime
        if self._weight is not None:
            runtime.request_weight(self._weight)
        # t=0  a signal's handler, before the line above: records the event, and finds no runtime to stop
        # t=1  this thread stores the runtime, and finds the event here: the runtime is never started
        # A handler after the line above finds the runtime and stops it, so that it leaves as soon as it is started.
        if self.stages.stage is not Stage.INSIDE:
            raise self._requested_to_leave()
        self.lease = runtime.lease
        try:
            self.caller.call(runtime.start)
        except RuntimeError as error:
            raise JobsyncError(f'job {self.node_name!r} cannot enter: {error}') from error
        may_prepare = None if has_same_settings else prepare
        wait_until_entered(runtime, config.token_distribution_timeout_sec, may_prepare, lambda: self.is_over)

    def _connect(self) -> Backend | None:
        import_needed_later()
        backend = backend_for(self.config)
        return None if backend is None else self.instrument(backend)

    def _requested_to_leave(self) -> JobsyncError:
        return JobsyncError(f'node {self.node_name!r} was requested to leave while it was entering')

    def check_enterable(self) -> None:
        """Raise ``JobsyncError`` if this was entered, stopped or left before."""
        if self.stages.stage is not Stage.NEW:
            raise self.entered_before()

    def take_entry(self) -> None:
        """Let the present thread enter. Raise ``JobsyncError`` as ``check_enterable`` does, or if another thread enters."""
        self.check_enterable()
        # t=0  threads A and B find that the stage allows them to enter
        # t=1  A enters; B enters as well, is refused by what A has recorded, and leaves: A's block would be over
        if not self._entry.acquire(blocking=False):
            raise self.entered_before()

    def entered_before(self) -> JobsyncError:
        """Return the error of a second entering."""
        return JobsyncError(f'job {self.node_name!r} has been entered before: make a new one for each block')

    @property
    def lease_here(self) -> Lease | None:
        """The lease; None in a fork of the process that has it."""
        return self.lease if self.mark[0] else None

    @property
    def is_leaving(self) -> bool:
        """Return whether no further task is started: the node is to leave, has left, or cannot go on."""
        return self.stages.stage not in _RUNNING or (self.runtime is not None and self.runtime.is_over)

    @property
    def is_over(self) -> bool:
        """Return whether the session has left, or will never be entered."""
        return self.stages.stage is _LEFT

    def note_progress(self) -> None:
        """Note that the user's code makes progress (``progress_timeout_sec``)."""
        lease = self.lease
        if lease is not None:
            lease.has_progressed = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have the time in the block count as progress: the user's code fetches tasks in it, or waits for the store."""
        lease, wait = self.lease, object()
        if lease is None:
            yield
            return
        try:
            lease.waiting[wait] = None
            yield
        finally:
            lease.waiting.pop(wait, None)

    def set_weight(self, weight: float) -> None:
        """Have the node take this weight; once there is a node, if its block is still being entered."""
        self.check_inside()
        self._weight = weight
        if self.runtime is not None:
            self.runtime.request_weight(weight)

    def stop(self, event: SessionEvent, worker: int | None = None) -> None:
        """Record an event, stop claiming, and give the tokens back once nothing is in flight (see ``Agent.leave``).

        Waits for nothing. May be called again. Leaving does not wait for tasks that ``worker`` has in flight.
        """
        self.stages.record(event)
        self.lease = None
        if self.runtime is not None:
            self.runtime.request_leave(self.stages.is_hurried, worker)

    @property
    def is_in_callback(self) -> bool:
        """Return whether this is called by one of the user's functions (``on_revoke``), whose end leaving waits for."""
        return self.runtime is not None and self.runtime.callbacks.are_made_here and self.is_same_process

    @property
    def is_in_call(self) -> bool:
        """Return whether this is called by a signal's handler that has interrupted a call of the store."""
        return self.caller.is_calling and threads.is_interruptible() and self.is_same_process

    def leave(self, wait_sec: float, record: Callable[[], object], finish: Callable[[], object]) -> None:
        """Stop claiming, give the tokens back and, once they are given back, close what was opened.

        Calls ``record`` before it waits for anything, and ``finish`` just before it closes the backend. Does not wait for tasks
        that this worker has in flight, since the worker cannot finish them meanwhile. Waits at most ``wait_sec`` until other
        nodes own the tokens.
        """
        if not self.is_same_process:
            return
        self.stop(SessionEvent.LEAVE, worker_id())
        if self.is_over:
            return
        # t=0  the program ends without leaving, and the threads of the node stop where they are, some with a lock of the backend
        # t=1  an object of the program's is freed, and its ``__del__`` leaves: it would wait for these threads, or for that lock
        # So the node ends with its process, like one that was killed.
        if not others_run():
            return
        # t=0  a generator is suspended in the block, and only a cycle of references has it
        # t=1  a thread of a node allocates memory: the collector of garbage closes the generator there, and so the block ends
        # A wait for the node would be for that very thread, and a wait for another node would keep its heartbeats back. And where
        # a thread of the user's allocates it in a call, leaving would wait for that call.
        if threads.duty.serves_a_node or self.caller.is_calling:
            with suppress(RuntimeError):  # the process can start no thread now: the node leaves all the same, and closes nothing
                threads.start(self.node_name, 'leave', partial(self.leave, wait_sec, record, finish))
            return
        record()
        runtime = self.runtime
        if runtime is not None and not runtime.wait_until_over(2 * self.config.op_timeout_sec + 1):
            _logger.warning('node %r could not leave in good order; its tokens pass on when its lease is over', self.node_name)
        # Of several threads that leave, all wait for the node, and the first one back closes.
        if self.is_over:
            return
        self.caller.close(2 * self.config.op_timeout_sec)
        finish()
        # t=0  leaving waits for other nodes, or closes; a signal's handler raises, and the program goes on
        # t=1  connections and threads would stay for good: the session is over, so there is nothing to leave once more
        try:
            self.stages.record(SessionEvent.END)
            self._wait_until_passed_on(wait_sec)
            if runtime is not None:
                runtime.wait_for_record()
        finally:
            try:
                self._close()
            except BaseException:
                self._close()
                raise
        # The thread that listens to a backend of the program's own goes on until that is closed, or has waited for some seconds.
        if runtime is not None and isinstance(self.config.backend, str):
            runtime.wait_for_threads()
        event_log.flush()

    def may_wait_before_leaving(self, waited_sec: float) -> bool:
        """Return whether a call of the store is still waited for, before the node gives its tokens back."""
        return waited_sec < self.config.op_timeout_sec

    def may_wait_to_close(self, waited_sec: float) -> bool:
        """Return whether a call of the store is still waited for, before the backend is closed."""
        return waited_sec < self.config.op_timeout_sec or not self.stages.is_hurried

    def raise_failure(self) -> None:
        """Raise, once, what has stopped the node for good while the block ran: its loops have ended with work left."""
        if self.is_over and self.runtime is not None and not self._has_raised and (failure := self.runtime.status.failure):
            self._has_raised = True
            raise without_chain(failure)

    def after_the_end(self, action: Callable[[Backend], object]) -> None:
        """Call the backend once more after this session has closed it."""
        backend = backend_for(self.config)
        if backend is None:
            return
        try:
            action(backend)
        finally:
            if isinstance(self.config.backend, str):
                backend.close()

    def _wait_until_passed_on(self, wait_sec: float) -> None:
        """Wait until the leader has removed this node's record, and given its tokens away with it."""
        backend, until, snapshots = self._backend, clock.now() + wait_sec, list[Snapshot]()
        if backend is None or self.runtime is None:
            return

        def goes_on(_: float = 0.0) -> bool:
            return clock.now() < until and not self.stages.is_hurried

        while goes_on():
            # A store may hang for longer than this is to wait; and no handler of a signal may end a call half-way.
            if call_beside(self.node_name, lambda: snapshots.append(backend.snapshot()), goes_on) is not None:
                _logger.info('node %r: cannot read whether other nodes own its tokens now', self.node_name)
            elif all(node.name != self.node_name for node in snapshots.pop().nodes):
                return
            time.sleep(min(0.1, max(0.0, until - clock.now())))

    def _close(self) -> None:
        """Close all that was opened. May be repeated."""
        if self.runtime is not None:
            self.runtime.close()
        for connection in list(self._connections.values()):
            connection.close()
        if self._backend is not None and isinstance(self.config.backend, str):
            self._backend.close()

    # --- what there is only inside the block --------------------------------------------------------------------------------

    def check_inside(self) -> None:
        """Raise ``JobsyncError`` outside the block, ``WrongProcess`` in a fork."""
        if self.stages.stage in (Stage.NEW, Stage.LEFT):
            raise JobsyncError(f'job {self.node_name!r} is used outside its with block')
        self.check_process()

    def check_entered(self) -> None:
        """Raise ``JobsyncError`` before the block, and while a ``lock_provider`` runs."""
        if self.stages.stage is Stage.NEW:
            self.check_inside()
        if self.is_preparing:
            raise JobsyncError(
                f'job {self.node_name!r} is still entering, and owns no task: a lock_provider registers task locks, and the '
                'block loops over tasks'
            )

    @property
    def is_same_process(self) -> bool:
        """Return whether this is the process that entered, or none has; False in a fork of that process."""
        # The first process of a pid namespace is 1, as its parent may be in another one.
        return self._pid is None or (self._pid == os.getpid() and self.mark[0])

    def check_process(self) -> None:
        """Raise ``WrongProcess`` in a fork of the process that entered."""
        if not self.is_same_process:
            raise WrongProcess(
                f'job {self.node_name!r} was entered by process {self._pid}, and this is its fork {os.getpid()}, which owns '
                'nothing: use the job in the process that entered it, or enter one of another name here'
            )

    @property
    def backend(self) -> Backend | None:
        """Return the backend. None only with coordination off and no backend configured."""
        self.check_inside()
        return self._backend

    @property
    def needed_backend(self) -> Backend:
        """Return the backend. Raise ``JobsyncError`` if none is configured."""
        backend = self.backend
        if backend is None:
            raise JobsyncError(f'job {self.node_name!r} has no backend: coordination is off and none is configured')
        return backend

    def read_assignment(self) -> Assignment:
        """Read the newest assignment from the store; an empty one with coordination off."""
        runtime, backend = self.runtime, self.needed_backend
        known = Assignment.empty(self.config.total_tokens) if runtime is None else runtime.lease.assignment
        if not self.config.enabled:
            return known
        return known.apply(self.caller.call(lambda: backend.read_assignment(known.version)))

    @property
    def sql_backend(self) -> Any:
        """Return the backend. Raise ``UnsupportedOperation`` if it is no SQL database."""
        from jobsync.database.connection import check_sql

        return check_sql(self.needed_backend)

    def check_may_write(self) -> None:
        """Raise ``UnsupportedOperation`` if jobsync's writes would wait for a transaction of the caller's own over ``_cn``.

        What was written in it for a task may still be rolled back, so the task is not complete.
        """
        if self._connections and not self.is_over:
            self.sql_backend.check_no_writer_here()

    @property
    def connection(self) -> Connection:
        """Return the job's own connection to the database, which opens nothing before its first statement."""
        with importing():
            backend = self.sql_backend
        if not self._connections:
            from jobsync.database import Connection

            # Statements count as calls, so that leaving does not close a connection under a statement that a signal has
            # interrupted. They run in the user's own thread, so that a signal ends a long one: its connection is of no other use.
            made = Connection(backend.connection, self.caller.call_here, check=self.check_inside)
            # t=0  two threads use the connection for the first time, and each makes one
            # t=1  one begins a transaction over its own, and the other one's is stored in its place
            # t=2  leaving closes that alone: what leaving writes would wait for the transaction
            self._connections.setdefault(None, made)
        return self._connections[None]
