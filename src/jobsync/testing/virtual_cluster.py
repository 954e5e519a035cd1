"""A cluster in virtual time, for tests of a program that uses jobsync."""

from __future__ import annotations

import datetime as dt
import inspect
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import attrs

from jobsync._cluster import actions
from jobsync._core.agent.phase import Phase
from jobsync._core.records import NodeState
from jobsync._runtime import host_lock, threads
from jobsync._worker import shared_batch, store_calls
from jobsync._worker.stages import SessionEvent
from jobsync.aio import AsyncJob
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory import MemoryBackend
from jobsync.config import CoordinationConfig, checks
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.job import Job
from jobsync.testing.editable_store import EditableStore
from jobsync.testing.faults import FaultyBackend
from jobsync.testing.virtual_loop import VirtualPool, result_of
from jobsync.testing.virtual_loop import run as run_coroutine
from jobsync.testing.virtual_time import Process, ProcessState, VirtualCondition, VirtualTime

__all__ = ['Program', 'VirtualCluster']

P = ParamSpec('P')
T = TypeVar('T')

_EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
_STEP_SEC = 0.05
"""How often a condition is checked, in virtual seconds."""


class _Link(FaultyBackend):
    """A process's way to the store, which the test may cut."""

    def __init__(self, inner: Backend, process: _NodeProcess, cluster: VirtualCluster) -> None:
        super().__init__(inner, sleep=cluster._time.sleep)
        self._process, self._cluster = process, cluster

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        process = self._process
        if process.state is ProcessState.KILLED:
            raise JobsyncError(f'node {process.name!r} was killed by the test')
        if process.state is ProcessState.PAUSED:
            raise RuntimeError(f'node {process.name!r} is paused: resume it before its job is used')
        if process.is_cut_off:
            raise BackendUnavailable(f'node {process.name!r} is cut off from the store by the test')
        if self._cluster.is_frozen and method.__name__ == 'commit':
            raise BackendUnavailable('the test has frozen the assignment')
        return super()._call(method, *args, **kwargs)


class _NodeProcess(Process):
    """The process of one node."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.is_cut_off = False
        self.job: Job | None = None
        self.async_job: AsyncJob | None = None


class Program:
    """A function that runs in the process of a node (see ``VirtualCluster.start``)."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether the function has returned or raised."""
        self.result: Any = None
        """The value that it has returned; None before."""


