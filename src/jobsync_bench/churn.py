"""Churn: worker processes that join, leave and are killed, and the ownership that their logs show until all is settled."""

# ruff: noqa: S603 - an interpreter that runs a module of ours

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from jobsync.testing.verdict import longest_gap, owned_at_once
from jobsync.testing.worker_log import LoggedEvent, LogTail, summarise
from jobsync_bench.other_load import UsedSoFar, other_cores
from jobsync_bench.processes import watcher
from jobsync_bench.processes.watcher import EVERY, TOTAL, now

__all__ = ['ChurnCluster', 'ChurnOutcome']

_QUIET_SEC = 0.7
"""A cluster is settled when its shares have been right for this long."""
_LIMIT_SEC = 420.0
_POLL_SEC = 0.05
_ENDING_SEC = 60.0
_SWEEPS = 4
"""The events of each worker that are logged before the next event of the cluster."""
_ALL = TOTAL // EVERY


@attrs.frozen
class ChurnOutcome:
    """The consequences of one event."""

    settled_sec: float
    """Seconds until every token has one owner and the shares are even."""
    unowned_sec: float
    """The longest time that a token was seen without an owner; at most two sweeps too long."""
    doubles: int
    """Tokens that two processes certainly owned at one instant."""
    ended_sec: float
    """Seconds from the kill until the kernel had ended the processes; 0 where none was killed."""
    other_cores: float
    """The cores that other programs used on average during the event."""


class ChurnWorker:
    """One worker process, and the content of its log so far."""

    def __init__(self, folder: Path, node: str) -> None:
        self.node, self.log, self.errors = node, folder / f'{node}.log', folder / f'{node}.err'
        self.pid: int | None = None
        """The process id; None until it is known, and after the end of the process."""
        self.status: int | None = None
        """The status with which the process has ended; None until then."""
        self.ended_at = 0.0
        self._tail = LogTail(self.log)
        self.times: dict[str, float] = {}
        """The times of ``entering``, ``entered``, ``leaving`` and ``left``."""
        self.tokens: frozenset[int] = frozenset()
        self.mine, self.changed_at = 0, 0.0
        self._set = 0
        self.events: list[LoggedEvent] = []

    def read(self) -> None:
        """Read the new events."""
        for event in self._tail.read():
            match event['what']:
                case 'tokens':
                    self.tokens = (self.tokens - frozenset(event['lost'])) | frozenset(event['gained'])
                    self._set = event['set']
                    self.changed_at = now()
                case 'seen':
                    if event['mine'] != self.mine or self.events[-1]['what'] == 'tokens':
                        self.changed_at = event['after']
                    self.mine = event['mine']
                case what:
                    self.times[what] = event['t']
            self.events.append(event)

    def begin(self) -> None:
        """Drop all events, except for the tokens that the worker owns now."""
        self.read()
        self.events = [{'what': 'tokens', 'set': self._set, 'gained': sorted(self.tokens), 'lost': []}]

    def last_words(self) -> str:
        """Return the end of its standard error."""
        return last_words(self.errors)


def last_words(errors: Path) -> str:
    """Return the end of what a process has written to its standard error."""
    return errors.read_text(errors='replace')[-2000:] if errors.exists() else ''


