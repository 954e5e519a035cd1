"""The workers of a fault run: processes, each with lines of its own to the store, and their logs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import IO, Any, Self

import attrs
from benchmarks.libraries.process import ROOT
from tests.faults.findings import Log, read
from tests.faults.places import Place
from tests.faults.proxy import Line, Lines
from tests.faults.trace import occurrences
from tests.faults.work import FaultOrder
from tests.support import forks
from tests.traces.merging import Occurrence
from tests.traces.specification import Event as TraceEvent

from jobsync import CoordinationConfig, plugins
from jobsync._core.hashing import tokenizer
from jobsync.backend import Backend, Snapshot
from jobsync.errors import JobsyncError
from jobsync.testing.worker_log import LogTail, now

__all__ = ['INTERVAL_SEC', 'LIMIT_SEC', 'TIMEOUT_SEC', 'Scene', 'Stage', 'Worker']

INTERVAL_SEC, TIMEOUT_SEC = 0.25, 2.5
QUICK: Mapping[str, float] = {
    'op_timeout_sec': 1.0,
    'bulk_timeout_sec': 3.0,
    'rebalance_delay_sec': 0.1,
    'rebalance_check_interval_sec': 1,
    'dead_node_check_interval_sec': 1,
    'token_refresh_initial_interval_sec': 1,
    'token_refresh_steady_interval_sec': 1,
    'handover_timeout_sec': 30,
}
"""The settings that go with a short interval and timeout."""
LIMIT_SEC = 120.0
"""For a condition that holds at once on a quiet machine: a limit against hanging."""
_LOOK_SEC, _PAUSE_SEC = 0.02, 0.05
"""Seconds between two looks of the harness at the logs, and of a worker at its tasks, at a pace of 1."""


@attrs.frozen
class Stage:
    """The cluster that a run begins with."""

    workers: int = 4
    tokens: int = 60
    tasks: int = 20
    """Tasks a second."""
    kind: str = 'claim'
    """The kind of work: see ``tests.faults.worker.WORK``."""
    interval_sec: float = INTERVAL_SEC
    """The heartbeat interval."""
    timeouts: Sequence[float] = (TIMEOUT_SEC,)
    """Heartbeat timeouts; the workers take them in turn."""
    timings: Mapping[str, float] = QUICK
    """More settings of the workers. What is not here has its default."""
    traced: bool = True
    """Whether the workers write what they do as events of a trace."""
    pace: float = 1.0
    """How many times longer than usual workers and harness wait between two looks: many workers would take all the processors."""
    answers_sec: float = 0.02
    """How often a worker calls ``can_claim_task`` for a task of every token."""
    late_sec: float = 0.0
    """How much later than its other threads the thread that does so goes on after a stop, as on a starved machine."""
    limit_sec: float = LIMIT_SEC
    """How long the cluster may take to form."""


class Worker:
    """One worker process."""

    def __init__(
        self, order: FaultOrder, lines: Sequence[Line], environment: Mapping[str, str], *, blocked: bool = False
    ) -> None:
        self.node, self.run, self.lines = order.node, order.run, lines
        folder = Path(order.folder)
        self._path = folder / f'{order.run}.log'
        self._tail = LogTail(self._path)
        self._said: set[str] = set()
        self._owned: set[object] = set()
        self._until, self._pins, self._items = 0.0, 0, 0
        self._asked = 0.0, 0.0
        self.death: float | None = None
        """Just before it was killed."""
        self._ended = float('inf')
        """When it was seen to have ended."""
        self.is_stopped = False
        self._errors = folder / f'{order.run}.err'
        self.process: subprocess.Popen[bytes] | forks.ForkedProcess
        with self._errors.open('wb') as errors:
            if forks.are_preferred() and not environment and not blocked:
                self.process = forks.start('tests.faults.worker', reads=True, stderr=errors)
            else:
                self.process = self._started(environment, subprocess.PIPE if blocked else errors)
        self._send(attrs.asdict(order))

    @staticmethod
    def _started(environment: Mapping[str, str], errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start the worker as a program of its own."""
        return subprocess.Popen(
            [sys.executable, '-P', '-m', 'tests.faults.worker'],
            stdin=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join((str(ROOT), str(ROOT / 'src'))), **environment},
        )

    def _send(self, fields: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(fields).encode() + b'\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: the log says of what

    def command(self, do: str, **fields: Any) -> None:
        """Have the worker do something: see ``tests.faults.worker.Commands``."""
        self._send({'do': do, **fields})

    def has(self, what: str) -> bool:
        """Return True if the process has logged this kind of event."""
        self._look()
        return what in self._said

    def _look(self) -> None:
        for event in self._tail.read():
            self._said.add(event['what'])
            if event['what'] == 'grant':
                self._owned = (self._owned - set(event['lost'])) | set(event['gained'])
                self._until = event['until']
                self._pins, self._items = event['pins'], event['items']
            elif event['what'] == 'asked':
                self._asked = event['before'], event['after']

    @property
    def words(self) -> str:
        """The end of what it has written to stderr."""
        return self._errors.read_text(errors='replace')[-1500:]

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    @property
    def owns_until(self) -> float:
        """The end of the lease that it last logged."""
        self._look()
        return self._until

    @property
    def asked(self) -> tuple[float, float]:
        """Begin and end of the last reading of ``can_claim_task`` for all tokens that it has logged."""
        self._look()
        return self._asked

    @property
    def tokens(self) -> int:
        """The number of tokens that it last logged as its own."""
        self._look()
        return sum(isinstance(thing, int) for thing in self._owned)

    @property
    def loads(self) -> tuple[int, int]:
        """The number of tokens and locked tasks that it last logged as its own, without and with the items."""
        return self.tokens + self._pins, self.tokens + self._pins + self._items

    def kill(self, *, waits: bool = True) -> None:
        """SIGKILL, and wait for the end. A process that has ended by itself owns nothing after the last line of its log."""
        if self.death is None:
            self.death = now() if self.is_running else 0.0
        self.process.kill()
        if waits:
            self.process.wait()
            self._ended = min(self._ended, now())

    def stop(self) -> None:
        """SIGSTOP."""
        if self.is_running:
            self.process.send_signal(signal.SIGSTOP)
            self.is_stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        if self.is_running:
            self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def leave(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def log(self, until: float) -> Log:
        """Return its log so far."""
        return read(self.run, LogTail(self._path).read(), self._death(), until)

    def occurrences(self) -> list[Occurrence]:
        """Return what it has done so far, for a trace. Also its end if it has left: the store may not know that."""
        death = self.death if self.death is not None or self.is_running else 0.0
        return list(occurrences(self.run, LogTail(self._path).read(), None if death is None else (death, self._ended)))

    def _death(self) -> float | None:
        """Return a time before it ended without leaving; None if it has left, or runs."""
        if self.death is None and not self.is_running and not self.has('left'):
            return 0.0  # it has ended by itself: its last line is the last that is known
        return self.death

    def close(self) -> None:
        """Kill it, whatever state it is in."""
        self.process.kill()
        self.process.wait()
        for end in (self.process.stdin, self.process.stderr):
            if end is not None:
                with contextlib.suppress(BrokenPipeError):
                    end.close()


class Scene:
    """A store, lines and workers, as faults find them. The end of the block kills workers that are left."""

    def __init__(self, name: str, place: Place, stage: Stage, seed: int, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.place, self.stage, self.random = name, place, stage, Random(seed)
        self.environment = dict(environment or {})
        self._folder = tempfile.TemporaryDirectory(prefix='jobsync-faults-')
        (Path(self._folder.name) / 'done').mkdir()
        self.lines = Lines()
        self.origin = now()
        self.workers: list[Worker] = []
        """The workers that should be there."""
        self.all: list[Worker] = []
        """Every worker that ever was."""
        self._names = 0
        config = CoordinationConfig(backend=place.url(place.ports()), **self.settings(0))
        self._backend = plugins.connect(str(config.backend), config.options)
        opened = self._backend.open(config.settings, create=True)
        token_of = tokenizer(config.hash_function, config.total_tokens)
        self.beginning: TraceEvent = {
            'do': 'begin', 'at': self.origin, 'tokens': config.total_tokens, 'margin': config.lease_margin, 'version': '',
            'tasks': {key: token_of(key) for key in self.watched}, 'timeline': opened.timeline.id,
        }  # fmt: skip
        """The first event of the trace."""

    def settings(self, number: int) -> dict[str, Any]:
        """Return the settings of a worker."""
        return {
            'total_tokens': self.stage.tokens,
            'minimum_nodes': 1,
            'heartbeat_interval_sec': self.stage.interval_sec,
            'heartbeat_timeout_sec': self.stage.timeouts[number % len(self.stage.timeouts)],
            **self.stage.timings,
        }

    @property
    def folder(self) -> Path:
        """The folder of the run, which is removed at its end."""
        return Path(self._folder.name)

    @property
    def longest_timeout(self) -> float:
        """The longest heartbeat timeout of the stage."""
        return max(self.stage.timeouts)

    @property
    def watched(self) -> tuple[str, ...]:
        """Keys of tasks that locks and items concern."""
        return tuple(f'watched-{number}' for number in range(7))

    def start(
        self, node: str = '', *, blocked: bool = False, environment: Mapping[str, str] | None = None, **changed: float
    ) -> Worker:
        """Start a worker, under a new name unless one is given. ``changed``: settings that differ from the stage's."""
        self._names += not node
        node = node or f'w{self._names}'
        lines = [self.lines.new(port) for port in self.place.ports()]
        url = self.place.url([line.port for line in lines])
        run = f'{node}.{sum(worker.node == node for worker in self.all)}'
        settings = {'backend': url, **self.settings(int(node[1:])), **changed}
        order = FaultOrder(
            node=node, run=run, folder=self._folder.name, origin=self.origin, tasks=self.stage.tasks, open_sec=LIMIT_SEC,
            settings=settings, watched=self.watched, kind=self.stage.kind, traced=self.stage.traced,
            answers_sec=self.stage.answers_sec, late_sec=self.stage.late_sec, pause_sec=_PAUSE_SEC * self.stage.pace,
        )  # fmt: skip
        worker = Worker(order, lines, {**self.environment, **(environment or {})}, blocked=blocked)
        self.workers.append(worker)
        self.all.append(worker)
        return worker

    def replace(self, worker: Worker, *, new_name: bool = False) -> Worker:
        """Start a worker in the place of one that has ended, under its name or a new one."""
        if worker in self.workers:
            self.workers.remove(worker)
        return self.start('' if new_name else worker.node)

    def retarget(self) -> None:
        """Let every line lead to the servers that are the store's now."""
        for worker in self.all:
            for line, port in zip(worker.lines, self.place.ports(), strict=True):
                line.target = port

    def logs(self, until: float) -> list[Log]:
        """Return the logs of all processes."""
        return [worker.log(until) for worker in self.all]

    def occurrences(self) -> list[Occurrence]:
        """Return what all processes have done, for a trace."""
        return [each for worker in self.all for each in worker.occurrences()]

    # --- what faults choose from ----------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Worker]:
        """The workers that run and are not stopped."""
        return [worker for worker in self.workers if worker.is_running and not worker.is_stopped]

    def leader(self) -> Worker:
        """Return the worker that leads; a random one where the store does not say."""
        try:
            node = self.snapshot().leadership.node
        except JobsyncError:
            node = None
        named = [worker for worker in self.running if node is not None and worker.node == node.name]
        return named[-1] if named else self.random.choice(self.running or self.workers)

    def follower(self) -> Worker:
        """Return a random worker that does not lead."""
        leader = self.leader()
        return self.random.choice([worker for worker in self.running if worker is not leader] or [leader])

    def some(self) -> Worker:
        """Return the leader or a follower, each as likely."""
        return self.random.choice((self.leader, self.follower))()

    def snapshot(self) -> Snapshot:
        """Read the store."""
        return self.backend.snapshot()

    @property
    def backend(self) -> Backend:
        """A handle without a line."""
        return self._backend

    def wait_until(self, condition: Callable[[], object], seconds: float = LIMIT_SEC) -> bool:
        """Wait until a condition holds; return whether it does."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SEC * self.stage.pace)
        return True

    def is_settled(self) -> bool:
        """Return whether the workers that should be there own all tokens in equal shares, as their logs have it.

        The planner counts locked tasks and items. One task may be both, which is two for the planner and one in a log: with work
        of every kind, where that happens, shares that are equal without the items will do.
        """
        if not all(worker.is_running and worker.owns_until > now() for worker in self.workers):
            return False
        without, whole = zip(*(worker.loads for worker in self.workers), strict=True)
        shares = (whole, without) if self.stage.kind == 'everything' else (whole,)
        return sum(worker.tokens for worker in self.workers) == self.stage.tokens and any(
            max(loads) - min(loads) <= 1 for loads in shares
        )

    # --- begin and end --------------------------------------------------------------------------------------------------------

    def form(self) -> None:
        """Start all workers at once, and wait until they share the tokens."""
        for _ in range(self.stage.workers):
            self.start()
        if not self.wait_until(lambda: not self.place.start_ended() and self.is_settled(), self.stage.limit_sec):
            raise RuntimeError(f'the cluster has not formed in {self.stage.limit_sec:.0f} s: {self.words()}')

    def words(self) -> str:
        """Return the ends of what the workers have written to stderr."""
        return '\n'.join(f'{worker.run}: {worker.words}' for worker in self.all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for worker in self.all:
            worker.kill(waits=False)  # all at once: the others would take over from one after the other
        for worker in self.all:
            worker.close()
        self.lines.close()
        self._backend.close()
        if kept := os.environ.get('JOBSYNC_FAULTS_KEEP'):
            import shutil

            shutil.copytree(self._folder.name, Path(kept) / Path(self._folder.name).name)
        self._folder.cleanup()
