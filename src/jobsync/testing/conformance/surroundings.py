"""What happens to a store from outside: edits by hand, another store, everything lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest

from jobsync.backend import INITIAL, Assignment, Eviction, NodeRef, Pin, TokenGroup
from jobsync.errors import Conflict, Evicted, SchemaMismatch
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import SETTINGS, TOKENS, Scene

__all__ = ['FailoverTests', 'HandEditTests', 'something_of_everything']

DAY = dt.date(2026, 3, 2)
NAMESPACE = 'sync_'


def something_of_everything(scene: Scene) -> NodeRef:
    """A leader, a node that left, rows, a pin, locks and trails."""
    leader = scene.leader()
    scene.backend.deregister(scene.join('left'))
    scene.beat(leader, scene.revision, {1, 2})
    scene.lock('x', 'y')
    group = TokenGroup(range(9), 'leader', 'a', 'b')
    scene.commit(leader, group, pins=(Pin(TOKENS + 1, 'x', 'leader', pattern='a%'),), moved=9)
    scene.backend.append_claims(leader, ['x', 'y'], DAY)
    scene.backend.append_audits('leader', ['x'], DAY)
    return leader


class HandEditTests:
    """Rows deleted as an operator would."""

    @needs(Ability.HAND_EDITS)
    def test_deleted_tokens_are_a_new_version(self, scene: Scene, harness: Harness) -> None:
        """Rows that go by hand are the new revision and version, and are absent from then on; a pin cannot go so."""
        leader = something_of_everything(scene)
        version = scene.backend.snapshot().version
        old = scene.assignment()
        with scene.raises_revision():
            harness.delete_token_rows(NAMESPACE, [1, 2, TOKENS + 1])
        snapshot = scene.backend.snapshot()
        assert snapshot.version == snapshot.revision
        changes = scene.backend.read_assignment(version)
        assert (changes.base, changes.version) == (None, snapshot.version)
        new = old.apply(changes)
        assert [new.row(token).absent for token in range(4)] == [False, True, True, False]
        assert new.pins == old.pins
        assert new.row(0) == old.row(0)
        number = scene.commit(leader, TokenGroup([1], 'leader')).number
        assert scene.row(1).version == number
        assert scene.backend.read_assignment(old.version).base is None

    @needs(Ability.HAND_EDITS)
    def test_a_pin_survives(self, scene: Scene, harness: Harness) -> None:
        """The row of a pin is still there after an attempt to delete it."""
        something_of_everything(scene)
        before = scene.pins()
        harness.delete_token_rows(NAMESPACE, [TOKENS + 1])
        assert scene.pins() == before != {}

    @needs(Ability.HAND_EDITS)
    def test_differences_go_on_after_an_edit(self, scene: Scene, harness: Harness) -> None:
        """What is read after the edit can be built on again."""
        leader = something_of_everything(scene)
        harness.delete_token_rows(NAMESPACE, [1])
        assignment = scene.assignment()
        scene.commit(leader, TokenGroup([5], 'other'))
        after, whole = assignment.apply(scene.backend.read_assignment(assignment.version)), scene.assignment()
        assert [after.row(token) for token in range(TOKENS)] == [whole.row(token) for token in range(TOKENS)]

    @needs(Ability.HAND_EDITS)
    def test_plans_from_before_an_edit_of_tokens_conflict(self, scene: Scene, harness: Harness) -> None:
        """Rows that go by hand make the plan stale that was made before."""
        leader = something_of_everything(scene)
        plan, guard = scene.plan(TokenGroup([2], 'a')), scene.guard()
        harness.delete_token_rows(NAMESPACE, [1])
        with scene.refused(Conflict):
            scene.backend.commit(leader, plan, guard)

    @needs(Ability.HAND_EDITS)
    def test_plans_from_before_other_edits_are_written(self, scene: Scene, harness: Harness) -> None:
        """A node or a lock that goes by hand makes a plan incomplete, not wrong."""
        leader = something_of_everything(scene)
        ids = [lock.id for lock in scene.backend.read_locks().locks]
        scene.join('a')
        edits: list[Callable[[], None]] = [
            partial(harness.delete_node_row, NAMESPACE, 'a'),
            partial(harness.delete_lock_rows, NAMESPACE, ids[:1]),
        ]
        for number, edit in enumerate(edits):
            plan, guard = scene.plan(TokenGroup([number], 'a')), scene.guard()
            with scene.same_version():
                edit()
            version = scene.backend.commit(leader, plan, guard)
            assert (scene.row(number).owner, scene.backend.snapshot().version) == ('a', version)

    @needs(Ability.HAND_EDITS)
    def test_an_owner_deleted_by_hand_is_absent(self, scene: Scene, harness: Harness) -> None:
        """A plan may give away what the deleted node had; one that evicts it conflicts."""
        leader = something_of_everything(scene)
        ref = scene.join('a')
        harness.delete_node_row(NAMESPACE, 'a')
        with scene.refused(Conflict):
            scene.commit(leader, evictions=(Eviction(ref, 0),))
        scene.commit(leader, TokenGroup([1], 'b'), absent=(ref,))
        assert scene.row(1).owner == 'b'

    @needs(Ability.HAND_EDITS)
    def test_a_deleted_node_is_evicted(self, scene: Scene, harness: Harness) -> None:
        """Its record is gone, its heartbeat refused, its name free; rows and the version stay."""
        something_of_everything(scene)
        ref = scene.join('a')
        before = scene.state()
        with scene.raises_revision():
            harness.delete_node_row(NAMESPACE, 'a')
        after = scene.state()
        assert 'a' not in scene.nodes()
        assert (after.rows, after.pins, after.locks) == (before.rows, before.pins, before.locks)
        assert after.snapshot.version == before.snapshot.version
        with scene.refused(Evicted):
            scene.beat(ref)
        scene.join('a')
        assert scene.node('a').replaces == frozenset()

    @needs(Ability.HAND_EDITS)
    def test_deleted_locks_are_gone(self, scene: Scene, harness: Harness) -> None:
        """The others stay, the edit is the locks' new revision, and ids that were given are not given again."""
        scene.lock('x', 'y', 'z')
        ids = [lock.id for lock in scene.backend.read_locks().locks]
        with scene.raises_revision():
            harness.delete_lock_rows(NAMESPACE, ids[1:])
        assert list(scene.locks()) == ['x']
        snapshot = scene.backend.snapshot()
        assert snapshot.locks_revision == snapshot.revision.number
        scene.lock('y')
        assert scene.locks()['y'].id > ids[-1]


