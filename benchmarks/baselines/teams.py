"""Teams of processes that do rounds of tasks together: workers of the peer, and workers of queues."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from tests.support.servers import PostgresServer

from benchmarks.libraries.catalogue import service
from benchmarks.libraries.process import LibraryProcess, run_all
from benchmarks.libraries.rounds import Round, judged, line

__all__ = ['Team', 'peers', 'queue']

_TOKENS = 10_000
_ROLE = 'peer'
_SETTLE_SEC = 120.0


class Team:
    """Processes that do the tasks of a round together. The first one also prepares the round, and reads its records."""

    def __init__(self, name: str, workers: Sequence[LibraryProcess]) -> None:
        self.name, self._workers = name, workers
        self._next = 0

    def settle(self) -> None:
        """Wait until each worker has its share of the tokens, where workers have tokens."""
        deadline = time.monotonic() + _SETTLE_SEC
        count = len(self._workers)
        while True:
            shares = [int(worker.ask('tokens 0 0')) for worker in self._workers]
            if sum(shares) == _TOKENS and max(shares) - min(shares) <= 1:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f'{self.name}: {count} processes have {shares} tokens after {_SETTLE_SEC:g} s')
            time.sleep(0.1)

    def round(self, verb: str, count: int) -> Round:
        """Play a round of ``count`` tasks."""
        first, self._next = self._next, self._next + count
        self._workers[0].ask(line('fill', first, count))
        answers = run_all(self._workers, [line(verb, first, count)] * len(self._workers))
        return judged(answers, first, count, self._workers[0].ask(line('recorded', first, count)))


@contextmanager
def peers(server: PostgresServer, processes: int) -> Iterator[Team]:
    """Start the peer's workers, on a server with a database for the peer; verb ``steps``. Raises ``LibraryUnavailable``."""
    with ExitStack() as stack:

        def start(number: int) -> LibraryProcess:
            return service('peer tasks').start(port=server.port, role=_ROLE, node=f'peer-{number}')

        # The first by itself, for the peer's nodes do not stand a common start.
        workers = [stack.enter_context(start(0))]
        with ThreadPoolExecutor() as pool:
            workers += [stack.enter_context(worker) for worker in pool.map(start, range(1, processes))]
        team = Team('peer', workers)
        team.settle()
        yield team


@contextmanager
def queue(name: str, url: str, processes: int) -> Iterator[Team]:
    """Start the workers of a queue, ``skip-locked`` or ``procrastinate``. Raises ``LibraryUnavailable``."""
    with ExitStack() as stack:
        yield Team(name, [stack.enter_context(service(name).start(url=url)) for _ in range(processes)])
