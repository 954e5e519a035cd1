"""``renew_timeline``: a new history, after the store lost records (rule R8)."""

from __future__ import annotations

import attrs
import pytest

from jobsync.backend import Leadership, LockEdit, LockFilter, Member, Pin, TokenGroup
from jobsync.errors import Conflict, TimelineChanged
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

__all__ = ['TimelineTests']


class TimelineTests:
    """``renew_timeline`` makes every node register anew, and loses nothing that users need."""

    def test_renewal_removes_nodes_leader_and_assignment(self, namespace: Namespace) -> None:
        """A renewal removes nodes, leader, rows, pins and members; the generation and the id are new, the epoch stays."""
        leader = namespace.leader()
        members = {'leader': Member(leader.incarnation, 15.0)}
        namespace.commit(
            leader, TokenGroup(range(9), 'leader', home='b'), pins=(Pin(TOKENS + 1, 'x', 'leader'),), members=members
        )
        before = namespace.snapshot()
        namespace.backend.renew_timeline(namespace.timeline, 0)
        after = namespace.snapshot()
        assert after.timeline.generation == before.timeline.generation + 1
        assert after.timeline.id != before.timeline.id
        assert after.timeline.store == after.store == before.store
        assert after.nodes == ()
        assert after.leadership == Leadership(before.leadership.epoch, None)
        assert namespace.backend.open(SETTINGS, create=True).timeline == after.timeline
        changes = namespace.backend.read_assignment()
        assert (changes.groups, changes.pins, dict(changes.members)) == ((), (), {})

    def test_renewal_keeps_locks_settings_and_history(self, namespace: Namespace) -> None:
        """A renewal keeps locks with their ids and revision, settings, claims, audits and rebalances; new ids go on rising."""
        leader = namespace.leader()
        namespace.lock('x', 'y')
        highest = max(lock.id for lock in namespace.backend.read_locks().locks)
        namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'y'}))))
        namespace.commit(leader, TokenGroup(range(9), 'leader'), moved=9)
        namespace.claim(leader, 'x')
        namespace.audit('leader', 'x')
        with namespace.changes_only('timeline', 'nodes', 'leadership', 'version', 'rows'):
            namespace.backend.renew_timeline(namespace.timeline, 0)
        namespace.lock('z')
        assert namespace.locks()['z'].id > highest

    def test_renewal_raises_revision_above_both(self, namespace: Namespace) -> None:
        """After a renewal, revision and version are equal, one above the higher of the former number and ``at_least``."""
        for ahead in (-1, 0, 1, 1000):
            namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
            before = namespace.revision
            namespace.renew_timeline(before.number + ahead)
            snapshot = namespace.snapshot()
            assert snapshot.revision.number == before.number + max(ahead, 0) + 1, ahead
            assert snapshot.revision.stamp != before.stamp
            assert snapshot.version == snapshot.revision == namespace.backend.read_assignment().version

    def test_renewal_compares_the_timeline(self, namespace: Namespace) -> None:
        """A renewal changes nothing unless the present timeline equals the expected one in every part."""
        namespace.leader()
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            with namespace.unchanged():
                namespace.backend.renew_timeline(attrs.evolve(namespace.timeline, **part), 1000)

    def test_renewal_repeated_happens_once(self, namespace: Namespace) -> None:
        """A repeated renewal finds another timeline and changes nothing."""
        namespace.backend.renew_timeline(namespace.timeline, 5)
        with namespace.unchanged():
            namespace.backend.renew_timeline(namespace.timeline, 5)

    def test_a_renewal_through_another_handle_counts_at_once(self, namespace: Namespace, harness: Harness) -> None:
        """A handle that has read nothing since another one renewed the timeline compares with the new one, and returns it."""
        old, other = namespace.timeline, Namespace(harness.connect())
        namespace.beat(namespace.join('a'))
        other.renew_timeline()
        with pytest.raises(TimelineChanged):
            namespace.join('b')
        assert namespace.beat(other.join('c')).timeline == other.timeline
        assert namespace.backend.open(namespace.settings, create=False).timeline == other.timeline
        namespace.backend.renew_timeline(old, 0)
        assert (list(other.nodes()), other.snapshot().timeline) == (['c'], other.timeline)

    def test_plan_of_the_old_timeline_is_refused(self, namespace: Namespace) -> None:
        """A plan from before a renewal is refused after it, and no difference is read from an old version."""
        old = namespace.timeline
        version = namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
        namespace.backend.renew_timeline(old, 0)
        namespace.timeline = namespace.snapshot().timeline
        leader = namespace.leader('other')
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, namespace.plan(), namespace.guard(timeline=old))
        assert namespace.backend.read_assignment(version).base is None
