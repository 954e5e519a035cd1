"""Worker processes of the demo: started, killed and ended. Signals go only to processes that the supervisor itself started."""

from __future__ import annotations

import enum
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from jobsync.testing.worker_log import LogTail, now
from jobsync_demo.orders import log_path

__all__ = ['Fate', 'Supervisor', 'Worker']

_LEAVE_SEC = 60.0
"""How long a worker may take to finish its file and leave before SIGTERM. On a busy machine one has not started within 15."""


class Fate(enum.Enum):
    """The fate of a worker."""

    RUNNING = 'running'
    KILLED = 'killed'
    LEFT = 'left'
    DIED = 'died'
    """The process ended without a request."""


@attrs.define
class Worker:
    """One worker process."""

    node: str
    process: subprocess.Popen[bytes]
    tail: LogTail
    complaints: Path
    """The file of its standard error."""
    fate: Fate = Fate.RUNNING
    killed_at: float = 0.0
    """The time just before the signal was sent."""

    def last_words(self) -> str:
        """Return the last line of its standard error."""
        lines = self.complaints.read_text(encoding='utf-8', errors='replace').split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), '(no output)')


class Supervisor:
    """The workers of one demo. The end of the ``with`` block ends all of them, with or without an error."""

    def __init__(self, folder: Path, orders: Path) -> None:
        self._folder = folder
        self._orders = orders
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stop(_LEAVE_SEC if kind is None else 2.0)

    def start(self, node: str, minimum_nodes: int) -> Worker:
        """Start a worker process."""
        complaints = self._folder / f'{node}.err'
        # -P: nothing is imported from the working directory.
        command = [sys.executable, '-P', '-m', 'jobsync_demo.worker', str(self._orders), node, str(minimum_nodes)]
        with complaints.open('wb') as file:
            process = subprocess.Popen(  # noqa: S603 - this Python, with a module of ours
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then ends the workers in order
            )
        worker = Worker(node, process, LogTail(log_path(self._folder, node)), complaints)
        self.workers.append(worker)
        return worker

    @property
    def running(self) -> list[Worker]:
        """Workers that were not killed and have not ended, as of the last ``find_ended``."""
        return [worker for worker in self.workers if worker.fate is Fate.RUNNING]

    def kill(self, worker: Worker) -> None:
        """Kill a worker with SIGKILL: the process can neither leave nor release anything."""
        worker.killed_at = now()
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        worker.fate = Fate.KILLED

    def find_ended(self) -> list[Worker]:
        """Return the workers that have ended by themselves since the last call."""
        ended = [worker for worker in self.running if worker.process.poll() is not None]
        for worker in ended:
            worker.fate = Fate.DIED
        return ended

    def _stop(self, patience_sec: float) -> None:
        """End all workers, by force if they do not leave in time."""
        leaving = self.running
        for worker in self.workers:
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        deadline = now() + patience_sec
        forced = [worker for worker in leaving if not _ends_by(worker, deadline)]
        for worker in forced:
            worker.process.terminate()
        deadline = now() + 2.0
        for worker in forced:
            if not _ends_by(worker, deadline):
                worker.process.kill()
                worker.process.wait()
        for worker in leaving:
            worker.fate = Fate.LEFT if worker.process.returncode == 0 else Fate.DIED


def _ends_by(worker: Worker, deadline: float) -> bool:
    try:
        worker.process.wait(max(deadline - now(), 0.01))
    except subprocess.TimeoutExpired:
        return False
    return True
