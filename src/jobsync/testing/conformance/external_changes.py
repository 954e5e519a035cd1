"""What happens to a store from outside: edits by hand, another store, everything lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest

from jobsync.backend import INITIAL, Assignment, Eviction, NodeRef, Pin, TokenGroup
from jobsync.errors import Conflict, Evicted, SchemaMismatch
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

__all__ = ['FailoverTests', 'HandEditTests', 'something_of_everything']

DAY = dt.date(2026, 3, 2)
NAMESPACE = 'sync_'


def something_of_everything(namespace: Namespace) -> NodeRef:
    """A leader, a node that left, rows, a pin, locks and trails."""
    leader = namespace.leader()
    namespace.backend.deregister(namespace.join('left'))
    namespace.beat(leader, namespace.revision, {1, 2})
    namespace.lock('x', 'y')
    group = TokenGroup(range(9), 'leader', 'a', 'b')
    namespace.commit(leader, group, pins=(Pin(TOKENS + 1, 'x', 'leader', pattern='a%'),), moved=9)
    namespace.backend.append_claims(leader, ['x', 'y'], DAY)
    namespace.backend.append_audits('leader', ['x'], DAY)
    return leader


class HandEditTests:
    """Rows deleted as an operator would."""

    @needs(Ability.HAND_EDITS)
    def test_deleted_tokens_are_a_new_version(self, namespace: Namespace, harness: Harness) -> None:
        """Rows that go by hand are the new revision and version, and are absent from then on; a pin cannot go so."""
        leader = something_of_everything(namespace)
        version = namespace.snapshot().version
        old = namespace.assignment()
        with namespace.raises_revision():
            harness.delete_token_rows(NAMESPACE, [1, 2, TOKENS + 1])
        snapshot = namespace.snapshot()
        assert snapshot.version == snapshot.revision
        changes = namespace.backend.read_assignment(version)
        assert (changes.base, changes.version) == (None, snapshot.version)
        new = old.apply(changes)
        assert [new.row(token).absent for token in range(4)] == [False, True, True, False]
        assert new.pins == old.pins
        assert new.row(0) == old.row(0)
        number = namespace.commit(leader, TokenGroup([1], 'leader')).number
        assert namespace.row(1).version == number
        assert namespace.backend.read_assignment(old.version).base is None

    @needs(Ability.HAND_EDITS)
    def test_a_pin_survives(self, namespace: Namespace, harness: Harness) -> None:
        """The row of a pin is still there after an attempt to delete it."""
        something_of_everything(namespace)
        before = namespace.pins()
        harness.delete_token_rows(NAMESPACE, [TOKENS + 1])
        assert namespace.pins() == before != {}

    @needs(Ability.HAND_EDITS)
    def test_differences_go_on_after_an_edit(self, namespace: Namespace, harness: Harness) -> None:
        """What is read after the edit can be built on again."""
        leader = something_of_everything(namespace)
        harness.delete_token_rows(NAMESPACE, [1])
        assignment = namespace.assignment()
        namespace.commit(leader, TokenGroup([5], 'other'))
        after, whole = assignment.apply(namespace.backend.read_assignment(assignment.version)), namespace.assignment()
        assert [after.row(token) for token in range(TOKENS)] == [whole.row(token) for token in range(TOKENS)]

    @needs(Ability.HAND_EDITS)
    def test_plans_from_before_an_edit_of_tokens_conflict(self, namespace: Namespace, harness: Harness) -> None:
        """Rows that go by hand make the plan stale that was made before."""
        leader = something_of_everything(namespace)
        plan, guard = namespace.plan(TokenGroup([2], 'a')), namespace.guard()
        harness.delete_token_rows(NAMESPACE, [1])
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, plan, guard)

    @needs(Ability.HAND_EDITS)
    def test_plans_from_before_other_edits_are_written(self, namespace: Namespace, harness: Harness) -> None:
        """A node or a lock that goes by hand makes a plan incomplete, not wrong."""
        leader = something_of_everything(namespace)
        ids = [lock.id for lock in namespace.backend.read_locks().locks]
        namespace.join('a')
        edits: list[Callable[[], None]] = [
            partial(harness.delete_node_row, NAMESPACE, 'a'),
            partial(harness.delete_lock_rows, NAMESPACE, ids[:1]),
        ]
        for number, edit in enumerate(edits):
            plan, guard = namespace.plan(TokenGroup([number], 'a')), namespace.guard()
            with namespace.same_version():
                edit()
            version = namespace.backend.commit(leader, plan, guard)
            assert (namespace.row(number).owner, namespace.snapshot().version) == ('a', version)

    @needs(Ability.HAND_EDITS)
    def test_an_owner_deleted_by_hand_is_absent(self, namespace: Namespace, harness: Harness) -> None:
        """A plan may give away what the deleted node had; one that evicts it conflicts."""
        leader = something_of_everything(namespace)
        ref = namespace.join('a')
        harness.delete_node_row(NAMESPACE, 'a')
        with namespace.refused(Conflict):
            namespace.commit(leader, evictions=(Eviction(ref, 0),))
        namespace.commit(leader, TokenGroup([1], 'b'), absent=(ref,))
        assert namespace.row(1).owner == 'b'

    @needs(Ability.HAND_EDITS)
    def test_a_deleted_node_is_evicted(self, namespace: Namespace, harness: Harness) -> None:
        """Its record is gone, its heartbeat refused, its name free; rows and the version stay."""
        something_of_everything(namespace)
        ref = namespace.join('a')
        before = namespace.state()
        with namespace.raises_revision():
            harness.delete_node_row(NAMESPACE, 'a')
        after = namespace.state()
        assert 'a' not in namespace.nodes()
        assert (after.rows, after.pins, after.locks) == (before.rows, before.pins, before.locks)
        assert after.snapshot.version == before.snapshot.version
        with namespace.refused(Evicted):
            namespace.beat(ref)
        namespace.join('a')
        assert namespace.node('a').replaces == frozenset()

    @needs(Ability.HAND_EDITS)
    def test_deleted_locks_are_gone(self, namespace: Namespace, harness: Harness) -> None:
        """The others stay, the edit is the locks' new revision, and ids that were given are not given again."""
        namespace.lock('x', 'y', 'z')
        ids = [lock.id for lock in namespace.backend.read_locks().locks]
        with namespace.raises_revision():
            harness.delete_lock_rows(NAMESPACE, ids[1:])
        assert list(namespace.locks()) == ['x']
        snapshot = namespace.snapshot()
        assert snapshot.locks_revision == snapshot.revision.number
        namespace.lock('y')
        assert namespace.locks()['y'].id > ids[-1]


