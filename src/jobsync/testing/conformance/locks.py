"""``read_locks`` and ``edit_locks``."""

from __future__ import annotations

import datetime as dt

import pytest

from jobsync.backend import LockEdit, LockFilter, LockRequest, TaskLock
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['LockTests']

SOON, LATER = dt.timedelta(0), dt.timedelta(days=1)


def request(
    task: str, *patterns: str, by: str = 'me', reason: str | None = None, expires_in: dt.timedelta | None = None
) -> LockRequest:
    """A lock to put."""
    return LockRequest(task, patterns or ('a%',), by, reason, expires_in)


def edit(namespace: Namespace, *put: LockRequest, **remove: object) -> int:
    """One edit; conditions by keyword say what to remove."""
    wanted = LockFilter(**remove) if remove else None  # type: ignore[arg-type]
    return namespace.backend.edit_locks(LockEdit(wanted, put))


class LockTests:
    """Task locks."""

    def test_a_lock_is_stored_whole(self, namespace: Namespace) -> None:
        """Every field of the request is in the lock; times are the store's; ``registered`` is the edit's revision."""
        before = namespace.snapshot().now
        with namespace.raises_revision():
            assert edit(namespace, request('x', 'b_%', 'a\\%', 'c', by='someone', reason='why', expires_in=LATER)) == 0
        snapshot = namespace.snapshot()
        (lock,) = namespace.backend.read_locks().locks
        assert lock == TaskLock(
            lock.id, 'x', ('b_%', 'a\\%', 'c'), 'why', 'someone', lock.created_at, lock.expires_at, lock.registered
        )
        assert before <= lock.created_at <= snapshot.now
        assert lock.expires_at is not None
        assert abs(lock.expires_at - lock.created_at - LATER) < dt.timedelta(milliseconds=1)
        assert lock.registered == snapshot.revision.number == snapshot.locks_revision
        assert lock.id > 0

    def test_a_lock_without_reason_or_end(self, namespace: Namespace) -> None:
        """``reason`` and ``expires_at`` may be None."""
        edit(namespace, request('x'))
        assert (namespace.locks()['x'].reason, namespace.locks()['x'].expires_at) == (None, None)

    def test_locks_are_read_by_id(self, namespace: Namespace) -> None:
        """All locks come in order of their ids, expired ones included; ids rise in order of the requests."""
        edit(namespace, request('z'), request('y', expires_in=SOON))
        edit(namespace, request('x'), request('a'))
        locks = namespace.backend.read_locks().locks
        assert [lock.task_id for lock in locks] == ['z', 'y', 'x', 'a']
        ids = [lock.id for lock in locks]
        assert ids == sorted(set(ids))

    def test_putting_again_keeps_id_and_registered(self, namespace: Namespace) -> None:
        """A task's lock is replaced in every field but id, ``registered`` and ``created_at``; nothing counts as gone."""
        edit(namespace, request('x', 'a%', reason='old', expires_in=LATER), request('y'))
        before = namespace.locks()
        with namespace.raises_revision():
            assert edit(namespace, request('x', 'b', 'c', by='other', reason='new')) == 0
        old, new = before['x'], namespace.locks()['x']
        assert new == TaskLock(old.id, 'x', ('b', 'c'), 'new', 'other', old.created_at, None, old.registered)
        assert namespace.locks()['y'] == before['y']

    def test_last_request_for_a_task_counts(self, namespace: Namespace) -> None:
        """Two requests for one task in one edit make one lock, as the second says."""
        edit(namespace, request('x', 'first'), request('y'), request('x', 'second'))
        assert sorted(namespace.locks()) == ['x', 'y']
        assert namespace.locks()['x'].patterns == ('second',)

    @pytest.mark.parametrize(
        ('remove', 'gone'),
        [
            ({'created_by': None}, {'mine', 'mine soon', 'theirs', 'theirs soon', 'theirs later'}),
            ({'created_by': 'me'}, {'mine', 'mine soon'}),
            ({'created_by': 'nobody'}, set()),
            ({'created_by': 'M%'}, set()),
            ({'expired': True}, {'mine soon', 'theirs soon'}),
            ({'expired': True, 'created_by': 'them'}, {'theirs soon'}),
            ({'task_ids': frozenset({'mine', 'theirs', 'unknown'})}, {'mine', 'theirs'}),
            ({'task_ids': frozenset({'mine', 'theirs soon'}), 'created_by': 'them'}, {'theirs soon'}),
            ({'task_ids': frozenset({'mine', 'mine soon'}), 'expired': True}, {'mine soon'}),
            ({'task_ids': frozenset()}, set()),
        ],
    )
    def test_filters(self, namespace: Namespace, remove: dict[str, object], gone: set[str]) -> None:
        """A lock goes if it meets every condition given, all of them if none is; the number of those gone is returned."""
        edit(namespace, request('mine'), request('mine soon', expires_in=SOON))
        edit(namespace, request('theirs', by='them'), request('theirs soon', by='them', expires_in=SOON))
        edit(namespace, request('theirs later', by='them', expires_in=LATER))
        before = set(namespace.locks())
        assert edit(namespace, **remove) == len(gone)
        assert set(namespace.locks()) == before - gone

    def test_removed_and_put_never_lapses(self, namespace: Namespace) -> None:
        """A lock that one edit removes and puts keeps id, ``registered`` and ``created_at``, and is not counted as gone."""
        edit(namespace, request('x'), request('y'), request('other', by='other'))
        before = namespace.locks()
        assert edit(namespace, request('y', 'b'), request('z'), created_by='me') == 1
        after = namespace.locks()
        assert set(after) == {'y', 'z', 'other'}
        assert after['y'].patterns == ('b',)
        for field in ('id', 'registered', 'created_at'):
            assert getattr(after['y'], field) == getattr(before['y'], field), field
        assert after['z'].id > max(lock.id for lock in before.values())
        assert after['other'] == before['other']

    def test_ids_are_never_reused(self, namespace: Namespace) -> None:
        """A new lock's id is above every id ever given, also after the highest or all were removed."""
        highest = 0
        for remove in ({'task_ids': frozenset({'y'})}, {'created_by': 'me'}, {'created_by': None}, {'expired': True}):
            edit(namespace, request('x'), request('y', expires_in=SOON))
            new = [lock.id for lock in namespace.backend.read_locks().locks if lock.id > highest]
            assert new
            highest = max(new)
            edit(namespace, **remove)
        edit(namespace, created_by=None)
        edit(namespace, request('x'))
        lock = namespace.locks()['x']
        assert lock.id > highest
        assert lock.registered == namespace.revision.number

    def test_a_removed_lock_comes_back_as_a_new_one(self, namespace: Namespace) -> None:
        """Put in a later edit than the one that removed it, a task's lock has a new id and ``registered``."""
        edit(namespace, request('x'))
        before = namespace.locks()['x']
        edit(namespace, created_by=None)
        edit(namespace, request('x'))
        after = namespace.locks()['x']
        assert after.id > before.id
        assert after.registered > before.registered

    def test_an_edit_that_changes_nothing(self, namespace: Namespace) -> None:
        """Removing nothing, putting what is there, or both, leaves everything as it is, the revision included."""
        put = (request('x', 'a', 'b', reason='r'), request('y'))
        edit(namespace, *put)
        with namespace.unchanged():
            assert edit(namespace) == 0
            assert edit(namespace, created_by='nobody') == 0
            assert edit(namespace, *put) == 0
            assert edit(namespace, *put, created_by='me') == 0

    @pytest.mark.parametrize('change', [{'by': 'other'}, {'reason': 'other'}, {'expires_in': LATER}])
    def test_every_field_counts_as_a_change(self, namespace: Namespace, change: dict[str, str]) -> None:
        """Another creator, reason or end is a change."""
        edit(namespace, request('x'))
        with namespace.raises_revision():
            edit(namespace, request('x', **change))  # type: ignore[arg-type]

    def test_order_of_patterns_counts(self, namespace: Namespace) -> None:
        """The same patterns in another order are a change."""
        edit(namespace, request('x', 'a', 'b'))
        with namespace.raises_revision():
            edit(namespace, request('x', 'b', 'a'))
        assert namespace.locks()['x'].patterns == ('b', 'a')

    def test_edit_repeated_happens_once(self, namespace: Namespace) -> None:
        """The same edit again finds its work done."""
        edit(namespace, request('old', by='a'), request('x', by='b'))
        assert edit(namespace, request('x', 'n'), request('new'), created_by='a') == 1
        with namespace.unchanged():
            assert edit(namespace, request('x', 'n'), request('new'), created_by='a') == 0

    def test_only_locks_and_revision_change(self, namespace: Namespace) -> None:
        """Nodes, leadership, version and rows are as before."""
        namespace.commit(namespace.leader())
        before = namespace.state()
        edit(namespace, request('x'))
        after = namespace.state()
        for field in ('nodes', 'leadership', 'version', 'timeline'):
            assert getattr(after.snapshot, field) == getattr(before.snapshot, field), field
        assert (after.rows, after.pins, after.members) == (before.rows, before.pins, before.members)

    @needs(Ability.CLOCK)
    def test_expiry_goes_by_the_stores_time(self, namespace: Namespace, harness: Harness) -> None:
        """A lock is expired from the moment the store's time reaches ``expires_at``, and not before."""
        edit(namespace, request('x', expires_in=dt.timedelta(hours=2)))
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(namespace, expired=True) == 0
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(namespace, expired=True) == 1
