"""The protocol on etcd: every method is one transaction, however many attempts and preparations it takes."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Sequence
from typing import Any

import attrs

from jobsync.backend import (
    Audit,
    Backend,
    BackendInfo,
    BackendOptions,
    Changes,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    NodeState,
    Opened,
    Plan,
    Pulse,
    Reach,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.channel import link_of_client, links_to
from jobsync.backends.etcd.commits import MOST_REMOVALS, Commits
from jobsync.backends.etcd.connection import Connection
from jobsync.backends.etcd.history import EtcdHistory
from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.locks import EtcdLocks
from jobsync.backends.etcd.nodes import EtcdNodes, all_records
from jobsync.backends.etcd.state import EtcdState, first_state
from jobsync.backends.etcd.store import EtcdStore, KeyReading, Write
from jobsync.backends.etcd.url import cluster_of
from jobsync.backends.etcd.watcher import Watcher
from jobsync.errors import SchemaMismatch

__all__ = ['EtcdBackend', 'connect', 'on_client']

INFO = BackendInfo('etcd', durable=True, push=True, reach=Reach.NETWORK, max_tokens=1_000_000, max_removals=MOST_REMOVALS)


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL; nothing is reached yet."""
    cluster, keys = cluster_of(url), EtcdKeys(options.namespace)
    connection = Connection(lambda: links_to(cluster), keys.state, options.op_timeout_sec)
    return EtcdBackend(connection, keys, options, str(cluster))


def on_client(client: Any, options: BackendOptions) -> Backend:
    """The backend on a client of the user's."""
    link, keys = link_of_client(client), EtcdKeys(options.namespace)
    connection = Connection(lambda: (link,), keys.state, options.op_timeout_sec, survives_fork=False)
    return EtcdBackend(connection, keys, options, 'etcd by a given client')


class EtcdBackend:
    """A ``Backend`` on one namespace in an etcd cluster."""

    def __init__(self, connection: Connection, keys: EtcdKeys, options: BackendOptions, shown: str) -> None:
        self.store = EtcdStore(connection, keys)
        self._keys = keys
        self._options = options
        self._shown = shown
        self._nodes = EtcdNodes(self.store)
        self._commits = Commits(self.store, self._nodes)
        self._locks = EtcdLocks(self.store, self._nodes)
        self._trails = EtcdHistory(self.store, self._nodes)
        self._watcher = Watcher(connection, keys.state, options.op_timeout_sec)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._shown} {self._keys.namespace}>'

    @property
    def info(self) -> BackendInfo:
        """An acknowledged write is on the disks of a majority."""
        return INFO

    @property
    def _soon(self) -> float:
        return time.monotonic() + self._options.op_timeout_sec

    @property
    def _later(self) -> float:
        return time.monotonic() + self._options.bulk_timeout_sec

    # The namespace

    def open(self, settings: Settings, create: bool, dead: Collection[tuple[str, int]] = ()) -> Opened:
        """See ``Backend.open``."""
        deadline, keys = self._soon, self._keys

        def decide(reading: KeyReading) -> Opened | Write[Opened]:
            if keys.state not in reading.values:
                if not create:
                    raise SchemaMismatch(
                        f'{self._shown} has no namespace {keys.namespace!r}, and skip_db_init forbids to make it'
                    )
                return self._all_anew(reading, first_state(settings, reading.cluster))
            state = reading.state
            if state.settings == settings:
                return Opened(state.settings, state.timeline)
            everything = self.store.read_all(keys.state, keys.nodes, deadline)
            nodes = [record.node for record in all_records(everything)[0]]
            if any(node.state is NodeState.JOINED and node.beat not in dead for node in nodes):
                return Opened(state.settings, state.timeline)
            write = self._all_anew(reading, attrs.evolve(state.renewed(reading.cluster), settings=settings))
            unwritten = requests.unwritten(keys.nodes, everything.at, requests.after(keys.nodes))
            return attrs.evolve(write, compares=[*write.compares, unwritten])

        return self.store.change([requests.get(keys.state)], decide, deadline)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """See ``Backend.renew_timeline``."""

        def decide(reading: KeyReading) -> Write[Opened] | Opened | None:
            state = reading.state
            if state.timeline != expected:
                return None
            return self._all_anew(reading, state.renewed(reading.cluster, at_least, longest_timeout_sec))

        self.store.change([requests.get(self._keys.state)], decide, self._soon)

    def _all_anew(self, reading: KeyReading, state: EtcdState) -> Write[Opened]:
        """Return what to write for a state to which no nodes and no assignment belong."""
        removed = [requests.delete_all(prefix, requests.after(prefix)) for prefix in (self._keys.nodes, self._keys.tokens)]
        put = requests.put(self._keys.state, state.encoded())
        opened = Opened(state.settings, state.timeline)
        return Write([reading.same(self._keys.state)], [put, *removed], lambda _: opened)

    def close(self) -> None:
        """See ``Backend.close``."""
        self._watcher.close()
        self.store.connection.close()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        return self._nodes.snapshot(self.store.read_all(self._keys.state, self._keys.nodes, self._soon))

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        return self._watcher.wait(revision, timeout)

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        self._nodes.register(node, timeline, at_least, replacing, self._soon)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """See ``Backend.heartbeat``."""
        return self._nodes.heartbeat(ref, seen, holding, candidate, self._soon)

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """See ``Backend.set_weight``."""
        self._nodes.set_weight(ref, weight, self._soon)

    def deregister(self, ref: NodeRef) -> None:
        """See ``Backend.deregister``."""
        self._nodes.deregister(ref, self._soon)

    # The leader's

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        return self._nodes.acquire_leadership(ref, epoch, self._soon)

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        return self._commits.read(since, self._later)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        return self._commits.commit(ref, plan, guard, self._later)

    # Task locks

    def read_locks(self) -> LockReading:
        """See ``Backend.read_locks``."""
        return self._locks.read(self._later)

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        return self._locks.edit(edit, self._later)

    # Trails

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``."""
        self._trails.append_claims(ref, items, date, self._later)

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        self._trails.append_audits(node, items, date, self._later)

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """See ``Backend.history``."""
        return self._trails.history(kind, limit, date, item, self._later)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        return self._trails.incomplete(date, older_than, self._later)

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``."""
        return self._trails.purge(kind, before, self._later)
