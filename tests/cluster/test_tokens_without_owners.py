"""What an operator reads while tokens have no owner, or a node that hangs keeps its own."""

from __future__ import annotations

import json

import pytest
from tests.cluster.conftest import Nodes, acknowledge, task_of

from jobsync import Cluster
from jobsync.backend import TokenGroup
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY, TOKENS


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


def test_a_node_that_hangs_alone(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A node without progress keeps its share if no other node could have it, and its problem does not say otherwise."""
    namespace.backend.set_weight(nodes['b'], 1.0, stalled=True)
    (problem,) = cluster.status()['problems']
    assert problem.endswith('makes no progress: its share is with other nodes')
    namespace.backend.set_weight(nodes['a'], 0.0, stalled=False)
    (problem,) = cluster.status()['problems']
    assert problem.endswith('makes no progress, and keeps its share: no other node could own it')


def test_a_task_of_a_node_that_hangs(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """An explanation whose owner makes no progress says so, with the process to examine, until the task is complete."""
    task, sentence = task_of(cluster, 'b'), "'b' (, pid 0) makes no progress: its program may hang (progress_timeout_sec)."
    assert sentence not in cluster.why(task, DAY).details
    namespace.backend.set_weight(nodes['b'], 1.0, stalled=True)
    assert sentence in cluster.why(task, DAY).details
    namespace.audit('b', task)
    assert sentence not in cluster.why(task, DAY).details
