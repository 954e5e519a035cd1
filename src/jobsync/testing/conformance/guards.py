"""The reasons for which a ``commit`` is refused. A refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest

from jobsync.backend import INITIAL, Eviction, LockEdit, LockFilter, Member, NodeRef, Pin, Revision, TokenGroup
from jobsync.errors import Conflict, Evicted, Fenced, NameTaken
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['CommitGuardTests']

X, Y = TOKENS + 1, TOKENS + 2
"""Ids of pins."""

Change = Callable[[Namespace, NodeRef, NodeRef], object]
"""A change, given a namespace, its leader and another node."""


def leave(namespace: Namespace, leader: NodeRef, _ref: NodeRef) -> None:
    """Let a node register and leave, and another take its name."""
    namespace.backend.deregister(namespace.join('b'))
    namespace.join('b')
    assert namespace.snapshot().leadership.node == leader


def lead_again(namespace: Namespace, leader: NodeRef, ref: NodeRef) -> None:
    """Let the leadership pass to another node and come back."""
    namespace.lead(ref)
    assert namespace.lead(leader) == namespace.snapshot().leadership.node


def unlock(namespace: Namespace, _leader: NodeRef, _ref: NodeRef) -> None:
    """Register two locks and clear one."""
    namespace.lock('x', 'y')
    namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'x'}))))


def work(namespace: Namespace, _leader: NodeRef, ref: NodeRef) -> None:
    """Let a node begin and complete a task."""
    namespace.claim(ref, 'x')
    namespace.audit('a', 'x')


UNRELATED: dict[str, Change] = {
    'register': lambda namespace, _, __: namespace.join('b'),
    'take-over': lambda namespace, _, ref: namespace.join('a', replacing=(ref.incarnation, 0)),
    'weight': lambda namespace, _, ref: namespace.backend.set_weight(ref, 0.0),
    'deregister': lambda namespace, _, ref: namespace.backend.deregister(ref),
    'come and go': leave,
    'leadership': lead_again,
    'lock': unlock,
    'heartbeats': lambda namespace, leader, ref: (namespace.beat(leader), namespace.beat(ref)),
    'history': work,
}
"""Changes that a plan does not depend on, by name."""


class CommitGuardTests:
    """A commit is written only if what its plan rests on still stands. Otherwise two nodes could own one token (R5)."""

    def attempt(self, namespace: Namespace, error: type[Exception], guard: dict[str, object], **plan: object) -> None:
        """Check that a plan which would change everything is refused with this guard."""
        now = namespace.snapshot()
        leader = now.leadership.node
        assert leader is not None
        full = namespace.plan(
            TokenGroup(range(TOKENS), 'z', 'y', 'x'), members={'z': Member('1', 1.0)}, pins=(Pin(Y, 'y', 'z'),), moved=9, **plan
        )
        full = attrs.evolve(full, unpinned=frozenset({X}))
        with namespace.refused(error, (guard, plan)):
            namespace.backend.commit(leader, full, namespace.guard(**guard))

    def ready(self, namespace: Namespace) -> None:
        """Add a leader, another node, some rows and a pin."""
        leader = namespace.leader()
        namespace.join('a')
        namespace.commit(leader, TokenGroup([1, 2], 'a'), pins=(Pin(X, 'x', 'a'),), members={'a': Member('1', 15.0)})

    def test_another_timeline_conflicts(self, namespace: Namespace) -> None:
        """A commit is refused unless the timeline is the guard's in every part."""
        self.ready(namespace)
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            self.attempt(namespace, Conflict, {'timeline': attrs.evolve(namespace.timeline, **part)})

    def test_another_version_conflicts(self, namespace: Namespace) -> None:
        """A commit is refused unless the assignment's version is the guard's, number and stamp; the revision is another one."""
        self.ready(namespace)
        now = namespace.snapshot().version
        for number, stamp in ((0, 1), (1, 0), (-1, 0), (1, 1)):
            self.attempt(namespace, Conflict, {'version': Revision(now.number + number, now.stamp + stamp)})
        namespace.lock('x')
        self.attempt(namespace, Conflict, {'version': namespace.revision})

    @pytest.mark.parametrize('change', UNRELATED)
    def test_other_changes_do_not_conflict(self, namespace: Namespace, change: str) -> None:
        """A plan is written whatever has changed in nodes, locks, leadership and history since, and keeps those changes."""
        self.ready(namespace)
        leader, ref = namespace.node('leader').ref, namespace.node('a').ref
        plan, guard = namespace.plan(TokenGroup([1], 'b'), pins=(Pin(X, 'x', 'b'),)), namespace.guard()
        with namespace.same_version():
            UNRELATED[change](namespace, leader, ref)
        before = namespace.state()
        version = namespace.backend.commit(leader, plan, attrs.evolve(guard, epoch=before.snapshot.leadership.epoch))
        after = namespace.state()
        assert after.snapshot.version == after.snapshot.revision == version
        assert version.number > before.snapshot.revision.number
        assert (namespace.row(1).owner, namespace.row(2).owner, namespace.pins()[X].owner) == ('b', 'a', 'b')
        others = [[node for node in state.snapshot.nodes if node.name != 'leader'] for state in (before, after)]
        assert others[0] == others[1]
        assert (after.locks, after.claims, after.audits) == (before.locks, before.claims, before.audits)
        assert after.snapshot.locks_revision == before.snapshot.locks_revision

    def test_an_earlier_commit_conflicts(self, namespace: Namespace) -> None:
        """A plan from before another commit is refused, even if that commit was empty, or was the same one."""
        self.ready(namespace)
        leader, plan = namespace.node('leader').ref, namespace.plan(TokenGroup([1], 'b'), moved=1)
        for first in (namespace.plan(), plan):
            guard = namespace.guard()
            namespace.backend.commit(leader, first, guard)
            with namespace.refused(Conflict, first):
                namespace.backend.commit(leader, plan, guard)

    def test_a_renewal_conflicts(self, namespace: Namespace) -> None:
        """After a renewal, a plan with the new timeline and epoch and the old version is refused."""
        self.ready(namespace)
        guard = namespace.guard()
        namespace.renew_timeline()
        leader = namespace.leader()
        new = attrs.evolve(guard, timeline=namespace.timeline, epoch=namespace.snapshot().leadership.epoch)
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, namespace.plan(TokenGroup([1], 'b')), new)

    def test_refusals_come_in_order(self, namespace: Namespace) -> None:
        """Of several reasons for a refusal the first counts: not registered, not leading, then a stale plan."""
        self.ready(namespace)
        stale = {'epoch': 7, 'version': Revision(1, 1), 'timeline': attrs.evolve(namespace.timeline, id='other')}
        for ref, error in (
            (namespace.ref('a'), Evicted),
            (namespace.node('a').ref, Fenced),
            (namespace.node('leader').ref, Fenced),
        ):
            with namespace.refused(error):
                namespace.backend.commit(
                    ref, namespace.plan(evictions=(Eviction(namespace.ref('b'), 0),)), namespace.guard(**stale)
                )

    def test_another_epoch_is_fenced(self, namespace: Namespace) -> None:
        """A commit under an epoch that is not the present one is refused."""
        self.ready(namespace)
        for epoch in (0, 2):
            self.attempt(namespace, Fenced, {'epoch': epoch})

    def test_another_node_is_fenced(self, namespace: Namespace) -> None:
        """A commit of a registered node that does not lead is refused, even under the present epoch."""
        self.ready(namespace)
        with namespace.refused(Fenced):
            namespace.commit(namespace.node('a').ref, TokenGroup([1], 'b'))

    def test_a_deposed_leader_is_fenced(self, namespace: Namespace, harness: Harness) -> None:
        """A former leader is refused with ``Fenced``, whether or not its version is stale, and whatever its handle has read."""
        self.ready(namespace)
        leader, guard, plan = namespace.node('leader').ref, namespace.guard(), namespace.plan(TokenGroup([1], 'b'))
        Namespace(harness.connect()).lead(namespace.node('a').ref)
        with pytest.raises(Fenced):
            namespace.backend.commit(leader, plan, guard)  # its handle has read nothing since
        with namespace.refused(Fenced):
            namespace.backend.commit(leader, namespace.plan(TokenGroup([1], 'b')), guard)
        namespace.commit(namespace.node('a').ref)
        with namespace.refused(Fenced):
            namespace.backend.commit(leader, namespace.plan(TokenGroup([1], 'b')), guard)

    def test_another_run_of_the_leader_is_fenced(self, namespace: Namespace) -> None:
        """A new incarnation does not inherit the leadership of the one that it replaced."""
        self.ready(namespace)
        node = namespace.node('leader')
        new = namespace.join('leader', replacing=node.beat)
        with namespace.refused(Fenced):
            namespace.commit(new, TokenGroup([1], 'b'))

    def test_a_gone_run_cannot_commit(self, namespace: Namespace) -> None:
        """A commit of a run that is not JOINED is refused with ``Evicted``, whatever else is wrong."""
        for how, ref in namespace.gone_runs():
            with namespace.refused(Evicted, how):
                namespace.commit(ref, TokenGroup([1], 'b'))

    @pytest.mark.parametrize('how', ['left', 'replaced'])
    def test_a_gone_leader_cannot_commit(self, namespace: Namespace, how: str) -> None:
        """A leader that left or was replaced is refused with ``Evicted``, although the leadership still names it."""
        self.ready(namespace)
        ref = namespace.node('leader').ref
        namespace.end(ref, how)
        with namespace.refused(Evicted):
            namespace.commit(ref, TokenGroup([1], 'b'))

    def test_every_eviction_is_compared(self, namespace: Namespace) -> None:
        """A plan is refused if a node that it evicts has another heartbeat or incarnation, or none, wherever in the list."""
        self.ready(namespace)
        ref, before, after = namespace.node('a').ref, Eviction(namespace.join('b'), 0), Eviction(namespace.join('c'), 0)
        namespace.beat(ref)
        for wrong in (Eviction(ref, 0), Eviction(ref, 2), Eviction(namespace.ref('a'), 1), Eviction(namespace.ref('nobody'), 0)):
            self.attempt(namespace, Conflict, {}, evictions=(wrong,))
            self.attempt(namespace, Conflict, {}, evictions=(before, wrong, after))

    def test_a_departed_node_must_have_left(self, namespace: Namespace) -> None:
        """A plan that removes a departed node is refused unless that incarnation is still LEFT."""
        self.ready(namespace)
        joined, left, also_left = (namespace.join(name) for name in ('joined', 'left', 'also left'))
        for ref in (left, also_left):
            namespace.backend.deregister(ref)
        for ref in (joined, namespace.ref('also left'), namespace.ref('nobody')):
            self.attempt(namespace, Conflict, {}, departed=(ref,))
            self.attempt(namespace, Conflict, {}, departed=(left, ref))

    def test_an_absent_owner_must_be_absent(self, namespace: Namespace) -> None:
        """A plan that gives away the tokens of an absent owner is refused once that run is registered."""
        self.ready(namespace)
        refs = [namespace.ref('ghost'), namespace.join('b'), namespace.ref('other ghost')]
        self.attempt(namespace, Conflict, {}, absent=(refs[1],))
        self.attempt(namespace, Conflict, {}, absent=tuple(refs))

    def test_an_absent_owner_may_be_anything_but_joined(self, namespace: Namespace) -> None:
        """An absent owner that is not JOINED, for whatever reason, does not refuse a plan, and no record changes for it."""
        for how, ref in namespace.gone_runs():
            leader = namespace.leader(f'leader beside the {how}')
            before = namespace.nodes()
            namespace.commit(leader, TokenGroup([1], how), absent=(ref, namespace.ref(ref.name), namespace.ref('nobody')))
            assert namespace.row(1).owner == how
            after = namespace.nodes()
            assert {**after, leader.name: before[leader.name]} == before, how

    @needs(Ability.FAILOVER)
    def test_another_store_conflicts(self, namespace: Namespace, harness: Harness) -> None:
        """After a failover to another store than that of the timeline, every plan is refused."""
        self.ready(namespace)
        harness.fail_over()
        self.attempt(namespace, Conflict, {})

    def test_a_refused_call_holds_up_no_other(self, namespace: Namespace, harness: Harness) -> None:
        """A refused call keeps nothing from other handles, though its own handle makes no call after it."""
        leader, gone = namespace.leader(), namespace.gone('unknown')
        other = Namespace(harness.connect(op_timeout_sec=DEADLINE_SEC / 8)).backend
        plan, fenced, stale = namespace.plan(), namespace.guard(epoch=7), namespace.guard(version=Revision(7, 7))
        calls: list[Callable[[], object]] = [
            partial(namespace.beat, gone),
            partial(namespace.claim, gone, 'x'),
            partial(namespace.join, 'leader'),
            partial(namespace.backend.acquire_leadership, gone, 1),
            partial(namespace.backend.commit, leader, plan, fenced),
            partial(namespace.backend.commit, leader, plan, stale),
        ]
        for count, call in enumerate(calls, 1):
            with pytest.raises((Evicted, NameTaken, Fenced, Conflict)):
                call()
            assert other.heartbeat(leader, INITIAL, frozenset()).heartbeat == count
