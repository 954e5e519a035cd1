"""All the keys of an etcd server for one test, and what can happen to them."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.etcd.etcd_backend import EtcdBackend
from jobsync.backends.etcd.plugin import connect
from jobsync.testing.conformance.harness import Ability, Harness
from jobsync.testing.servers import EtcdServer

__all__ = ['EtcdHarness']


def connect_to(url: str, namespace: str, **options: float) -> Backend:
    """A handle as users get it."""
    return connect(url, BackendOptions(namespace, **options))


class EtcdHarness(Harness):
    """A server that tests share, one after the other: each leaves it empty."""

    abilities = frozenset(Ability) - {Ability.HAND_EDITS}

    def __init__(self, server: EtcdServer) -> None:
        self.server = server
        self.url = server.url()
        self._ahead = dt.timedelta(0)
        self._backends: list[Backend] = []

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        backend = connect_to(self.url, namespace, **options)
        assert isinstance(backend, EtcdBackend)
        # The store's time is that of the process that writes.
        backend.store.now = lambda: dt.datetime.now(dt.UTC) + self._ahead  # type: ignore[method-assign]
        self._backends.append(backend)
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()
        self.wipe()

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

    def move_clock(self, by: dt.timedelta) -> None:
        """See ``Harness``."""
        self._ahead += by

    def fail_over(self) -> None:
        """A snapshot is restored."""
        self.server.restore()

    def wipe(self) -> None:
        """All keys are deleted."""
        self.server.ctl('del', '', '--prefix')
