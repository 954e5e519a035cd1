"""All the keys of an etcd server for one test, and what can happen to them."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import attrs
from tests.support.servers import EtcdMember, EtcdServer, start_members
from tests.support.timings import PATIENT

from jobsync.backend import Backend, BackendOptions
from jobsync.backends._common.values import next_revision
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.json_form import to_json
from jobsync.backends.etcd.locks import EtcdLocks, encoded
from jobsync.backends.etcd.plugin import connect
from jobsync.backends.etcd.store import EtcdStore
from jobsync.backends.etcd.storetime import StoreTime
from jobsync.testing import Ability, Harness

__all__ = ['EtcdClusterHarness', 'EtcdHarness']

SECONDS = 30.0
NODE_FIELDS: Mapping[str, Any] = {
    'name': 'another',
    'incarnation': 7,
    'heartbeat': -1,
    'seen': 'nothing',
    'holding': ['x'],
    'state': 'gone',
    'replaces': None,
    'weight': float('inf'),
    'timeout_sec': float('nan'),
    'host': ['h'],
    'pid': 'x',
    'created_on': '2026-03-02T12:00:00',
    'last_heartbeat': '+10000-01-01',
    'candidate': 'perhaps',
    'clock': '2026-03-02T12:00:00',
    'latest': 7,
}
"""Values that no node has."""
LOCK_FIELDS: Mapping[str, tuple[str, Any]] = {
    'id': ('id', 'x'),
    'patterns': ('patterns', 'a%'),
    'nested patterns': ('patterns', [['a%']]),
    'reason': ('reason', 7),
    'creator': ('created_by', None),
    'created_at': ('created_at', 'infinity'),
    'expires_at': ('expires_at', '+10000-01-01'),
    'registered': ('registered', None),
}
"""Values that no lock has, each with its field."""


def connect_to(url: str, namespace: str, **options: float) -> EtcdBackend:
    """Return a handle as users get it."""
    backend = connect(url, BackendOptions(namespace, **{**PATIENT, **options}))
    assert isinstance(backend, EtcdBackend)
    return backend


def deadline() -> float:
    """Return when what the harness does must be done."""
    return time.monotonic() + SECONDS


def put(store: EtcdStore, values: Mapping[bytes, bytes]) -> None:
    """Write as an operator might."""
    store.connection.write('KV.Txn', requests.when((), (requests.put(*item) for item in values.items())), deadline())


class EtcdHarness(Harness):
    """A server that tests share, one after the other: each finds it empty, and leaves it so."""

    abilities = frozenset(Ability) - {Ability.HAND_EDITS}

    node_spoils = ('record', 'no object', 'a field too many', *NODE_FIELDS)
    lock_spoils = ('too short', *LOCK_FIELDS)

    def __init__(self, server: EtcdServer) -> None:
        self.server = server
        self.url = server.emptied()
        self._ahead = dt.timedelta(0)
        self._backends: list[EtcdBackend] = []

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        backend = connect_to(self.url, namespace, **options)
        backend.store.time = StoreTime(self._clock)
        self._backends.append(backend)
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()
        if '_client' in vars(self):
            self._client.close()
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

    def refuse_writes(self) -> None:
        """As if the space were used up: the alarm is raised that ends all writing."""
        self._client.create_alarm()

    def accept_writes(self) -> None:
        """The alarm is disarmed."""
        self._client.disarm_alarm()

    @functools.cached_property
    def _client(self) -> Any:
        return etcd3.client(port=self.server.port)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.url)

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """See ``Harness``."""
        with self._store(namespace) as store:
            key = store.keys.node(name)
            record = json.loads(store.read([requests.get(key)], deadline()).values[key])
            fields = record if way in record else record['node']
            fields |= {way: NODE_FIELDS[way]} if way in NODE_FIELDS else {'another': 1}
            value = {'record': b'\xff{', 'no object': b'[[]]'}.get(way) or json.dumps(record).encode()
            put(store, {key: value})

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """See ``Harness``: all locks are written as one record, in which this one's form is spoilt."""
        with self._store(namespace) as store:
            reading = store.read_state(deadline())
            state, found = reading.state, EtcdLocks(store).at(reading, deadline())
            form = json.loads(to_json(found.locks[task_id]))
            if way in LOCK_FIELDS:
                field, value = LOCK_FIELDS[way]
                form[field] = value
            else:
                del form['patterns']
            others = [lock for task, lock in found.locks.items() if task != task_id]
            draft = state.locks.draft_whole(store.keys.locks, encoded([*others, *found.spoilt.values(), form]))
            revision = next_revision(state.revision)
            locks = draft.appended(revision)
            after = attrs.evolve(state, revision=revision, locks_revision=revision.number, locks=locks)
            put(store, {store.keys.state: after.encoded(), **dict(chain.from_iterable(draft.records))})

    def move_clock(self, by: dt.timedelta) -> None:
        """The clocks of all machines are set, and all nodes have sent a heartbeat since."""
        self._ahead += by
        with self._store('sync_') as store:
            values = dict(store.range(store.keys.nodes, 0, deadline()))
            for key, value in values.items():
                fields = json.loads(value)
                told = {field: dt.datetime.fromisoformat(fields[field]) + by for field in ('clock', 'latest')}
                values[key] = json.dumps(fields | {field: at.isoformat() for field, at in told.items()}).encode()
            put(store, values)
        for backend in self._backends:
            backend.store.time = StoreTime(self._clock)

    @contextlib.contextmanager
    def _store(self, namespace: str) -> Iterator[EtcdStore]:
        backend = connect_to(self.url, namespace)
        try:
            yield backend.store
        finally:
            backend.close()

    def _clock(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self._ahead

    def fail_over(self) -> None:
        """A snapshot is restored."""
        self.server.restore()

    def wipe(self) -> None:
        """All keys are deleted."""
        self.server.empty()


class EtcdClusterHarness(EtcdHarness):
    """A cluster of three members of its own, which are killed together.

    One member alone, of a version before 3.5.5, answers that a write is done while it is still about to write it to its log, and
    loses the write if it is killed in between (etcd's issue 14370). A majority of three has it in their logs.
    """

    def __init__(self) -> None:
        self.members = start_members()
        super().__init__(self.members[0])
        self.url = f'etcd://{",".join(member.endpoint for member in self.members)}/'

    def restart(self) -> None:
        """See ``Harness``."""
        for member in self.members:
            member.kill()
        with ThreadPoolExecutor(len(self.members)) as pool:
            list(pool.map(EtcdMember.start, self.members))

    def close(self) -> None:
        """See ``Harness``."""
        super().close()
        for member in self.members:
            member.close()
