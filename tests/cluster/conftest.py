"""A cluster of two nodes, from records that the tests write, and a clock that they set."""

from __future__ import annotations

import datetime as dt

import pytest

from jobsync import Cluster
from jobsync.backend import Member, NodeRef, Revision, TokenGroup
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS

START = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


class Clock:
    """A store's clock that a test sets."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> dt.datetime:
        """Return the time."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += dt.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def namespace(store: MemoryStore) -> Namespace:
    return Namespace(MemoryBackend(store))


@pytest.fixture
def cluster(store: MemoryStore) -> Cluster:
    return Cluster(MemoryBackend(store))


Nodes = dict[str, NodeRef]


@pytest.fixture
def nodes(namespace: Namespace) -> Nodes:
    """Two nodes that share all tokens: a, the leader, has the lower half."""
    refs = {'a': namespace.leader('a'), 'b': namespace.join('b')}
    members = {name: Member(ref.incarnation, 15.0) for name, ref in refs.items()}
    halves = TokenGroup(range(12), 'a'), TokenGroup(range(12, TOKENS), 'b')
    version = namespace.commit(refs['a'], *halves, members=members, moved=TOKENS, reason='first distribution')
    acknowledge(namespace, refs, version)
    return refs


def acknowledge(namespace: Namespace, nodes: Nodes, version: Revision) -> None:
    for ref in nodes.values():
        namespace.beat(ref, version)


def task_of(cluster: Cluster, node: str) -> str:
    """A task that a node owns."""
    return next(str(number) for number in range(1000) if cluster.owner_of(number) == node)
