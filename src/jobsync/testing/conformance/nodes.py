"""``set_weight``, ``deregister`` and ``remove_node``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest

from jobsync.backend import Member, NodeState, Pin, Revision, TokenGroup
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import TOKENS, Namespace
from jobsync.testing.conformance.threads import race

__all__ = ['DeregisterTests', 'RemovalTests', 'WeightTests']


class WeightTests:
    """``set_weight``, by which an operator drains a node."""

    def test_set_weight_changes_the_record(self, namespace: Namespace) -> None:
        """A new weight, which may be 0, changes no other field of the record, and no other node, leadership or version.

        Setting the present weight again changes nothing, the revision included.
        """
        namespace.leader()
        ref = namespace.join('a')
        namespace.beat(ref, Revision(5, 6), {1})
        leader, node = namespace.snapshot().nodes
        for weight in (1 / 3, 0.0):
            with namespace.changes_only('nodes'):
                namespace.backend.set_weight(ref, weight)
            assert namespace.snapshot().nodes == (leader, attrs.evolve(node, weight=weight))
            with namespace.unchanged():
                namespace.backend.set_weight(ref, weight)

    def test_a_stalled_node_says_so(self, namespace: Namespace) -> None:
        """Whether a node has stalled is written with its weight, and changes nothing else; a registration begins without it."""
        ref = namespace.join('a')
        before = namespace.node('a')
        for stalled in (True, False, True):
            with namespace.raises_revision():
                namespace.backend.set_weight(ref, 1.0, stalled)
            with namespace.unchanged():
                namespace.backend.set_weight(ref, 1.0, stalled)
            assert namespace.node('a') == attrs.evolve(before, stalled=stalled)
        namespace.beat(ref)
        assert namespace.node('a').stalled
        namespace.join('a', replacing=(ref.incarnation, 1))
        assert not namespace.node('a').stalled

    def test_a_weight_set_through_another_handle_stays(self, namespace: Namespace, harness: Harness) -> None:
        """Heartbeats and commits through the handle that registered a node keep the weight that another handle has set since."""
        ref, other = namespace.leader(), Namespace(harness.connect()).backend
        namespace.beat(ref)
        other.set_weight(ref, 3.0, stalled=True)
        namespace.beat(ref)
        namespace.commit(ref)
        node = namespace.node('leader')
        assert (node.weight, node.stalled, node.heartbeat) == (3.0, True, 3)

    def test_set_weight_of_a_gone_run_is_refused(self, namespace: Namespace) -> None:
        """A new weight for a run that is not JOINED is refused; another run of the name keeps its weight."""
        for how, ref in namespace.gone_runs():
            with namespace.refused(Evicted, how):
                namespace.backend.set_weight(ref, 7.0)


class DeregisterTests:
    """``deregister``: a leaving node is marked, and the leader gives its tokens away."""

    def test_deregister_marks_the_record(self, namespace: Namespace) -> None:
        """The record of a node that leaves is LEFT, holds nothing and has no ``last_heartbeat``; other fields stay."""
        ref = namespace.join('a', host='h')
        namespace.beat(ref, Revision(5, 6), {1, 2})
        before = namespace.node('a')
        with namespace.raises_revision():
            namespace.backend.deregister(ref)
        assert namespace.node('a') == attrs.evolve(before, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)

    @pytest.mark.parametrize('died', [True, False])
    def test_deregister_says_whether_the_run_died(self, namespace: Namespace, died: bool) -> None:
        """The record of a run that is over is LEFT and ``stalled``; that of one that leaves is not stalled, even if it was."""
        ref = namespace.join('a')
        namespace.backend.set_weight(ref, 1.0, not died)
        before = namespace.node('a')
        with namespace.raises_revision():
            namespace.backend.deregister(ref, died)
        assert namespace.node('a') == attrs.evolve(before, state=NodeState.LEFT, last_heartbeat=None, stalled=died)
        with namespace.unchanged():
            namespace.backend.deregister(ref, not died)

    def test_deregister_gives_nothing_away(self, namespace: Namespace) -> None:
        """Leaving changes neither leadership, members, rows and pins, nor any other node."""
        leader, other = namespace.leader(), namespace.join('a')
        namespace.beat(other, Revision(5, 6), {1})
        namespace.commit(leader, TokenGroup(range(9), 'leader'), members={'leader': Member(leader.incarnation, 15.0)}, moved=9)
        before = namespace.snapshot().nodes[1]
        with namespace.changes_only('nodes'):
            namespace.backend.deregister(leader)
        assert namespace.snapshot().nodes[1] == before

    def test_deregister_of_a_gone_run_does_nothing(self, namespace: Namespace) -> None:
        """``deregister`` of a run that is not JOINED, of one that has left for instance, changes nothing; another run stays."""
        for how, ref in namespace.gone_runs():
            with namespace.unchanged(how):
                namespace.backend.deregister(ref)


class RemovalTests:
    """``remove_node``, by which an operator evicts a run that may still be at work: by itself it gives nothing away."""

    def test_remove_node_gives_nothing_away(self, namespace: Namespace) -> None:
        """The record is gone, the run's calls are refused, and its name is free; all else stays, the assignment too."""
        leader, other = namespace.leader(), namespace.join('a')
        pins, members = (Pin(TOKENS + 1, 'x', 'leader'),), {'leader': Member(leader.incarnation, 15.0)}
        namespace.commit(leader, TokenGroup(range(9), 'leader'), pins=pins, members=members, moved=9)
        before = namespace.node(other.name)
        with namespace.changes_only('nodes'):
            assert namespace.backend.remove_node(leader)
        assert namespace.snapshot().nodes == (before,)
        calls: dict[str, Callable[[], object]] = {
            'heartbeat': partial(namespace.beat, leader),
            'set_weight': partial(namespace.backend.set_weight, leader, 2.0),
            'acquire_leadership': partial(namespace.backend.acquire_leadership, leader, 1),
            'commit': partial(namespace.commit, leader, TokenGroup([1], 'a')),
            'append_claims': partial(namespace.claim, leader, 'x'),
        }
        with namespace.unchanged():
            for method, call in calls.items():
                (ended,) = race([call])
                assert isinstance(ended, Evicted), f'{method} of a run that was removed: {ended!r}'
        assert namespace.join('leader') == namespace.snapshot().nodes[1].ref

    def test_remove_node_of_a_gone_run_does_nothing(self, namespace: Namespace) -> None:
        """``remove_node`` of a run that is not JOINED, or has no record, changes nothing; another run of the name stays."""
        for how, ref in namespace.gone_runs():
            with namespace.unchanged(how):
                assert not namespace.backend.remove_node(ref), how
