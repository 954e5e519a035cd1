"""Changes that no call of the protocol made: manual edits of rows, a failover to another store, a store that lost everything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from jobsync.backend import INITIAL, Assignment, Eviction, TokenGroup
from jobsync.errors import Conflict, Evicted, SchemaMismatch
from jobsync.testing.conformance.calls import CALLS
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import NAMESPACE, SETTINGS, TOKENS, Namespace, content

__all__ = ['FailoverTests', 'HandEditTests']


@needs(Ability.HAND_EDITS)
class HandEditTests:
    """Rows that an operator deletes. Whatever depends on them must show a change, or two nodes may own one token."""

    def test_deleted_tokens_are_a_new_version(self, namespace: Namespace, harness: Harness) -> None:
        """Deleted rows of tokens make a new version, and are absent from then on; the row of a pin cannot be deleted."""
        leader = namespace.populate()
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

    def test_the_row_of_a_pin_cannot_be_deleted(self, namespace: Namespace, harness: Harness) -> None:
        """The row of a pin is still present after an attempt to delete it."""
        namespace.populate()
        before = namespace.pins()
        harness.delete_token_rows(NAMESPACE, [TOKENS + 1])
        assert namespace.pins() == before != {}

    def test_differences_go_on_after_an_edit(self, namespace: Namespace, harness: Harness) -> None:
        """A reader that read after the edit can go on with differences."""
        leader = namespace.populate()
        harness.delete_token_rows(NAMESPACE, [1])
        assignment = namespace.assignment()
        namespace.commit(leader, TokenGroup([5], 'other'))
        after, whole = assignment.apply(namespace.backend.read_assignment(assignment.version)), namespace.assignment()
        assert content(after) == content(whole)

    def test_plans_from_before_an_edit_of_tokens_conflict(self, namespace: Namespace, harness: Harness) -> None:
        """A plan from before a deletion of token rows is refused, because it may rest on a deleted row."""
        leader = namespace.populate()
        plan, guard = namespace.plan(TokenGroup([2], 'a')), namespace.guard()
        harness.delete_token_rows(NAMESPACE, [1])
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, plan, guard)

    def test_plans_from_before_other_edits_are_written(self, namespace: Namespace, harness: Harness) -> None:
        """A plan from before a deletion of a node or a lock is written: it is incomplete, not wrong."""
        leader = namespace.populate()
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

    def test_an_owner_deleted_by_hand_is_absent(self, namespace: Namespace, harness: Harness) -> None:
        """A plan that names a deleted node as absent is written; a plan that evicts it conflicts."""
        leader = namespace.populate()
        ref = namespace.join('a')
        harness.delete_node_row(NAMESPACE, 'a')
        with namespace.refused(Conflict):
            namespace.commit(leader, evictions=(Eviction(ref, 0),))
        namespace.commit(leader, TokenGroup([1], 'b'), absent=(ref,))
        assert namespace.row(1).owner == 'b'

    def test_a_deleted_node_is_unregistered(self, namespace: Namespace, harness: Harness) -> None:
        """The heartbeat of a deleted node is refused and its name is free; rows of tokens and the version stay."""
        namespace.populate()
        ref = namespace.join('a')
        with namespace.changes_only('nodes'):
            harness.delete_node_row(NAMESPACE, 'a')
        assert 'a' not in namespace.nodes()
        with namespace.refused(Evicted):
            namespace.beat(ref)
        namespace.join('a')
        assert namespace.node('a').replaces == frozenset()

    @pytest.mark.parametrize('group', ['', 'g'])
    def test_deleted_locks_are_gone(self, namespace: Namespace, harness: Harness, group: str) -> None:
        """A deletion of rows of locks or items changes the locks' revision; others stay, and no id is used again, for a lock."""
        namespace.lock('x', 'y', 'z', group=group)
        ids = [lock.id for lock in namespace.backend.read_locks().locks]
        with namespace.raises_revision():
            harness.delete_lock_rows(NAMESPACE, ids[1:])
        assert list(namespace.locks()) == ['x']
        snapshot = namespace.snapshot()
        assert snapshot.locks_revision == snapshot.revision.number
        namespace.lock('y')
        assert namespace.locks()['y'].id > ids[-1]


class FailoverTests:
    """A failover to another store, or to an empty one. Nodes notice it by what every reading shows (rule R8)."""

    @needs(Ability.FAILOVER)
    def test_a_failover_shows_in_every_reading(self, namespace: Namespace, harness: Harness) -> None:
        """Snapshot and Pulse have the store's present identity; the timeline keeps the identity that it was made under."""
        ref = namespace.leader()
        before = namespace.snapshot()
        harness.fail_over()
        after, pulse = namespace.snapshot(), namespace.beat(ref)
        assert after.store == pulse.store != before.store
        assert after.timeline == pulse.timeline == before.timeline
        namespace.backend.renew_timeline(before.timeline, 0)
        assert namespace.snapshot().timeline.store == after.store

    @needs(Ability.WIPE)
    def test_a_wiped_namespace_is_missing(self, namespace: Namespace, harness: Harness) -> None:
        """After a wipe every call raises ``SchemaMismatch`` until ``open`` begins another timeline, at INITIAL, with no nodes."""
        ref = namespace.populate()
        other = Namespace(harness.connect())
        before = other.assignment()
        harness.wipe()
        for call in CALLS.values():
            with pytest.raises(SchemaMismatch):
                call(namespace.backend, namespace.timeline, ref)
        with pytest.raises(SchemaMismatch):
            namespace.backend.open(SETTINGS, create=False)
        assert namespace.backend.wait(1000, 0.0) == 1000
        opened = namespace.backend.open(SETTINGS, create=True)
        assert opened.timeline.id != namespace.timeline.id
        assert namespace.snapshot().revision == INITIAL
        assert Assignment.empty(TOKENS).apply(namespace.backend.read_assignment()).is_unowned
        with pytest.raises(Evicted):
            namespace.beat(ref)
        # the other handle read a version of this number in the history before: only the stamps differ
        namespace.timeline = opened.timeline
        namespace.populate()
        assert namespace.snapshot().version.number == before.version.number
        for changes in (other.backend.read_assignment(), other.backend.read_assignment(before.version)):
            assert (changes.base, changes.version) == (None, namespace.snapshot().version)
