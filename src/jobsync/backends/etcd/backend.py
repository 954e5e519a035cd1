"""The backend on etcd: its parts, and what concerns the namespace as a whole."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Sequence
from typing import Any

import attrs

from jobsync.backend import Backend, BackendInfo, BackendOptions, NodeState, Opened, Reach, Settings, Space, Timeline
from jobsync.backends._common.probing import ETCD, refuse_other_server
from jobsync.backends._common.values import draw_id
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.assignment import MOST_REMOVALS, EtcdAssignment
from jobsync.backends.etcd.channel import channel_of_client, channels_to
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.history import EtcdHistory
from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.locks import EtcdLocks
from jobsync.backends.etcd.nodes import EtcdNodes
from jobsync.backends.etcd.purging import EtcdPurging
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.space import space_of
from jobsync.backends.etcd.state import EtcdState, state_of
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite
from jobsync.backends.etcd.url import cluster_of
from jobsync.backends.etcd.watcher import Watcher
from jobsync.errors import BackendUnavailable, SchemaMismatch

__all__ = ['EtcdBackend', 'connect', 'on_client']

INFO = BackendInfo(
    'etcd',
    durable=True,
    push=True,
    reach=Reach.NETWORK,
    max_tokens=1_000_000,
    max_removals=MOST_REMOVALS,
    space=True,
    namespaces=True,
)


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL, without connecting."""
    cluster, keys = cluster_of(url), EtcdKeys(options.namespace)
    connection = EtcdConnection(lambda: channels_to(cluster, options.op_timeout_sec), keys.state, options.op_timeout_sec)
    return EtcdBackend(connection, keys, options, str(cluster), cluster.endpoints, over_tls=bool(cluster.tls))


def on_client(client: Any, options: BackendOptions) -> Backend:
    """Return the backend on a client of the user's."""
    keys = EtcdKeys(options.namespace)
    connection = EtcdConnection(lambda: (channel_of_client(client),), keys.state, options.op_timeout_sec, survives_fork=False)
    return EtcdBackend(connection, keys, options, 'etcd by a given client')


