"""The worker processes of ``rolling.py``, and their records in the store."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from benchmarks.libraries.process import ROOT
from benchmarks.rolling_verdict import Figures, judge
from benchmarks.rolling_worker import Order
from jobsync import CoordinationConfig, plugins
from jobsync.backend import Assignment, HistoryKind, NodeState, Rebalance
from jobsync.testing.worker_log import LogTail, WorkerLog, now, read_log

__all__ = ['RollingCluster', 'RollingWorker']

_LIMIT_SEC = 90.0
_LOOK_SEC = 0.02
_COMMIT = re.compile(r'tokens? moved, \d+ rows? written')
_BAD = re.compile(r'^.*(?:Traceback|WARNING|ERROR|Exception).*$', re.MULTILINE)


class RollingWorker:
    """One worker process, and the events that it has logged so far."""

    def __init__(self, order: Order) -> None:
        self.node, self.run, folder = order.node, order.run, Path(order.folder)
        self._errors = folder / f'{order.run}.err'
        with self._errors.open('wb') as errors:
            command = [sys.executable, '-m', 'benchmarks.rolling_worker', json.dumps(attrs.asdict(order))]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors, cwd=ROOT)
        self._tail = LogTail(folder / f'{order.run}.log')
        self.said: set[str] = set()

    def has(self, what: str) -> bool:
        """Return True if the process has logged this kind of event."""
        self.said.update(event['what'] for event in self._tail.read())
        return what in self.said

    @property
    def words(self) -> str:
        """The standard error of the process."""
        return self._errors.read_text(errors='replace')


class RollingCluster:
    """Workers under load on one store. The end of the ``with`` block kills workers that are left."""

    def __init__(self, settings: dict[str, Any], tasks: int, open_sec: float) -> None:
        self._settings, self._tasks, self._open_sec = settings, tasks, open_sec
        self._folder = tempfile.TemporaryDirectory(prefix='jobsync-rolling-')
        self.folder = Path(self._folder.name)
        (self.folder / 'done').mkdir()
        self.config = CoordinationConfig(**settings)
        assert isinstance(self.config.backend, str)
        self._backend = plugins.connect(self.config.backend, self.config.options)
        self._backend.open(self.config.settings, create=True)
        self._origin = now()
        self.workers: list[RollingWorker] = []
        self._all: list[RollingWorker] = []
        self._first, self._rows = 0.0, 0
        self.until, self.moved_in_time = 0.0, 0.0
        """When ``end`` began, and the value of ``moved`` at that time."""
        self.faults: list[str] = []
        """Faults of processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for worker in self._all:
            worker.process.kill()
            worker.process.wait()
        self._backend.close()
        self._folder.cleanup()

    # --- what happens -------------------------------------------------------------------------------------------------------

    def form(self, names: Sequence[str]) -> None:
        """Start all workers, and wait for an even distribution. The judged time begins here."""
        for name in names:
            self.start(name)
        self.wait_until(lambda: all(worker.has('entered') for worker in self.workers), 'all have entered')
        self.wait_until(self._is_even, 'the tokens are shared out')
        self._first, self._rows = now(), len(self.rebalances())

    def start(self, name: str) -> RollingWorker:
        """Start a worker of this name."""
        worker = RollingWorker(self.order(name, f'{name}.{sum(worker.node == name for worker in self._all)}'))
        self.workers.append(worker)
        self._all.append(worker)
        return worker

    def order(self, name: str, run: str) -> Order:
        """Return the order for a worker."""
        return Order(name, run, self._folder.name, self._origin, self._tasks, self._open_sec, self._settings)

    def stop(self, worker: RollingWorker, limit_sec: float = _LIMIT_SEC) -> float:
        """Send SIGTERM, wait for the end of the process, and return the seconds."""
        began = now()
        worker.process.send_signal(signal.SIGTERM)
        try:
            status = worker.process.wait(limit_sec)
        except subprocess.TimeoutExpired:
            self.faults.append(f'{worker.run} has not ended {limit_sec:.0f} s after SIGTERM')
            worker.process.kill()
            worker.process.wait()
        else:
            if status:
                self.faults.append(f'{worker.run} ended with status {status}')
        self.workers.remove(worker)
        return now() - began

    def end(self) -> Figures:
        """Stop all workers, and judge the time since the cluster was formed."""
        self.wait_until(self._is_even, 'the tokens are shared out')
        time.sleep(self._open_sec + 0.5)
        until = self.until = now()
        self.moved_in_time = self.moved()
        with ThreadPoolExecutor(len(self.workers)) as pool:
            list(pool.map(self.stop, list(self.workers)))
        if left := self.registered():
            self.faults.append(f'still registered: {", ".join(sorted(left))}')
        for worker in self._all:
            self.faults += [f'{worker.run}: {line}' for line in _BAD.findall(worker.words)]
        return judge(self.logs(), origin=self._origin, tasks=self._tasks, open_sec=self._open_sec, first=self._first, until=until)

    def logs(self) -> list[WorkerLog]:
        """Return the logs of all processes so far."""
        return [read_log(path) for path in sorted(self.folder.glob('*.log'))]

    def commits(self) -> int:
        """Return the number of commits since the start of the first worker, from the workers' standard error."""
        return sum(len(_COMMIT.findall(worker.words)) for worker in self._all)

    # --- what the store says ------------------------------------------------------------------------------------------------

    def registered(self) -> set[str]:
        """Return the names of the registered nodes."""
        return {node.name for node in self._backend.snapshot().nodes if node.state is NodeState.JOINED}

    def rebalances(self) -> list[Rebalance]:
        """Return the whole history of rebalances, oldest first."""
        return [row for row in reversed(self._backend.history(HistoryKind.REBALANCE)) if isinstance(row, Rebalance)]

    def since_formed(self) -> list[Rebalance]:
        """Return the rebalances since the cluster was formed."""
        return self.rebalances()[self._rows :]

    def moved(self) -> float:
        """Return the tokens that moved since the cluster was formed, as a multiple of all tokens."""
        return sum(row.tokens_moved for row in self.since_formed()) / self.config.total_tokens

    def _is_even(self) -> bool:
        whole = Assignment.empty(self.config.total_tokens).apply(self._backend.read_assignment())
        counts = [len(whole.owned_by(worker.node)) for worker in self.workers]
        return not whole.targets and sum(counts) == self.config.total_tokens and max(counts) - min(counts) <= 1

    def wait_until(self, condition: Callable[[], bool], what: str, look_sec: float = _LOOK_SEC) -> None:
        """Wait until the condition holds. Raises ``RuntimeError`` if that takes too long or a process ends."""
        deadline = now() + _LIMIT_SEC
        while not condition():
            for worker in self.workers:
                if worker.process.poll() is not None:
                    raise RuntimeError(f'{worker.run} ended with status {worker.process.returncode}: {worker.words[-2000:]}')
            if now() > deadline:
                raise RuntimeError(f'not within {_LIMIT_SEC:.0f} s: {what}')
            time.sleep(look_sec)
