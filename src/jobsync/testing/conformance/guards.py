"""What a ``commit`` is refused for; a refusal changes nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from jobsync.backend import Eviction, LockEdit, LockFilter, Member, NodeRef, Pin, Revision, TokenGroup
from jobsync.errors import Conflict, Evicted, Fenced
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import GONE, TOKENS, Scene

__all__ = ['CommitGuardTests']

X, Y = TOKENS + 1, TOKENS + 2
"""Ids of pins."""

Change = Callable[[Scene, NodeRef, NodeRef], object]
"""From a scene, its leader and another node to something that happens."""


def leave(scene: Scene, leader: NodeRef, _ref: NodeRef) -> None:
    """A node registers, leaves, and another takes its name."""
    scene.backend.deregister(scene.join('b'))
    scene.join('b')
    assert scene.backend.snapshot().leadership.node == leader


def lead_again(scene: Scene, leader: NodeRef, ref: NodeRef) -> None:
    """The leadership goes to another node and comes back."""
    scene.lead(ref)
    assert scene.lead(leader) == scene.backend.snapshot().leadership.node


def unlock(scene: Scene, _leader: NodeRef, _ref: NodeRef) -> None:
    """Locks come and go."""
    scene.lock('x', 'y')
    scene.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'x'}))))


def work(scene: Scene, _leader: NodeRef, ref: NodeRef) -> None:
    """A node begins and completes a task."""
    scene.backend.append_claims(ref, ['x'], dt.date(2026, 3, 2))
    scene.backend.append_audits('a', ['x'], dt.date(2026, 3, 2))


UNRELATED: dict[str, Change] = {
    'register': lambda scene, _, __: scene.join('b'),
    'take-over': lambda scene, _, ref: scene.join('a', replacing=(ref.incarnation, 0)),
    'weight': lambda scene, _, ref: scene.backend.set_weight(ref, 0.0),
    'deregister': lambda scene, _, ref: scene.backend.deregister(ref),
    'come and go': leave,
    'leadership': lead_again,
    'lock': unlock,
    'heartbeats': lambda scene, leader, ref: (scene.beat(leader), scene.beat(ref)),
    'trails': work,
}
"""What a plan does not depend on."""


class CommitGuardTests:
    """What a commit is refused for; a refusal changes nothing."""

    def attempt(self, scene: Scene, error: type[Exception], guard: dict[str, object], **plan: object) -> None:
        """Commit a plan that would change everything; it must be refused."""
        now = scene.backend.snapshot()
        leader = now.leadership.node
        assert leader is not None
        full = scene.plan(
            TokenGroup(range(TOKENS), 'z', 'y', 'x'), members={'z': Member('1', 1.0)}, pins=(Pin(Y, 'y', 'z'),), moved=9, **plan
        )
        full = attrs.evolve(full, unpinned=frozenset({X}))
        with scene.refused(error):
            scene.backend.commit(leader, full, scene.guard(**guard))

    def ready(self, scene: Scene) -> None:
        """A leader, another node, some rows and a pin."""
        leader = scene.leader()
        scene.join('a')
        scene.commit(leader, TokenGroup([1, 2], 'a'), pins=(Pin(X, 'x', 'a'),), members={'a': Member('1', 15.0)})

    @pytest.mark.parametrize('part', [{'generation': 7}, {'id': 'other'}, {'store': 'other'}])
    def test_another_timeline_conflicts(self, scene: Scene, part: dict[str, Any]) -> None:
        """The timeline must be the guard's in every part."""
        self.ready(scene)
        self.attempt(scene, Conflict, {'timeline': attrs.evolve(scene.timeline, **part)})

    @pytest.mark.parametrize(('number', 'stamp'), [(0, 1), (1, 0), (-1, 0), (1, 1)])
    def test_another_version_conflicts(self, scene: Scene, number: int, stamp: int) -> None:
        """The assignment's version must be the guard's, number and stamp."""
        self.ready(scene)
        now = scene.backend.snapshot().version
        self.attempt(scene, Conflict, {'version': Revision(now.number + number, now.stamp + stamp)})

    def test_the_revision_is_not_the_version(self, scene: Scene) -> None:
        """A guard that names the namespace's revision conflicts once that has gone on."""
        self.ready(scene)
        scene.lock('x')
        self.attempt(scene, Conflict, {'version': scene.revision})

    @pytest.mark.parametrize('change', UNRELATED)
    def test_other_changes_do_not_conflict(self, scene: Scene, change: str) -> None:
        """A plan is written whatever has happened to nodes, locks, leadership and trails since, and leaves that alone."""
        self.ready(scene)
        leader, ref = scene.node('leader').ref, scene.node('a').ref
        plan, guard = scene.plan(TokenGroup([1], 'b'), pins=(Pin(X, 'x', 'b'),)), scene.guard()
        with scene.same_version():
            UNRELATED[change](scene, leader, ref)
        before = scene.state()
        version = scene.backend.commit(leader, plan, attrs.evolve(guard, epoch=before.snapshot.leadership.epoch))
        after = scene.state()
        assert after.snapshot.version == after.snapshot.revision == version
        assert version.number > before.snapshot.revision.number
        assert (scene.row(1).owner, scene.row(2).owner, scene.pins()[X].owner) == ('b', 'a', 'b')
        others = [[node for node in state.snapshot.nodes if node.name != 'leader'] for state in (before, after)]
        assert others[0] == others[1]
        assert (after.locks, after.claims, after.audits) == (before.locks, before.claims, before.audits)
        assert after.snapshot.locks_revision == before.snapshot.locks_revision

    def test_an_earlier_commit_conflicts(self, scene: Scene) -> None:
        """Another commit since the plan was made makes it stale, be that an empty one."""
        self.ready(scene)
        leader, plan, guard = scene.node('leader').ref, scene.plan(TokenGroup([1], 'b')), scene.guard()
        scene.commit(leader)
        with scene.refused(Conflict):
            scene.backend.commit(leader, plan, guard)

    def test_a_renewal_conflicts(self, scene: Scene) -> None:
        """A renewal is a new version too: a plan with the new timeline and epoch and the old version is refused."""
        self.ready(scene)
        guard = scene.guard()
        scene.backend.renew_timeline(scene.timeline, 0)
        scene.timeline = scene.backend.snapshot().timeline
        leader = scene.leader()
        new = attrs.evolve(guard, timeline=scene.timeline, epoch=scene.backend.snapshot().leadership.epoch)
        with scene.refused(Conflict):
            scene.backend.commit(leader, scene.plan(TokenGroup([1], 'b')), new)

    def test_refusals_come_in_order(self, scene: Scene) -> None:
        """Of several reasons the first is told: not registered, then not leading, then what was planned from."""
        self.ready(scene)
        stale = {'epoch': 7, 'version': Revision(1, 1), 'timeline': attrs.evolve(scene.timeline, id='other')}
        for ref, error in ((scene.ref('a'), Evicted), (scene.node('a').ref, Fenced), (scene.node('leader').ref, Fenced)):
            with scene.refused(error):
                scene.backend.commit(ref, scene.plan(evictions=(Eviction(scene.ref('b'), 0),)), scene.guard(**stale))

    @pytest.mark.parametrize('epoch', [0, 2])
    def test_another_epoch_is_fenced(self, scene: Scene, epoch: int) -> None:
        """The epoch must be the present one."""
        self.ready(scene)
        self.attempt(scene, Fenced, {'epoch': epoch})

    def test_another_node_is_fenced(self, scene: Scene) -> None:
        """The epoch must be the caller's own: a node that is registered but does not lead is refused."""
        self.ready(scene)
        with scene.refused(Fenced):
            scene.commit(scene.node('a').ref, TokenGroup([1], 'b'))

    def test_a_deposed_leader_is_fenced(self, scene: Scene) -> None:
        """A leader whose epoch has passed is told so, be its version stale or not."""
        self.ready(scene)
        leader, guard = scene.node('leader').ref, scene.guard()
        scene.lead(scene.node('a').ref)
        with scene.refused(Fenced):
            scene.backend.commit(leader, scene.plan(TokenGroup([1], 'b')), guard)
        scene.commit(scene.node('a').ref)
        with scene.refused(Fenced):
            scene.backend.commit(leader, scene.plan(TokenGroup([1], 'b')), guard)

    def test_another_run_of_the_leader_is_fenced(self, scene: Scene) -> None:
        """A new incarnation does not inherit the leadership of the one it replaced."""
        self.ready(scene)
        node = scene.node('leader')
        new = scene.join('leader', replacing=node.beat)
        with scene.refused(Fenced):
            scene.commit(new, TokenGroup([1], 'b'))

    @pytest.mark.parametrize('how', GONE)
    def test_a_gone_run_cannot_commit(self, scene: Scene, how: str) -> None:
        """Only an incarnation that is JOINED commits, whatever else is wrong."""
        ref = scene.gone(how)
        with scene.refused(Evicted):
            scene.commit(ref, TokenGroup([1], 'b'))

    @pytest.mark.parametrize('how', ['left', 'replaced'])
    def test_a_gone_leader_cannot_commit(self, scene: Scene, how: str) -> None:
        """A leader that left or was replaced is refused as not registered, though the leadership still names it."""
        self.ready(scene)
        node = scene.node('leader')
        if how == 'left':
            scene.backend.deregister(node.ref)
        else:
            scene.join('leader', replacing=node.beat)
        with scene.refused(Evicted):
            scene.commit(node.ref, TokenGroup([1], 'b'))

    def test_an_eviction_compares_the_heartbeat(self, scene: Scene) -> None:
        """A node that has beaten since it was taken for dead is not evicted, and nothing of the plan is written."""
        self.ready(scene)
        ref = scene.node('a').ref
        scene.beat(ref)
        for heartbeat in (0, 2):
            self.attempt(scene, Conflict, {}, evictions=(Eviction(ref, heartbeat),))

    def test_an_eviction_compares_the_incarnation(self, scene: Scene) -> None:
        """Another run of the name, or none, is not the one that was taken for dead."""
        self.ready(scene)
        for ref in (scene.ref('a'), scene.ref('nobody')):
            self.attempt(scene, Conflict, {}, evictions=(Eviction(ref, 0),))

    def test_every_eviction_is_compared(self, scene: Scene) -> None:
        """One node that has moved is enough to refuse the plan, wherever it stands in the list."""
        self.ready(scene)
        refs = [scene.join(name) for name in ('b', 'c', 'd')]
        scene.beat(refs[1])
        self.attempt(scene, Conflict, {}, evictions=tuple(Eviction(ref, 0) for ref in refs))

    @pytest.mark.parametrize('how', ['joined', 'other incarnation', 'unknown'])
    def test_a_departed_node_must_have_left(self, scene: Scene, how: str) -> None:
        """A departed node must still be LEFT in that incarnation."""
        self.ready(scene)
        ref = scene.join('b')
        if how == 'other incarnation':
            scene.backend.deregister(ref)
        if how != 'joined':
            ref = scene.ref('b' if how == 'other incarnation' else 'nobody')
        self.attempt(scene, Conflict, {}, departed=(ref,))

    def test_an_absent_owner_must_be_absent(self, scene: Scene) -> None:
        """A plan that gives away what an owner without a record had is refused once that very run is registered."""
        self.ready(scene)
        refs = [scene.ref('ghost'), scene.join('b'), scene.ref('other ghost')]
        self.attempt(scene, Conflict, {}, absent=(refs[1],))
        self.attempt(scene, Conflict, {}, absent=tuple(refs))

    @pytest.mark.parametrize('how', GONE)
    def test_an_absent_owner_may_be_anything_but_joined(self, scene: Scene, how: str) -> None:
        """A run that is not registered, whatever became of it, does not stand in the way, and no record changes for it."""
        ref = scene.gone(how)
        leader = scene.leader()
        before = scene.nodes()
        scene.commit(leader, TokenGroup([1], 'b'), absent=(ref, scene.ref('ghost'), scene.ref('nobody')))
        assert scene.row(1).owner == 'b'
        after = scene.nodes()
        assert {**after, 'leader': before['leader']} == before

    @needs(Ability.FAILOVER)
    def test_another_store_conflicts(self, scene: Scene, harness: Harness) -> None:
        """When another store answers than the timeline was made on, no plan is accepted."""
        self.ready(scene)
        harness.fail_over()
        self.attempt(scene, Conflict, {})

    def test_commit_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again conflicts with the version that the first one made."""
        leader = scene.leader()
        plan, guard = scene.plan(TokenGroup([1], 'b'), moved=1), scene.guard()
        scene.backend.commit(leader, plan, guard)
        with scene.refused(Conflict):
            scene.backend.commit(leader, plan, guard)
