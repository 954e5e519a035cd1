"""A namespace on etcd whose state is deleted manually, while the records of its nodes stay."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer
from tests.support.timings import FAST, TOKENS

from jobsync import CoordinationConfig, Job
from jobsync.backend import NodeRef
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace

pytestmark = pytest.mark.etcd

STATE = 'jobsync/sync_/state'
DAY = dt.date(2026, 3, 2)
CALLS: dict[str, Callable[[Namespace, NodeRef], object]] = {
    'heartbeat': lambda namespace, node: namespace.beat(node),
    'claim': lambda namespace, node: namespace.claim(node, 'x', date=DAY),
}


@pytest.fixture
def harness(etcd_server: EtcdServer) -> Iterator[EtcdHarness]:
    """A server that is empty, and left empty."""
    harness = EtcdHarness(etcd_server)
    yield harness
    harness.close()


@pytest.mark.parametrize('call', CALLS)
def test_a_call_reports_it(harness: EtcdHarness, call: str) -> None:
    """What writes where there is a state does not try for as long as it may, and says that the namespace is gone."""
    namespace = Namespace(harness.connect(op_timeout_sec=5.0, bulk_timeout_sec=5.0))
    node = namespace.join('a')
    CALLS[call](namespace, node)
    harness.server.ctl('del', STATE)
    with pytest.raises(SchemaMismatch, match='there is no namespace'):
        CALLS[call](namespace, node)


@pytest.mark.parametrize('is_node_left_over', [False, True])
def test_a_newcomer_waits_for_leases_of_before(harness: EtcdHarness, is_node_left_over: bool) -> None:
    """Nodes that have not noticed yet own their tokens: only generation 0 of a durable store is given away at once."""
    namespace = Namespace(harness.connect())
    if is_node_left_over:
        namespace.join('a', timeout_sec=99.0)
    harness.server.ctl('del', STATE)
    made = Namespace(harness.connect())
    assert made.timeline.generation == is_node_left_over
    assert made.snapshot().longest_timeout_sec == 99.0 * is_node_left_over
    assert not made.nodes()


def test_nodes_make_it_anew(harness: EtcdHarness) -> None:
    """A node that runs does what it does after an emptied store: it begins anew, and owns the tokens again."""
    config = CoordinationConfig(backend=harness.server.url(), **FAST)
    with Job('a', coordination_config=config) as job:
        wait_until(lambda: len(job.my_tokens) == TOKENS, 'all tokens are owned', 100)
        harness.server.ctl('del', STATE)
        wait_until(lambda: harness.server.ctl('get', STATE), 'the namespace is there again', 100)
        wait_until(lambda: len(job.my_tokens) == TOKENS, 'all tokens are owned again', 100)
