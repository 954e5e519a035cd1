"""A job's way into its cluster and out of it, and what it has only in between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobsync._core.agent.lease import Lease
from jobsync._core.assignment import Assignment
from jobsync._event_log import EventLogger, event_log
from jobsync._runtime import NodeRuntime
from jobsync._runtime.callbacks import Functions
from jobsync._runtime.clock import now
from jobsync._runtime.patched_threads import refuse_patched_threads
from jobsync._runtime.startup import agent_config, wait_until_entered
from jobsync._worker.store_calls import StoreCalls, worker_id
from jobsync.backend import Backend
from jobsync.config import CoordinationConfig
from jobsync.errors import ConfigError, JobsyncError, WrongProcess

if TYPE_CHECKING:
    from jobsync.database import Connection

__all__ = ['Session', 'not_to_be_copied']

_logger = EventLogger('jobsync.job')


class Session:
    """One stay in the cluster; without coordination, only the use of the backend, if there is one.

    **Signals.** ``leave`` may be called by a signal handler that has interrupted any step of any method here, in this very
    thread. So there is no lock here, and each step leaves things such that ``leave`` works after it: what a step makes is
    stored before it is started, and the wish to leave is stored before anything is looked at.
    """

    def __init__(self, node_name: str, config: CoordinationConfig, create: bool) -> None:
        """``create``: whether the store's tables may be made."""
        self.node_name, self.config, self._create = node_name, config, create
        self.caller = StoreCalls(2 * config.op_timeout_sec, f'jobsync-calls-{node_name}' if config.enabled else None)
        self.runtime: NodeRuntime | None = None
        self.lease: Lease | None = None
        """What ``can_claim_task`` asks: there is one from the start of the runtime until somebody wants to leave."""
        self.is_over = False
        self._backend: Backend | None = None
        self._connection: Connection | None = None
        self._pid = os.getpid()
        self._entered = self._leaving = self._at_once = False

    # --- in and out ---------------------------------------------------------------------------------------------------------

    def enter(self, form_sec: float, prepare: Callable[[], object], functions: Functions) -> None:
        """Become part of the cluster. ``prepare`` is called once the store is open with this node's settings.

        That is before the node registers, unless it finds others in force, which its agent replaces if all their nodes are dead.

        If it raises, ``leave`` must be called.
        """
        self.check_enterable()
        config = self.config
        if config.enabled:
            refuse_patched_threads(self.node_name)
        self._pid, self._entered = os.getpid(), True
        backend = self._backend = None if config.backend is None else self.caller.call(lambda: _backend_of(config))
        if backend is None:
            return
        opened = self.caller.call(lambda: backend.open(config.settings, self._create))
        if not config.enabled:
            return
        if backend.info.max_tokens < config.total_tokens:
            raise ConfigError(
                f'total_tokens is {config.total_tokens}: must be at most {backend.info.max_tokens} on {backend.info.name}'
            )
        is_ours = opened.settings == config.settings
        if is_ours:
            prepare()
        told = agent_config(self.node_name, config, backend.info, self._create, form_sec, functions.announces)
        runtime = self.runtime = NodeRuntime(backend, told, functions)
        if self._leaving:
            raise JobsyncError(f'node {self.node_name!r} was told to leave while it was entering')
        self.lease = runtime.agent.lease
        self.caller.call(runtime.start)
        wait_until_entered(runtime, config.token_distribution_timeout_sec, None if is_ours else prepare)

    def check_enterable(self) -> None:
        """Raise ``JobsyncError`` if this has been entered before."""
        if self._entered or self._leaving:
            raise JobsyncError(f'job {self.node_name!r} has been entered before: make a new one for each block')

    @property
    def is_leaving(self) -> bool:
        """Whether somebody wants to leave, or has left, or the node cannot go on."""
        return self._leaving or (self.runtime is not None and self.runtime.is_over)

    def begin_to_leave(self, at_once: bool = False, worker: int | None = None) -> None:
        """Stop claiming, and give the tokens back once nothing is in flight (see ``Agent.leave``). Waits for nothing."""
        self._leaving = True
        self._at_once = self._at_once or at_once
        self.lease = None
        if self.runtime is not None:
            self.runtime.ask_to_leave(at_once, worker)

    def leave(self, wait_sec: float, record: Callable[[], object], finish: Callable[[], object]) -> bool:
        """Stop claiming, give the tokens back and, once they are given back, close what was opened.

        Calls ``record`` before it waits for anything, and ``finish`` just before it closes the backend.

        Does not wait for tasks that this worker has in flight, for it cannot finish them meanwhile. Waits at most ``wait_sec``
        until others own the tokens. Says whether this call was the one that finished it. It does not if it was made from a
        signal handler that has interrupted one of our calls: the end may be waiting for that call.
        """
        if not self.is_same_process:
            return False
        self.begin_to_leave(worker=worker_id())
        if self.caller.is_calling:
            return False
        if not self.is_over:
            record()
        runtime = self.runtime
        if runtime is not None and not runtime.wait_until_over(2 * self.config.op_timeout_sec + 1):
            _logger.warning('node %r could not leave in good order; its tokens pass on when its lease is over', self.node_name)
        if self.is_over:
            return False
        self.caller.close(2 * self.config.op_timeout_sec)
        finish()
        self.is_over = True
        if runtime is not None:
            self._wait_until_passed_on(wait_sec)
            runtime.close()
        self._close()
        event_log.flush()
        return True

    def after_the_end(self, action: Callable[[Backend], object]) -> None:
        """Call the backend once more after this job has let go of it."""
        backend = _backend_of(self.config)
        if backend is None:
            return
        try:
            action(backend)
        finally:
            if isinstance(self.config.backend, str):
                backend.close()

    def _wait_until_passed_on(self, wait_sec: float) -> None:
        """Wait until the leader has removed this node's record, and given its tokens away with it."""
        until = now() + wait_sec
        while now() < until and not self._at_once:
            try:
                if self._backend is None or all(node.name != self.node_name for node in self._backend.snapshot().nodes):
                    return
            except JobsyncError:
                _logger.info('node %r: cannot see whether its tokens were taken over', self.node_name)
            time.sleep(min(0.1, max(0.0, until - now())))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._backend is not None and isinstance(self.config.backend, str):
            self._backend.close()

    # --- what there is only inside the block --------------------------------------------------------------------------------

    def check_inside(self) -> None:
        """Raise ``JobsyncError`` outside the block, ``WrongProcess`` in a fork."""
        if not self._entered or self.is_over:
            raise JobsyncError(f'job {self.node_name!r} is used outside its with block')
        self.check_process()

    @property
    def is_same_process(self) -> bool:
        """Whether this is the process that entered, not a fork of it."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Raise ``WrongProcess`` in a fork of the process that entered."""
        if self._entered and not self.is_same_process:
            raise WrongProcess(
                f'job {self.node_name!r} was entered by process {self._pid}, and this is its fork {os.getpid()}, which owns '
                'nothing: use the job in the process that entered it, or enter one of another name here'
            )

    @property
    def backend(self) -> Backend | None:
        """The backend. None only with coordination off and no backend configured."""
        self.check_inside()
        return self._backend

    @property
    def needed_backend(self) -> Backend:
        """The backend, which must be there."""
        backend = self.backend
        if backend is None:
            raise JobsyncError(f'job {self.node_name!r} has no backend: coordination is off and none is configured')
        return backend

    def read_assignment(self) -> Assignment:
        """Read the newest assignment from the store. With coordination off there is none that this node has a part in."""
        runtime, backend = self.runtime, self.needed_backend
        if runtime is None:
            return Assignment.empty(self.config.total_tokens)
        known = runtime.agent.lease.assignment
        return known.apply(self.caller.call(lambda: backend.read_assignment(known.version)))

    @property
    def sql_backend(self) -> Any:
        """The backend, which must be a SQL database."""
        from jobsync.database.connection import check_sql

        return check_sql(self.needed_backend)

    @property
    def connection(self) -> Connection:
        """The job's own connection to the database; it opens nothing before it is used."""
        backend = self.sql_backend
        if self._connection is None:
            from jobsync.database import Connection

            # Known to the caller, so that leaving does not close what a statement is using that a signal has interrupted; but
            # in the user's own thread, so that a signal ends a long one. It has a connection of its own, which goes with it.
            self._connection = Connection(backend.connection, self.caller.call_here, check=self.check_inside)
        return self._connection


def not_to_be_copied(node_name: str) -> WrongProcess:
    """Make the error for a job that was to be copied or pickled, as ``multiprocessing`` does with what it passes to a process."""
    return WrongProcess(
        f'job {node_name!r} cannot be copied or pickled: its node is this process alone. Give another process the node name and '
        'the CoordinationConfig, which can be pickled, and let it make a Job of its own, under a name of its own'
    )


def _backend_of(config: CoordinationConfig) -> Backend | None:
    """The backend that was given, or one for the URL that was."""
    if not isinstance(config.backend, str):
        return config.backend
    from jobsync import plugins  # only now: a process that does not enter a job needs none of it

    return plugins.connect(config.backend, config.options)
