"""A database of a Redis server for one test, and what can happen to it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

from tests.support.servers import RedisServer
from tests.support.timings import PATIENT
from tests.support.waiting import eventually

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.redis.plugin import connect
from jobsync.testing import Ability, Harness

__all__ = ['LOCK_FIELDS', 'NODE_FIELDS', 'SEAL', 'RedisHarness', 'eventually', 'with_field']


def connect_to(url: str, namespace: str, **options: float) -> Backend:
    """A handle as users get it."""
    return connect(url, BackendOptions(namespace, **{**PATIENT, **options}))


SEAL = 40
"""The length of what stands before a record's text."""
NODE_FIELDS = ('name', 'run', 'state', 'heartbeat', 'seen', 'holding', 'record', 'weight', 'replaced', 'created_on',
               'last_heartbeat', 'candidate')  # fmt: skip
LOCK_FIELDS = ('id', 'task', 'patterns', 'reason', 'created_by', 'created_at', 'expires_at', 'registered')


def with_field(raw: str, field: str | int, value: object) -> str:
    """Return a stored record with a value in the place of a field's, as a person would change it: the seal stays."""
    record = json.loads(raw[SEAL:])
    record[field] = value
    return raw[:SEAL] + json.dumps(record)


class RedisHarness(Harness):
    """A server that tests share, emptied first. What it is declared to be is what it is."""

    abilities = frozenset(Ability) - {Ability.CLOCK, Ability.HAND_EDITS}
    node_spoils = ('text', *NODE_FIELDS)
    lock_spoils = ('text', *LOCK_FIELDS)

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

    def refuse_writes(self) -> None:
        """The server wants a replica, and there is none."""
        self.server.ask('CONFIG', 'SET', 'min-replicas-to-write', '1')

    def accept_writes(self) -> None:
        """See ``Harness``."""
        self.server.ask('CONFIG', 'SET', 'min-replicas-to-write', '0')

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.url)

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(f'jobsync:{{{namespace}}}:nodes', name, way if way in NODE_FIELDS else None)

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """See ``Harness``."""
        self._spoil(f'jobsync:{{{namespace}}}:locks', task_id, LOCK_FIELDS.index(way) if way in LOCK_FIELDS else None)

    def _spoil(self, key: str, field: str, at: str | int | None) -> None:
        """Change one part of a record, or put something else in its place."""
        record = '["no record"]' if at is None else with_field(self.server.ask('HGET', key, field), at, 'Infinity')
        self.server.ask('HSET', key, field, record)

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
