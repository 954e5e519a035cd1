"""What a ``commit`` is refused for; a refusal changes nothing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobsync.core.model import Eviction, Member, Pin, Revision
from jobsync.core.tokens import TokenGroup
from jobsync.errors import Conflict, Evicted, Fenced
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import GONE, TOKENS, Scene

__all__ = ['CommitGuardTests']

X, Y = TOKENS + 1, TOKENS + 2
"""Ids of pins."""


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
    def test_another_revision_conflicts(self, scene: Scene, number: int, stamp: int) -> None:
        """The revision must be the guard's, number and stamp."""
        self.ready(scene)
        now = scene.revision
        self.attempt(scene, Conflict, {'revision': Revision(now.number + number, now.stamp + stamp)})

    @pytest.mark.parametrize('change', ['register', 'weight', 'deregister', 'leadership', 'lock', 'commit'])
    def test_any_structural_change_conflicts(self, scene: Scene, change: str) -> None:
        """Whatever raised the revision since the plan was made makes it stale."""
        self.ready(scene)
        leader = scene.node('leader').ref
        guard = scene.guard()
        if change == 'register':
            scene.join('b')
        elif change == 'weight':
            scene.backend.set_weight(scene.node('a').ref, 0.0)
        elif change == 'deregister':
            scene.backend.deregister(scene.node('a').ref)
        elif change == 'leadership':
            scene.lead(leader)
            guard = attrs.evolve(guard, epoch=2)
        elif change == 'lock':
            scene.lock('x')
        else:
            scene.commit(leader)
        with scene.refused(Conflict):
            scene.backend.commit(leader, scene.plan(TokenGroup([1], 'b')), guard)

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
        """A leader whose epoch has passed is told so, though its revision is stale as well."""
        self.ready(scene)
        leader, guard = scene.node('leader').ref, scene.guard()
        scene.lead(scene.node('a').ref)
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

    @needs(Ability.FAILOVER)
    def test_another_store_conflicts(self, scene: Scene, harness: Harness) -> None:
        """When another store answers than the timeline was made on, no plan is accepted."""
        self.ready(scene)
        harness.fail_over()
        self.attempt(scene, Conflict, {})

    def test_commit_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again conflicts with the revision that the first one made."""
        leader = scene.leader()
        plan, guard = scene.plan(TokenGroup([1], 'b'), moved=1), scene.guard()
        scene.backend.commit(leader, plan, guard)
        with scene.refused(Conflict):
            scene.backend.commit(leader, plan, guard)
