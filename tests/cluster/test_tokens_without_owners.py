"""What an operator reads while tokens have no owner."""

from __future__ import annotations

import json

import pytest
from tests.cluster.conftest import Nodes, acknowledge

from jobsync import Cluster
from jobsync.backend import TokenGroup
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS


def test_a_cluster_that_waits_for_nodes(cluster: Cluster, namespace: Namespace) -> None:
    """Status and explanation say that a cluster forms, and for how many nodes it waits by the setting of its leader."""
    namespace.lead(namespace.join('a', settings=json.dumps({'minimum_nodes': 3})))
    words = "the cluster has not formed yet: minimum_nodes of the leader 'a' is 3, and 1 node is at work"
    assert f'{TOKENS} tokens have no owner: {words}' in cluster.status()['problems']
    assert cluster.why('x').verdict == f'Not claimable yet: {words}.'
    namespace.join('b')
    namespace.join('c')
    assert cluster.why('x').verdict == 'Not claimable yet: the cluster has not formed yet.'


@pytest.mark.parametrize('reason', ['drained', 'of weight 0'])
def test_nodes_that_are_all_to_own_nothing(cluster: Cluster, namespace: Namespace, nodes: Nodes, reason: str) -> None:
    """Where no node may be given a token, status and explanation name what keeps each from it, and promise nothing."""
    for name, ref in nodes.items():
        if reason == 'drained':
            cluster.drain(name, actor='ann', force=True)
        else:
            namespace.backend.set_weight(ref, 0.0, stalled=False)
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], TokenGroup(range(TOKENS), None)))
    words = f"each node at work is to own nothing: 'a' is {reason}, 'b' is {reason}"
    assert f'{TOKENS} tokens have no owner: {words}' in cluster.status()['problems']
    assert cluster.why('x').verdict == f'Not claimable: {words}. Let one own tokens again, or start another one.'
    namespace.join('c')
    assert 'the leader is to give it to a node' in cluster.why('x').verdict
