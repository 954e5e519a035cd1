"""Finding a server's program, and what all of them have in common: starting, killing, pausing."""

from __future__ import annotations

import abc
import contextlib
import fcntl
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ['ServerNotFound', 'ServerProcess', 'find_programs', 'free_port']

PORTS = range(12000, 32000)
"""Below those that Linux and macOS give to connections."""
RESERVATIONS = Path(tempfile.gettempdir()) / f'jobsync-ports-{os.geteuid()}'
reserved: list[BinaryIO] = []
"""Locked as long as this process lives."""
STARTING_SEC = 120.0
"""How long a server may take to answer; a loaded machine is slow."""


class ServerNotFound(Exception):
    """The server's program is nowhere; the message says where it was looked for."""


def free_port() -> int:
    """A port that is free, and stays that of this process until it ends, also while its server is down.

    Not one that the kernel chooses: it would give the same to the next connection of anyone, whose other end may keep it for
    minutes. A locked file tells the other processes of the tests that it is taken.
    """
    RESERVATIONS.mkdir(exist_ok=True)
    for _ in range(1000):
        port = secrets.choice(PORTS)
        reservation = (RESERVATIONS / str(port)).open('ab')
        try:
            fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reservation.close()
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(('127.0.0.1', port))
            reserved.append(reservation)
            return port
        reservation.close()
    raise RuntimeError(f'no port between {PORTS.start} and {PORTS.stop} is free')


def find_programs(name: str, variable: str, wheel: Iterable[Path], places: Iterable[Path]) -> list[Path]:
    """Return the paths of a program, each file once: only in the folder that the environment variable names, if it is set.

    Otherwise those of the wheel among the test dependencies come first, so that a test by default runs on the same server
    everywhere, then the one on the PATH, then those in the places.
    """
    places = list(places)
    if folder := os.environ.get(variable):
        found = Path(folder) / name
        if not os.access(found, os.X_OK):
            raise ServerNotFound(f'{variable}={folder}, but there is no program {found}')
        return [found.resolve()]
    on_path = shutil.which(name)
    others = [*([] if on_path is None else [Path(on_path)]), *(place / name for place in places)]
    candidates = [*(folder / name for folder in wheel), *others]
    programs = list(dict.fromkeys(found.resolve() for found in candidates if os.access(found, os.X_OK)))
    if not programs:
        looked = ', '.join(map(str, places)) or 'any usual place'
        raise ServerNotFound(
            f'{name} is neither in a wheel nor on the PATH nor in {looked}; set {variable} to the folder it is in'
        )
    return programs


class ServerProcess(abc.ABC):
    """One server, running from its construction until ``close``."""

    name: str
    """In messages, and in the name of the folder."""
    environment: Mapping[str, str] = {}
    """Variables of its next start, besides those of this process."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f'jobsync-{self.name}-'))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Make what the first start needs in ``folder``."""

    @abc.abstractmethod
    def command(self) -> Sequence[str]:
        """What runs the server in the foreground, on ``port`` of the loopback and in ``folder``."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether it answers a real request; an open port is not enough."""

    @property
    def log(self) -> str:
        """The end of what it has written; what a program in Go has written as it broke down begins with the reason."""
        text = (self.folder / 'log').read_text(errors='replace')
        panic = text.rfind('\npanic: ')
        return text[-2000:] if panic < 0 else text[panic:][:2000]

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None, f'{self.name} is not running'
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is not running, for whatever reason."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start it and wait until it answers.

        After a kill something of it, such as shared memory, may be held for a moment: then it ends at once, and is started
        again.
        """
        deadline = time.monotonic() + STARTING_SEC
        while True:
            with (self.folder / 'log').open('ab') as log:
                environment = {**os.environ, **self.environment}
                self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment, start_new_session=True)
            while self._process.poll() is None and time.monotonic() < deadline:
                if self.answers():
                    return
                time.sleep(0.05)
            self.kill()
            if time.monotonic() > deadline:
                raise RuntimeError(f'{self.name} does not start: {self.log}')
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, to every process of it, and wait for their end: one that Redis has forked keeps the connections of clients."""
        killed = [] if self.has_ended else self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
        for process in killed:
            wait_for_end(process)

    def pause(self) -> None:
        """SIGSTOP for all of it: connections stay, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The end of ``pause``."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> Sequence[int]:
        """To all of its processes, which are returned; some servers' are process groups of their own."""
        assert self._process is not None, f'{self.name} is not running'
        first = self._process.pid
        if number != signal.SIGCONT:
            # t=0  PostgreSQL is to be killed, and its processes are listed
            # t=1  it forks one more, for a connection
            # t=2  the listed ones are killed, one of them with a lock in shared memory: the new one waits for that lock for ever,
            #      and no server starts as long as it is there
            # So the first process, which makes the others, is stopped before they are listed.
            os.kill(first, signal.SIGSTOP)
            os.waitid(os.P_PID, first, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # its threads do not stop at once
        processes = (first, *descendants(first))
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return processes


def descendants(process: int) -> list[int]:
    """The processes below one."""
    listing = subprocess.run(['ps', '-A', '-o', 'pid=,ppid='], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found = [process]
    for parent in found:
        found += [pid for pid, of in pairs if of == parent]
    return found[1:]


def wait_for_end(process: int) -> None:
    """Wait until a process has closed what it had open, where the system can tell (Linux)."""
    if hasattr(os, 'pidfd_open'):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(1000 * STARTING_SEC)
            finally:
                os.close(descriptor)
