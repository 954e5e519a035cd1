"""What an observer reads and what it may not do, for the tests of what a user of a store must be allowed who only looks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

import pytest

from jobsync import Cluster
from jobsync._core.assignment import TokenGroup
from jobsync.backend import Backend
from jobsync.errors import ConfigError
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['QUESTIONS', 'changes_nothing', 'observer', 'sees_what_there_is', 'something_to_see']

DAY = dt.date(2026, 3, 2)
LEADER = 'leader'

QUESTIONS: Mapping[str, Callable[[Cluster], object]] = {
    'locks': Cluster.locks,
    'items': Cluster.items,
    'tokens': Cluster.tokens,
    'hand-overs': Cluster.hand_overs,
    'why': lambda cluster: cluster.why('x', date=DAY),
    'plan': lambda cluster: cluster.plan(add=['new']),
    'claims': Cluster.claims,
    'claims of a day': lambda cluster: cluster.claims(date=DAY),
    'claims of a task': lambda cluster: cluster.claims(date=DAY, task='x'),
    'audits': Cluster.audits,
    'incomplete': lambda cluster: cluster.incomplete(date=DAY),
    'quarantined': lambda cluster: cluster.quarantined(attempts=1, date=DAY),
    'rebalances': Cluster.rebalances,
    'history': Cluster.history,
    'names': lambda cluster: [node['name'] for node in cluster.nodes()],
    'leader': lambda cluster: cluster.status()['leader'],
}


def observer(url: str) -> Cluster:
    """Return an observer of the namespace there that has time, also where the machine has none."""
    return Cluster(url, op_timeout_sec=100, bulk_timeout_sec=100)


def something_to_see(backend: Backend) -> Namespace:
    """Make a namespace with a record of each kind."""
    namespace = Namespace(backend)
    leader = namespace.leader(LEADER)
    namespace.lock('x', 'y')
    namespace.commit(leader, TokenGroup([1], LEADER), moved=1)
    backend.append_claims(leader, ['x', 'y'], DAY)
    backend.append_audits(LEADER, ['x'], DAY)
    return namespace


def sees_what_there_is(cluster: Cluster, own: Cluster) -> None:
    """Check that an observer reads what the owner of the store reads, and that what it reads is there."""
    for name, question in QUESTIONS.items():
        assert question(cluster) == question(own), name
    assert (cluster.space() is None) == (own.space() is None)
    assert QUESTIONS['names'](cluster) == [LEADER]
    assert len(cluster.claims()) == 2


def changes_nothing(cluster: Cluster, namespace: Namespace) -> None:
    """Check that whatever an observer tries to change is refused as a matter of rights, before anything is written."""
    actions: list[Callable[[], object]] = [
        lambda: cluster.add_lock('z', 'a', reason='test'),
        cluster.clear_locks,
        lambda: cluster.clear_locks(['absent']),
        lambda: cluster.drain(LEADER),
        lambda: cluster.evict(LEADER),
        lambda: cluster.release(['x'], date=DAY),
        lambda: cluster.purge(older_than=0),
    ]
    for act in actions:
        with namespace.unchanged(), pytest.raises(ConfigError):
            act()
