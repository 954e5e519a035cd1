"""A database of a Redis server for one test, and what can happen to it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.redis.plugin import connect
from jobsync.testing.conformance.harness import Ability, Harness
from jobsync.testing.servers import RedisServer

__all__ = ['RedisHarness', 'eventually']


def connect_to(url: str, namespace: str, **options: float) -> Backend:
    """A handle as users get it."""
    return connect(url, BackendOptions(namespace, **options))


def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition that a server brings about."""
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, 'still not so after 100 s'
        time.sleep(0.02)


class RedisHarness(Harness):
    """A server that tests share, emptied first. What it is declared to be is what it is."""

    abilities = frozenset(Ability) - {Ability.CLOCK, Ability.HAND_EDITS}

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        server.ask('FLUSHALL')
        self._backends: list[Backend] = []

    @property
    def url(self) -> str:
        """Of the default user."""
        return self.server.url(query=f'durable={"yes" if self.server.is_durable else "no"}')

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        backend = connect_to(self.url, namespace, **options)
        self._backends.append(backend)
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()

    def restart(self) -> None:
        """See ``Harness``."""
        self.server.kill()
        self.server.start()

    def stop(self) -> None:
        """The server is stopped dead: connections stay open, and nothing comes."""
        self.server.pause()

    def start(self) -> None:
        """See ``Harness``."""
        self.server.resume()

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.url)

    def fail_over(self) -> None:
        """A replica takes the server's place, at its address."""
        replica = RedisServer(self.server.program, durable=self.server.is_durable, replica_of=self.server)
        try:
            eventually(lambda: replica.is_synchronised)
            replica.promote()
            self.server.change_places(replica)
        finally:
            replica.close()

    def wipe(self) -> None:
        """See ``Harness``."""
        self.server.ask('FLUSHALL')