class EtcdBackend:
    """A ``Backend`` on one namespace in an etcd cluster: each method of the protocol is one of this class or of a part."""

    info: BackendInfo = INFO
    """See ``Backend.info``: an acknowledged write is on the disks of a majority."""

    def __init__(
        self,
        connection: EtcdConnection,
        keys: EtcdKeys,
        options: BackendOptions,
        shown: str,
        endpoints: Sequence[str] = (),
        *,
        over_tls: bool = False,
    ) -> None:
        self.store = store = EtcdStore(connection, keys, options)
        self._keys = keys
        self._shown = shown
        self._endpoints, self._over_tls = endpoints, over_tls
        """Where a server of another kind may be, until ``open`` has been called once."""
        nodes, locks, history = EtcdNodes(store), EtcdLocks(store), EtcdHistory(store)
        self._assignment = assignment = EtcdAssignment(store, self.renew_timeline)
        self._watcher = Watcher(connection, keys, options.op_timeout_sec)
        self.snapshot, self.register, self.heartbeat = nodes.snapshot, nodes.register, nodes.heartbeat
        self.set_weight, self.deregister, self.acquire_leadership = nodes.set_weight, nodes.deregister, nodes.acquire_leadership
        self.remove_node = nodes.remove_node
        self.read_assignment, self.commit = assignment.read_assignment, assignment.commit
        self.read_locks, self.edit_locks = locks.read_locks, locks.edit_locks
        self.append_claims, self.append_audits = history.append_claims, history.append_audits
        self.forget_attempts, self.lost_attempts = history.attempts.forget_attempts, history.lost_attempts
        self.history, self.incomplete, self.purge = history.history, history.incomplete, EtcdPurging(store).purge
        self.wait = self._watcher.wait

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._shown} {self._keys.namespace}>'

    def read_space(self) -> Space:
        return space_of(self.store)

    def read_namespaces(self, limit: int) -> list[str]:
        return list(itertools.islice(self.store.namespaces(self.store.soon()), limit))

    def _refuse_other_server(self, within_sec: float) -> None:
        """Raise ``ConfigError`` if one of the URL's endpoints is a server of another kind."""
        for endpoint in self._endpoints:
            host, _, port = endpoint.rpartition(':')
            refuse_other_server(ETCD, host.strip('[]'), int(port), self._shown, within_sec, over_tls=self._over_tls)

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        deadline, keys = self.store.soon(), self._keys
        self._assignment.audience.add(is_node=settings is not None)

        def decide(reading: KeyReading) -> Opened | EtcdWrite[Opened]:
            if keys.state not in reading.values:
                if not create or settings is None:
                    how = 'a worker without skip_db_init=True makes it' if settings is None else 'skip_db_init forbids to make it'
                    raise SchemaMismatch(f'{self._shown} has no namespace {keys.namespace!r}; {how}')
                # t=0  a person deletes the key of the state; nodes a and b have leases, and their records are left over
                # t=1  a newcomer makes the namespace. In a generation 0 it would own all tokens at once
                # So the first commit waits for the longest timeout in what is left over.
                left_over = self.store.read_cluster(deadline)
                timeline = Timeline(1 if left_over.values else 0, draw_id(), reading.cluster)
                longest = max((record.node.timeout_sec for record in left_over.records()[0]), default=0.0)
                return self._all_anew(reading, EtcdState(settings, timeline, longest_timeout_sec=longest))
            found = reading.values[keys.state]
            state = state_of(found, upgrades=create)
            as_found = Opened(state.settings, state.timeline)
            opened: Opened | EtcdWrite[Opened] = as_found
            if create and (form := state.encoded()) != found:
                opened = EtcdWrite([reading.same(keys.state)], [requests.put(keys.state, form)], as_found)
            if settings is None or dead is None or state.settings == settings:
                return opened
            cluster = self.store.read_cluster(deadline)
            nodes = [record.node for record in cluster.records()[0]]
            if any(node.state is NodeState.JOINED and node.beat not in dead for node in nodes):
                return opened
            # t=0  the nodes are read: all are dead, or there are none
            # t=1  one of them sends a heartbeat, or another one registers
            # t=2  the new settings arrive: a node's record was written since t=0, and the decision is made anew
            write = self._all_anew(reading, attrs.evolve(state.renewed(reading.cluster), settings=settings))
            unwritten = requests.unwritten(keys.nodes, cluster.at, requests.end_of(keys.nodes))
            return attrs.evolve(write, compares=[*write.compares, unwritten])

        try:
            opened = self.store.change([requests.get(keys.state)], decide, deadline)[0]
        except BackendUnavailable:
            self._refuse_other_server(deadline - time.monotonic())
            raise
        finally:
            self._endpoints = ()
        if settings is None:
            # t=0  all nodes die
            # t=1  a command reads their records: the time that they bring is t=0, at which none was silent
            # So a handle that is opened for reading watches them first, if its own clock says that they are old.
            self.store.read_time(self.store.later(), until_sure=True)
        return opened

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        def decide(reading: KeyReading) -> Opened | EtcdWrite[Opened] | None:
            state = reading.state
            if state.timeline != expected:
                return None
            return self._all_anew(reading, state.renewed(reading.cluster, at_least, longest_timeout_sec))

        self.store.change([requests.get(self._keys.state)], decide, self.store.soon())

    def _all_anew(self, reading: KeyReading, state: EtcdState) -> EtcdWrite[Opened]:
        """Return the write of a state to which no nodes and no assignment belong."""
        removed = [requests.delete(prefix, requests.end_of(prefix)) for prefix in (self._keys.nodes, self._keys.tokens)]
        operations = [*self.store.put_state(state), *removed]
        return EtcdWrite([reading.same(self._keys.state)], operations, Opened(state.settings, state.timeline))

    def close(self) -> None:
        self._watcher.close()
        self.store.connection.close()
