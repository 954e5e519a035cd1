"""Worker processes that a test starts, signals and always ends."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.support import forks

ROOT = Path(__file__).parents[2]


def _may_be_written(database: str) -> bool:
    """Whether no transaction holds the lock of an SQLite file for longer than a moment."""
    with contextlib.closing(sqlite3.connect(database, timeout=2, isolation_level=None)) as cn:
        try:
            cn.execute('BEGIN IMMEDIATE')
        except sqlite3.OperationalError:
            return False
        cn.execute('ROLLBACK')
    return True


class Worker:
    """A process of ``tests.job.worker``, and what it has said so far. ``wrapper``: a command that starts it."""

    module = 'tests.job.worker'

    def __init__(self, url: str, name: str, mode: str = 'idle', wrapper: Sequence[str] = (), /, **settings: Any) -> None:
        self.name, self._url = name, url
        arguments = [url, name, mode, *(f'{key}={json.dumps(value)}' for key, value in settings.items())]
        self.process: subprocess.Popen[str] | forks.ForkedProcess
        if forks.are_preferred() and not wrapper:
            self.process = forks.start(self.module, arguments, text=True)
        else:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, '-m', self.module, *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.said: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a line that a kill has cut
                self.said.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def wait_until_said(self, state: str, deadline_sec: float = 2 * DEADLINE_SEC) -> dict[str, Any]:
        """The line that says that the worker is in a state."""
        found: list[dict[str, Any]] = []

        def is_said() -> bool:
            if has_ended := self.process.poll() is not None:
                self.wait()  # for what it has said last
            found.extend(line for line in self.said if line.get('state') == state)
            assert found or not has_ended, ''.join(self.errors)
            return bool(found)

        wait_until(is_said, f'{self.name} is {state}', deadline_sec)
        return found[0]

    def wait(self) -> int:
        """The exit status, with all that was said read."""
        try:
            status = self.process.wait(DEADLINE_SEC)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{self.name} has not ended: ' + ''.join(self.errors)) from None
        for reader in self._readers:
            reader.join(DEADLINE_SEC)
        return status

    def stop(self) -> None:
        """Stop it (SIGSTOP). On SQLite not in the middle of a write: the file's lock would stop every other worker too."""
        self.process.send_signal(signal.SIGSTOP)
        database = sa.make_url(self._url).database if self._url.startswith('sqlite') else None
        while database and not _may_be_written(database):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Kill it, if it is still there."""
        self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class AsyncWorker(Worker):
    """The same of ``tests.job.async_worker``."""

    module = 'tests.job.async_worker'


@contextlib.contextmanager
def workers(*started: Worker) -> Iterator[None]:
    """Have these processes ended with the block, whatever happens in it."""
    try:
        yield
    finally:
        for worker in started:
            worker.end()