class FailoverTests:
    """Another store answers, or an empty one."""

    @needs(Ability.FAILOVER)
    def test_another_store_shows(self, namespace: Namespace, harness: Harness) -> None:
        """Snapshot and heartbeat tell the store's identity as it is now; the timeline keeps that of its making."""
        ref = namespace.leader()
        before = namespace.snapshot()
        harness.fail_over()
        after, pulse = namespace.snapshot(), namespace.beat(ref)
        assert after.store == pulse.store != before.store
        assert after.timeline == pulse.timeline == before.timeline
        namespace.backend.renew_timeline(before.timeline, 0)
        assert namespace.snapshot().timeline.store == after.store

    @needs(Ability.WIPE)
    def test_a_lost_namespace_is_not_there(self, namespace: Namespace, harness: Harness) -> None:
        """Every call raises ``SchemaMismatch`` until ``open`` begins another timeline, at INITIAL, without settings."""
        ref = something_of_everything(namespace)
        harness.wipe()
        for call in (
            namespace.backend.snapshot,
            namespace.backend.read_assignment,
            partial(namespace.beat, ref),
            namespace.backend.read_locks,
        ):
            with pytest.raises(SchemaMismatch):
                call()
        with pytest.raises(SchemaMismatch):
            namespace.backend.open(SETTINGS, create=False)
        assert namespace.backend.wait(1000, 0.0) == 1000
        opened = namespace.backend.open(SETTINGS, create=True)
        assert opened.timeline.id != namespace.timeline.id
        assert namespace.snapshot().revision == INITIAL
        assert Assignment.empty(TOKENS).apply(namespace.backend.read_assignment()).is_unowned
        with pytest.raises(Evicted):
            namespace.beat(ref)
