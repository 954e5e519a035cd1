"""The table of stores that jobsync comes with: how to have an empty one of each kind. Tests and benchmarks go by it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
from tests.support.servers import EtcdServer, PostgresServer, RedisServer, ServerProcess

from jobsync.backend import Reach

__all__ = ['KINDS', 'Kind', 'many_databases']

_DATABASES = 10_000
_databases = count(1)


@attrs.frozen
class Kind:
    """A kind of store."""

    name: str
    empty: Callable[[Any, Path], str]
    """The URL of an empty one, given the server, or a folder for those that need none."""
    start: Callable[[], ServerProcess] | None = None
    """Starts a server of its own; None: it needs none."""
    reach: Reach = Reach.NETWORK
    """As its backend declares."""

    @contextmanager
    def server(self) -> Iterator[ServerProcess | None]:
        """Its server, for the time of the block."""
        if self.start is None:
            yield None
            return
        server = self.start()
        try:
            yield server
        finally:
            server.close()

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a store that nobody else uses; its server ends with the block."""
        with self.server() as server, tempfile.TemporaryDirectory(prefix=f'jobsync-{self.name}-') as folder:
            yield self.empty(server, Path(folder))


def many_databases() -> RedisServer:
    """A Redis server with as many databases as there may be empty stores."""
    return RedisServer(options=['--databases', str(_DATABASES)])


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind('memory', lambda _, __: f'memory://{uuid.uuid4().hex}', reach=Reach.PROCESS),
        Kind('sqlite', lambda _, folder: f'sqlite:///{folder}/jobs.db', reach=Reach.HOST),
        Kind('postgresql', lambda server, _: server.new_schema(), PostgresServer),
        Kind('redis', lambda server, _: server.url(next(_databases) % _DATABASES, 'durable=yes'), many_databases),
        Kind('etcd', lambda server, _: server.emptied(), EtcdServer),
    )
}
"""By name. An empty etcd is the server's only store: what was there before is gone."""