class FailoverTests:
    """Another store answers, or an empty one."""

    @needs(Ability.FAILOVER)
    def test_another_store_shows(self, scene: Scene, harness: Harness) -> None:
        """Snapshot and heartbeat tell the store's identity as it is now; the timeline keeps that of its making."""
        ref = scene.leader()
        before = scene.backend.snapshot()
        harness.fail_over()
        after, pulse = scene.backend.snapshot(), scene.beat(ref)
        assert after.store == pulse.store != before.store
        assert after.timeline == pulse.timeline == before.timeline
        scene.backend.renew_timeline(before.timeline, 0)
        assert scene.backend.snapshot().timeline.store == after.store

    @needs(Ability.WIPE)
    def test_a_lost_namespace_is_not_there(self, scene: Scene, harness: Harness) -> None:
        """Every call raises ``SchemaMismatch`` until ``open`` begins another timeline, at INITIAL, without settings."""
        ref = something_of_everything(scene)
        harness.wipe()
        for call in (scene.backend.snapshot, scene.backend.read_assignment, partial(scene.beat, ref), scene.backend.read_locks):
            with pytest.raises(SchemaMismatch):
                call()
        with pytest.raises(SchemaMismatch):
            scene.backend.open(SETTINGS, create=False)
        assert scene.backend.wait(1000, 0.0) == 1000
        opened = scene.backend.open(SETTINGS, create=True)
        assert opened.timeline.id != scene.timeline.id
        assert scene.backend.snapshot().revision == INITIAL
        assert Assignment.empty(TOKENS).apply(scene.backend.read_assignment()).is_unowned
        with pytest.raises(Evicted):
            scene.beat(ref)