class VirtualCluster:
    """Jobs of one cluster in one process, on a clock that moves as fast as the code runs.

    Use it as a ``with`` block, or take the pytest fixture ``jobsync_cluster``. The jobs are real ones, with their heartbeats,
    callbacks and loops, on a store in memory. One thread runs at a time, and where all wait, the clock jumps: a failover takes
    milliseconds, and each run has the same order of events.

    In the block, ``time.sleep`` and ``time.monotonic`` are those of the cluster, in the threads of the cluster and of the test.

    Args:
        seed: Of everything that is random.
        max_sec: How many virtual seconds the test may take. A wait beyond raises ``TimeoutError``.
    """

    def __init__(self, seed: int = 0, max_sec: float = 3600) -> None:
        self._time, self._max_sec = VirtualTime(max_sec), max_sec
        self._time.process_of = self._process
        self._seed = seed
        self._store = EditableStore(self.store_time, random.Random(seed))
        self._store.lock = self._store.changed = VirtualCondition(self._time)  # type: ignore[assignment]
        self._processes: dict[str, _NodeProcess] = {}
        """The newest process of each name."""
        self._ended: list[_NodeProcess] = []
        self._is_inside = False
        """Whether the block has begun and not ended."""
        self.is_frozen = False
        """Whether no token changes hands, whatever happens."""
        self._is_away = False
        """Whether the store is away: nodes that are made meanwhile do not reach it either."""

    def __enter__(self) -> Self:
        """Begin. Raises ``RuntimeError`` if another cluster is in use."""
        self._time.__enter__()
        self._time.replace(threads, 'new_pool', lambda name, *_: VirtualPool(self._time, name))
        self._time.replace(threads, 'result_of', lambda future: result_of(self._time, future))
        for module in (host_lock, store_calls, shared_batch, actions):
            self._time.replace(module, 'RANDOM', random.Random(self._seed))
        self._random_before = random.getstate()
        random.seed(self._seed)
        self._is_inside = True
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """End every process as if it were killed."""
        self._is_inside = False
        for process in [*self._ended, *self._processes.values()]:
            process.state = ProcessState.KILLED
            if process.job is not None:
                session = process.job._session
                session.stop(SessionEvent.STOP)  # or its schedule would go on
                if session.runtime is not None:
                    session.runtime.close()
        self._time.__exit__()
        random.setstate(self._random_before)

    # --- jobs ---------------------------------------------------------------------------------------------------------------

    def job(self, name: str, **arguments: Any) -> Job:
        """Return a job of this cluster that is not entered yet: for code that enters it itself.

        Args:
            name: The node's name. After a ``kill`` or the end of its block it may be used again, for a new process.
            **arguments: Those of ``Job``. Of ``coordination_config`` the backend is replaced by the cluster's store, and
                ``minimum_nodes`` by 1. ``handle_signals`` is left out: ``stop`` does what a signal does.
        """
        process, settings = self._new_process(name, arguments)
        process.job = Job(name, coordination_config=settings, **arguments)
        return process.job

    def async_job(self, name: str, **arguments: Any) -> AsyncJob:
        """Return an ``AsyncJob`` of this cluster that is not entered yet: for a coroutine function that ``start`` runs.

        Args:
            name: As for ``job``.
            **arguments: Those of ``AsyncJob``, as for ``job``.
        """
        process, settings = self._new_process(name, arguments)
        made = process.async_job = AsyncJob(name, coordination_config=settings, **arguments)
        process.job = made._job
        return made

    def _new_process(self, name: str, arguments: dict[str, Any]) -> tuple[_NodeProcess, CoordinationConfig]:
        self._check_inside()
        before = self._processes.get(name)
        if before is not None:
            self._ended.append(before)
        process = self._processes[name] = _NodeProcess(name)
        process.is_cut_off = self._is_away
        config = arguments.pop('coordination_config', None) or CoordinationConfig()
        options = BackendOptions(namespace=config.options.namespace)
        link = _Link(MemoryBackend(self._store, options), process, self)
        arguments.pop('handle_signals', None)
        return process, attrs.evolve(config, backend=link, minimum_nodes=1)

    def join(self, name: str, **arguments: Any) -> Job:
        """Return a job of this cluster that is entered, and has its share.

        Args:
            name: The node's name.
            **arguments: As for ``job``.
        """
        return self.job(name, **arguments).__enter__()

    def leave(self, name: str) -> None:
        """Leave the block of a job, in good order."""
        self._job(name).__exit__(None, None, None)

    def start(self, name: str, function: Callable[..., object], *arguments: object) -> Program:
        """Run a function beside the test in the process of a node, with the node's job as its first argument.

        It runs whenever the test waits, as in ``advance``. What it raises is raised there.

        Args:
            name: The name of a node that ``job``, ``join`` or ``async_job`` has made.
            function: The program of a worker, say a ``claim`` loop. A coroutine function runs on an event loop of virtual time.
            *arguments: Its further arguments.
        """
        program, process = Program(), self._living(name)

        def run() -> None:
            try:
                result = function(process.async_job or process.job, *arguments)
                program.result = run_coroutine(self._time, name, result) if inspect.iscoroutine(result) else result
            finally:
                program.is_over = True

        self._time.start_in(process, f'program-{name}', run, has_user_code=True)
        return program

    # --- what befalls processes ---------------------------------------------------------------------------------------------

    def kill(self, *names: str) -> None:
        """End processes at once, as SIGKILL does: nothing of them runs any more, not even ``finally``."""
        for name in names:
            self._process(name).state = ProcessState.KILLED
        self._time.stop_if_killed()

    def pause(self, *names: str) -> None:
        """Stop processes where they stand, as SIGSTOP does, or a machine that is suspended."""
        for name in names:
            self._living(name).state = ProcessState.PAUSED

    def resume(self, *names: str) -> None:
        """Let paused processes go on. What they were waiting for may be long over."""
        for name in names:
            self._time.resume(self._living(name))

    def stop(self, *names: str) -> None:
        """Have processes end in good order, as the first SIGTERM does with ``handle_signals``."""
        for name in names:
            self._job(name)._session.stop(SessionEvent.SIGNAL)

    def cut_off(self, *names: str) -> None:
        """Cut nodes off from the store; without names, all nodes, and those made meanwhile: an outage of the store."""
        self._is_away |= not names
        for name in names or self._processes:
            self._process(name).is_cut_off = True

    def reconnect(self, *names: str) -> None:
        """Connect nodes to the store again; without names, all nodes: the end of an outage."""
        self._is_away &= bool(names)
        for name in names or self._processes:
            self._process(name).is_cut_off = False

    def freeze(self) -> None:
        """Have every token stay where it is, whichever node joins, leaves or dies, until ``thaw``."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let tokens move again."""
        self.is_frozen = False

    def faulty(self, name: str) -> FaultyBackend:
        """Return a node's backend, whose ``faults`` make single calls of the store fail, or lose their answer."""
        backend = self._job(name)._config.backend
        assert isinstance(backend, FaultyBackend)
        return backend

    # --- time ---------------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """How many virtual seconds have passed."""
        return self._time.now

    def store_time(self) -> dt.datetime:
        """Return the time of day by the store's clock, which begins at 2030-01-01 UTC."""
        return _EPOCH + dt.timedelta(seconds=self._time.now)

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass, and everything happen that is due in them."""
        self._check_inside()
        checks.seconds.of('seconds', seconds)
        if self.now + seconds > self._max_sec:
            raise ValueError(
                f'seconds is {seconds:g}: must be at most {self._max_sec - self.now:g}, since {self.now:g} of max_sec='
                f'{self._max_sec:g} virtual seconds have passed; a longer test gives VirtualCluster(max_sec=…), or its fixture '
                '@pytest.mark.jobsync_cluster(max_sec=…)'
            )
        self._time.sleep(seconds)

    def wait_until(self, condition: Callable[[], object], within: float = 120) -> float:
        """Let time pass until a condition is true.

        Args:
            condition: Called 20 times in a virtual second.
            within: How many virtual seconds it may take.

        Returns:
            How many virtual seconds it has taken.

        Raises:
            TimeoutError: It was not true in time.
        """
        self._check_inside()
        started = self.now
        while not condition():
            if self.now >= started + within:
                raise TimeoutError(f'the condition is not true after {within:g} virtual seconds')
            self._time.sleep(_STEP_SEC)
        return self.now - started

    def settle(self, within: float = 120) -> float:
        """Let time pass until the nodes that run have shared all tokens out, and no token is on its way.

        A dead node is over by then, and a node that is cut off or paused is evicted.

        Args:
            within: How many virtual seconds it may take.

        Returns:
            How many virtual seconds it has taken.

        Raises:
            TimeoutError: It has not settled in time.
        """
        return self.wait_until(self._is_settled, within)

    def _is_settled(self) -> bool:
        running = {}
        for name, process in self._processes.items():
            runtime = process.job and process.job._session.runtime
            if process.state is ProcessState.RUNNING and not process.is_cut_off and runtime and not runtime.is_over:
                running[name] = runtime
        if not running:
            return True
        snapshot = self.backend.snapshot()
        joined = {node.name for node in snapshot.nodes if node.state is NodeState.JOINED}
        return joined == running.keys() and all(
            runtime.status.phase is Phase.MEMBER
            and runtime.status.settled
            and self.now < runtime.lease.deadline
            and runtime.lease.assignment.version == snapshot.version
            for runtime in running.values()
        )

    # --- reading ------------------------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """The cluster's store, which no fault reaches: for ``jobsync.Cluster``, say, or to read what was recorded."""
        return MemoryBackend(self._store)

    def _check_inside(self) -> None:
        # A job that is entered here before or after the block would run in real time, on a store that waits in virtual time.
        if not self._is_inside:
            raise RuntimeError('a VirtualCluster is used in its block only: with VirtualCluster() as cluster, or jobsync_cluster')

    def _job(self, name: str) -> Job:
        job = self._process(name).job
        assert job is not None
        return job

    def _living(self, name: str) -> _NodeProcess:
        process = self._process(name)
        if process.state is ProcessState.KILLED:
            raise ValueError(
                f'node {name!r} was killed by the test: nothing runs in it any more; job and join make another process'
            )
        return process

    def _process(self, name: str) -> _NodeProcess:
        process = self._processes.get(name)
        if process is None:
            known = ', '.join(map(repr, self._processes)) or 'none'
            raise ValueError(f'there is no node {name!r} in this cluster (job and join make one); there are {known}')
        return process