class ChurnProcesses:
    """The process whose forks the workers are: see ``jobsync_bench.processes.watcher``."""

    def __init__(self, command: Sequence[str], place: str, folder: Path, environment: Mapping[str, str] | None) -> None:
        self._folder, self._errors, log = folder, folder / 'errors', folder / 'processes'
        self._tail = LogTail(log)
        self._workers: dict[str, ChurnWorker] = {}
        with self._errors.open('wb') as errors:
            whole = [*command, str(log)]
            self._process = subprocess.Popen(
                whole, stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True, env=environment
            )
        self._write(place)

    def start(self, node: str, options: Sequence[str]) -> ChurnWorker:
        """Start a worker."""
        worker = self._workers[node] = ChurnWorker(self._folder, node)
        self._write(json.dumps(['start', node, str(worker.log), str(worker.errors), options]))
        return worker

    def leave(self, worker: ChurnWorker) -> None:
        """Let a worker leave."""
        self._write(json.dumps(['leave', worker.node]))

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended, which ``read`` finds
            self._process.stdin.write(f'{line}\n'.encode())
            self._process.stdin.flush()

    def read(self) -> None:
        """Read which workers have started, and which have ended. Raises ``RuntimeError`` if the process itself has."""
        for event in self._tail.read():
            worker = self._workers[event['node']]
            if event['what'] == 'started':
                worker.pid = event['pid']
            else:
                worker.pid, worker.status, worker.ended_at = None, event['status'], event['t']
        if (status := self._process.poll()) is not None:
            raise RuntimeError(f'the process of all workers ended with status {status}: {last_words(self._errors)}')

    def close(self) -> None:
        """Kill all workers."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDING_SEC)
        finally:
            self._process.kill()
            self._process.wait()


class ChurnCluster:
    """Workers of one kind. The end of the ``with`` block ends all of them."""

    def __init__(
        self, place: Mapping[str, object], options: Sequence[str] = (), python: str = sys.executable,
        check: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """Make a cluster without workers.

        ``place`` has the arguments of ``CoordinationConfig`` for the store, ``options`` those of the worker's command (``calm``).
        ``python`` is the interpreter of the environment whose ``jobsync`` is measured. ``check`` is called repeatedly during all
        waits, and may raise.
        """
        self._command = (python, '-P', watcher.__file__)  # -P: nothing is imported from the folder of the script
        # Nor is this jobsync imported in the place of another version, where PYTHONPATH names it.
        is_other = python != sys.executable
        self._environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'} if is_other else None
        self._place = json.dumps(place)
        self._options, self._check = options, check
        self._folder = tempfile.TemporaryDirectory(prefix='jobsync-takeover-')
        self._workers: list[ChurnWorker] = []
        self._processes: ChurnProcesses | None = None
        self._started, self._ended_sec = 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if self._processes is not None:
                self._processes.close()
        finally:
            self._folder.cleanup()

    # Events

    def form(self, nodes: int) -> None:
        """Start the first worker, then the others, and wait until the cluster is settled."""
        self.join()
        for _ in range(nodes - 1):
            self._start()
        self._settle()

    def join(self) -> ChurnOutcome:
        """Let a worker join."""

        def event() -> float:
            worker = self._start()
            self._await(lambda: 'entering' in worker.times)
            return worker.times['entering']

        return self._measure(event)

    def leave(self) -> ChurnOutcome:
        """Let the youngest worker leave."""

        def event() -> float:
            worker = self._workers[-1]
            self._forks.leave(worker)
            self._await(lambda: 'left' in worker.times and worker.status is not None)
            return worker.times['leaving']

        return self._measure(event)

    def kill_follower(self) -> ChurnOutcome:
        """Kill the youngest worker."""
        return self._measure(lambda: self._kill(self._workers[-1]))

    def kill_both(self) -> ChurnOutcome:
        """Kill the oldest worker, which leads, and the youngest at one time."""
        return self._measure(lambda: self._kill(self._workers[0], self._workers[-1]))

    def kill_leader(self) -> ChurnOutcome:
        """Kill the oldest worker, which leads."""
        return self._measure(lambda: self._kill(self._workers[0]))

    # Steps of an event

    @property
    def _forks(self) -> ChurnProcesses:
        if self._processes is None:
            self._processes = ChurnProcesses(self._command, self._place, Path(self._folder.name), self._environment)
        return self._processes

    def _start(self) -> ChurnWorker:
        self._started += 1
        worker = self._forks.start(f'w{self._started:02}', self._options)
        self._workers.append(worker)
        return worker

    def _kill(self, *workers: ChurnWorker) -> float:
        killed_at = now()
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        self._await(lambda: all(worker.status is not None for worker in workers), {-signal.SIGKILL})
        self._ended_sec = max(worker.ended_at for worker in workers) - killed_at
        return killed_at

    def _measure(self, event: Callable[[], float]) -> ChurnOutcome:
        for worker in self._workers:
            worker.begin()
        self._await(lambda: all(len(worker.events) >= _SWEEPS for worker in self._workers))
        used, self._ended_sec = UsedSoFar.now(), 0.0
        begin = event()
        present = list(self._workers)
        self._workers = [worker for worker in present if worker.status is None]
        until = self._settle()
        others = other_cores(used, UsedSoFar.now())
        for worker in present:
            worker.read()
        logs = [summarise(worker.node, worker.events) for worker in present]
        gap = longest_gap(logs, until + _QUIET_SEC / 2)
        return ChurnOutcome(
            settled_sec=max(until - begin, 0.0),
            unowned_sec=gap.seconds if gap else float('nan'),
            doubles=len({overlap.thing for overlap in owned_at_once(logs)}),
            ended_sec=self._ended_sec,
            other_cores=others,
        )

    def _settle(self) -> float:
        """Wait until the cluster is settled, and return the time of the last change."""
        quiet_since: float | None = None

        def is_settled() -> bool:
            nonlocal quiet_since
            if not self._looks_settled():
                quiet_since = None
                return False
            quiet_since = quiet_since or now()
            return now() - quiet_since >= _QUIET_SEC

        self._await(is_settled)
        return max(worker.changed_at for worker in self._workers)

    def _looks_settled(self) -> bool:
        owned = [worker.tokens for worker in self._workers]
        shares = [worker.mine for worker in self._workers]
        whole = len(frozenset().union(*owned)) == sum(map(len, owned)) == _ALL
        return whole and sum(shares) == TOTAL and max(shares) - min(shares) <= 1

    def _await(self, condition: Callable[[], bool], ends: Container[int] = ()) -> None:
        """Wait for a condition. Raises ``RuntimeError`` if a worker ends with a status that is neither 0 nor one of ``ends``."""
        deadline = now() + _LIMIT_SEC
        while True:
            self._check()
            self._forks.read()
            for worker in self._workers:
                worker.read()
            if condition():
                return
            for worker in self._workers:
                if worker.status and worker.status not in ends:
                    raise RuntimeError(f'worker {worker.node} ended with status {worker.status}: {worker.last_words()}')
            if now() > deadline:
                shares = ', '.join(f'{worker.node} {worker.mine}' for worker in self._workers)
                raise RuntimeError(f'not settled after {_LIMIT_SEC:.0f} s: {shares}')
            time.sleep(_POLL_SEC)
