"""One demo from start to verdict."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import attrs

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions, HistoryKind, Reach, Rebalance, Settings, redact_url
from jobsync.errors import ConfigError
from jobsync.testing.worker_log import now, read_log
from jobsync_demo.display import Display
from jobsync_demo.files import digest, find_files, task_id
from jobsync_demo.orders import TOTAL_TOKENS, Orders, log_path
from jobsync_demo.results import save_results
from jobsync_demo.scene import ClusterReader, Progress
from jobsync_demo.supervisor import Fate, Supervisor, Worker
from jobsync_demo.verdict import Verdict, judge

__all__ = ['MAX_WORKERS', 'Options', 'Outcome', 'run']

MAX_WORKERS = 64
_WORK_SEC = 12.0
"""The time that the files should keep all workers busy; longer if there are more workers than the processors can serve."""
_MOST_PACE_SEC = 0.25
_WORKERS_PER_CPU = 4
_KILL_AT = 0.4
"""The share of the files that are done when a worker is killed."""
_STANDSTILL_SEC = 60.0
"""The demo fails when no file was finished for this long."""
_POLL_SEC = 0.25


@attrs.frozen
class Options:
    """Options that the user chose."""

    root: Path
    workers: int
    backend: str | None
    kill: bool
    seed: int


@attrs.frozen
class Outcome:
    """The outcome of one demo."""

    verdict: Verdict
    rebalances: tuple[Rebalance, ...]
    """Oldest first, until the last file was done."""
    seconds: float
    seed: int
    heartbeat_timeout_sec: float
    folder: Path | None = None
    """The folder of logs and results, if they were kept."""

    @property
    def tokens_moved(self) -> int:
        """Tokens moved by all rebalances, the first distribution included."""
        return sum(rebalance.tokens_moved for rebalance in self.rebalances)


def run(options: Options, folder: Path, display: Display) -> Outcome:
    """Start the workers, kill one, and judge by their logs. All files of the demo go to ``folder``."""
    if not 1 <= options.workers <= MAX_WORKERS:
        raise ConfigError(f'workers is {options.workers}: allowed is 1 to {MAX_WORKERS}')
    files = find_files(options.root)
    ease = max(1.0, options.workers / (_WORKERS_PER_CPU * (os.cpu_count() or 1)))
    orders = Orders(
        root=str(options.root.absolute()),
        files=files,
        backend=options.backend or f'sqlite:///{folder.absolute()}/jobsync.db',
        namespace=f'demo_{secrets.token_hex(4)}_' if options.backend else 'sync_',
        pace_sec=ease * min(_WORK_SEC * options.workers / len(files), _MOST_PACE_SEC),
        seed=options.seed,
        ease=ease,
    )
    orders_path = folder / 'orders.json'
    orders.save(orders_path)
    with closing(_open(orders)) as backend:
        with Supervisor(folder, orders_path) as supervisor:
            show = _Show(options, supervisor, ClusterReader(backend), display, len(files), _STANDSTILL_SEC * ease)
            show.play()
            rebalances = _rebalances(backend)
            until = show.progress.complete_at or now()
        logs = [read_log(log_path(folder, worker.node)) for worker in supervisor.workers]
    save_results(folder / 'results.db', logs)
    expected = {task_id(name): digest(options.root / name) for name in files}
    deaths = {w.node: w.killed_at for w in supervisor.workers if w.fate is Fate.KILLED}
    ended_badly = [_fault(w, 'did not leave well') for w in supervisor.workers if w.fate is Fate.DIED and w not in show.died]
    verdict = judge(expected, logs, deaths=deaths, until=until, faults=[*show.faults, *ended_badly])
    return Outcome(
        verdict=verdict,
        rebalances=rebalances,
        seconds=show.elapsed,
        seed=options.seed,
        heartbeat_timeout_sec=orders.heartbeat_timeout_sec,
    )


def _open(orders: Orders) -> Backend:
    backend = plugins.connect(orders.backend, BackendOptions(namespace=orders.namespace))
    if backend.info.reach is Reach.PROCESS:
        backend.close()
        raise ConfigError(
            f'backend is {redact_url(orders.backend)}: must be one that several processes can reach, as sqlite:///jobsync.db'
        )
    backend.open(Settings(total_tokens=TOTAL_TOKENS, hash_function='xxh3'), create=True)
    return backend


def _rebalances(backend: Backend) -> tuple[Rebalance, ...]:
    found = [entry for entry in backend.history(HistoryKind.REBALANCE) if isinstance(entry, Rebalance)]
    return tuple(reversed(found))


def _fault(worker: Worker, what: str) -> str:
    return f'{worker.node} (pid {worker.process.pid}) {what}, status {worker.process.returncode}: {worker.last_words()}'


class _Show:
    """The time between the start of the workers and the end of their work."""

    def __init__(
        self, options: Options, supervisor: Supervisor, reader: ClusterReader, display: Display, files: int, patience_sec: float
    ) -> None:
        self._options = options
        self._supervisor = supervisor
        self._reader = reader
        self._display = display
        self._files = files
        self._patience_sec = patience_sec
        self._dice = random.Random(options.seed)
        self._began = now()
        self.progress = Progress()
        self.faults: list[str] = []
        self.died: list[Worker] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return now() - self._began

    def play(self) -> None:
        """Return when every file is audited, or when no further progress is to be expected."""
        workers = self._options.workers
        for number in range(1, workers + 1):
            self._supervisor.start(f'worker-{number}', minimum_nodes=workers)
        self._say(f'{workers} worker processes started, {self._files} files to do in {self._options.root}')
        grown_at, done = now(), 0
        to_kill = self._options.kill
        while self.progress.complete_at is None:
            time.sleep(_POLL_SEC)
            for worker in self._supervisor.workers:
                self.progress.follow(worker)
            if len(self.progress.done) > done:
                grown_at, done = now(), len(self.progress.done)
            self._display.show(self._reader.scene(self._supervisor.workers, self.progress, self._files, self.elapsed))
            self._note_deaths(self._supervisor.find_ended())
            if to_kill and len(self.progress.done) >= _KILL_AT * self._files:
                to_kill = False
                self._kill_one(workers + 1)
            if not self._supervisor.running:
                self.faults.append('no worker is left, and there are files to do')
                return
            if now() - grown_at > self._patience_sec:
                self.faults.append(f'no further file was finished for {self._patience_sec:.0f} s')
                return
        if to_kill:
            self._say('no worker was killed: the work was over too soon')
        self._say('every file is audited; the workers are asked to leave')

    def _kill_one(self, next_number: int) -> None:
        candidates: Sequence[Worker] = [w for w in self._supervisor.running if w.node in self.progress.entered]
        if not candidates:
            return
        victim = self._dice.choice(candidates)
        self._supervisor.kill(victim)
        self._say(f'kill -9 {victim.process.pid}: {victim.node} had no time to leave')
        successor = self._supervisor.start(f'worker-{next_number}', minimum_nodes=1)
        self._say(f'{successor.node} (pid {successor.process.pid}) started')

    def _note_deaths(self, ended: list[Worker]) -> None:
        for worker in ended:
            self.died.append(worker)
            self.faults.append(_fault(worker, 'ended by itself'))
            self._say(self.faults[-1])

    def _say(self, text: str) -> None:
        self._display.say(self.elapsed, text)
