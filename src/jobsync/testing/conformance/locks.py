"""``read_locks`` and ``edit_locks``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs
import pytest

from jobsync.backend import LockEdit, LockFilter, LockRequest, TaskLock
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['LockTests']

SOON, LATER = dt.timedelta(0), dt.timedelta(days=1, milliseconds=250)
LATEST = dt.timedelta(days=36_500)
COSTS = pytest.mark.parametrize(('group', 'cost'), [('', 1.0), ('g', 0.1)], ids=['locks', 'items'])


def request(task: str, *patterns: str, by: str = 'me', **fields: Any) -> LockRequest:
    """Return a request for a lock, or an item if it has a cost."""
    return LockRequest(task, patterns or ('a%',), by, **fields)


def edit(namespace: Namespace, *put: LockRequest, group: str = '', **remove: object) -> int:
    """Make one edit of locks, or of the items of a group, which first removes what meets the conditions in ``remove``."""
    wanted = LockFilter(**remove) if remove else None  # type: ignore[arg-type]
    return namespace.backend.edit_locks(LockEdit(wanted, put, group))


class LockTests:
    """Task locks. A lock that is lost or changed lets a task run on a node where it must not (P6)."""

    @pytest.mark.parametrize('expires_in', [LATER, LATEST])
    def test_a_lock_is_stored_whole(self, namespace: Namespace, expires_in: dt.timedelta) -> None:
        """A lock has every field of its request, times of the store, and the revision of its edit in ``registered``."""
        before = namespace.snapshot().now
        with namespace.raises_revision():
            assert edit(namespace, request('x', 'b_%', 'a\\%', 'c', by='someone', reason='why', expires_in=expires_in)) == 0
        snapshot = namespace.snapshot()
        (lock,) = namespace.backend.read_locks().locks
        assert lock == TaskLock(
            lock.id, 'x', ('b_%', 'a\\%', 'c'), 'why', 'someone', lock.created_at, lock.expires_at, lock.registered
        )
        assert before <= lock.created_at <= snapshot.now
        assert lock.expires_at is not None
        assert abs(lock.expires_at - lock.created_at - expires_in) < dt.timedelta(milliseconds=1)
        assert lock.registered == snapshot.revision.number == snapshot.locks_revision
        assert lock.id > 0

    def test_locks_are_read_by_id(self, namespace: Namespace) -> None:
        """Locks are read in the order of their ids, expired ones included, and ids rise in the order of the requests.

        ``reason`` and ``expires_at`` may be None.
        """
        edit(namespace, request('z'), request('y', expires_in=SOON))
        edit(namespace, request('x'), request('a'))
        locks = namespace.backend.read_locks().locks
        assert [lock.task_id for lock in locks] == ['z', 'y', 'x', 'a']
        assert (locks[0].reason, locks[0].expires_at) == (None, None)
        ids = [lock.id for lock in locks]
        assert ids == sorted(set(ids))

    def test_putting_again_keeps_id_and_registered(self, namespace: Namespace) -> None:
        """A lock that is put again keeps only id, ``registered`` and ``created_at``; it is not counted as removed."""
        edit(namespace, request('x', 'a%', reason='old', expires_in=LATER), request('y'))
        before = namespace.locks()
        with namespace.raises_revision():
            assert edit(namespace, request('x', 'b', 'c', by='other', reason='new')) == 0
        old, new = before['x'], namespace.locks()['x']
        assert new == TaskLock(old.id, 'x', ('b', 'c'), 'new', 'other', old.created_at, None, old.registered)
        assert namespace.locks()['y'] == before['y']

    def test_last_request_for_a_task_counts(self, namespace: Namespace) -> None:
        """Of two requests for one task in one edit, the last one counts."""
        edit(namespace, request('x', 'first'), request('y'), request('x', 'second'))
        assert sorted(namespace.locks()) == ['x', 'y']
        assert namespace.locks()['x'].patterns == ('second',)

    def test_lock_filters_combine(self, namespace: Namespace) -> None:
        """An edit removes the locks that meet every condition given, or all locks, and returns their number."""
        cases: list[tuple[dict[str, Any], set[str]]] = [
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
        ]
        for remove, gone in cases:
            edit(namespace, request('mine'), request('mine soon', expires_in=SOON))
            edit(namespace, request('theirs', by='them'), request('theirs soon', by='them', expires_in=SOON))
            edit(namespace, request('theirs later', by='them', expires_in=LATER))
            before = set(namespace.locks())
            assert edit(namespace, **remove) == len(gone), remove
            assert set(namespace.locks()) == before - gone, remove

    @COSTS
    def test_removed_and_put_never_lapses(self, namespace: Namespace, group: str, cost: float) -> None:
        """What one edit removes and puts keeps id, ``registered`` and ``created_at``, and is not counted as removed.

        The edit repeated changes nothing.
        """
        edit(namespace, request('x'), request('y'), request('other', by='other'), group=group)
        before, put = namespace.locks(), (request('y', 'b', cost=cost), request('z', cost=cost))
        assert edit(namespace, *put, created_by='me', group=group) == 1
        after = namespace.locks()
        assert set(after) == {'y', 'z', 'other'}
        assert after['y'] == attrs.evolve(before['y'], patterns=('b',), cost=cost)
        assert after['z'].id > max(lock.id for lock in before.values())
        assert (after['z'].cost, after['other']) == (cost, before['other'])
        with namespace.unchanged():
            assert edit(namespace, *put, created_by='me', group=group) == 0

    def test_ids_are_never_reused(self, namespace: Namespace, harness: Harness) -> None:
        """The id of a new lock is above every earlier id, even if a handle removed the lock with the highest or every lock."""
        highest, other = 0, Namespace(harness.connect())
        for remove in ({'task_ids': frozenset({'y'})}, {'created_by': 'me'}, {'created_by': None}, {'expired': True}):
            edit(namespace, request('x'), request('y', expires_in=SOON))
            new = [lock.id for lock in namespace.backend.read_locks().locks if lock.id > highest]
            assert new
            highest = max(new)
            edit(namespace, **remove)
            namespace, other = other, namespace
        edit(namespace, created_by=None)
        edit(namespace, request('x'))
        lock = namespace.locks()['x']
        assert lock.id > highest
        assert lock.registered == namespace.revision.number

    @COSTS
    def test_an_edit_that_changes_nothing(self, namespace: Namespace, group: str, cost: float) -> None:
        """An edit that removes nothing, puts what is present, or both, changes nothing, the revision included."""
        put = (request('x', 'a', 'b', reason='r', cost=cost), request('y', cost=cost))
        edit(namespace, *put, group=group)
        with namespace.unchanged():
            assert edit(namespace, group=group) == 0
            assert edit(namespace, created_by='nobody', group=group) == 0
            assert edit(namespace, *put, group=group) == 0
            assert edit(namespace, *put, created_by='nobody', group=group) == 0
            assert edit(namespace, *put, created_by='me', group=group) == 0

    @pytest.mark.parametrize(
        'change', [{'by': 'other'}, {'reason': 'other'}, {'expires_in': LATER}, {'patterns': ('b', 'a')}, {'cost': 0.2}]
    )
    def test_every_field_counts_as_a_change(self, namespace: Namespace, change: dict[str, Any]) -> None:
        """Another creator, reason, expiry or cost is a change, and so is another order of patterns: the first counts."""
        fields = dict(change)
        patterns, group = fields.pop('patterns', ('a', 'b')), 'g' if 'cost' in change else ''
        edit(namespace, request('x', 'a', 'b'), request('y'), group=group)
        before = namespace.locks()
        with namespace.raises_revision():
            edit(namespace, request('x', *patterns, **fields), group=group)
        after = namespace.locks()
        assert (after['x'].patterns, after['x'].cost) == (patterns, change.get('cost', 1.0))
        assert after['y'] == before['y']

    def test_every_handle_reads_an_edit_at_once(self, namespace: Namespace, harness: Harness) -> None:
        """A handle that reads locks alone, and no snapshot, reads each edit of another handle."""
        other = Namespace(harness.connect()).backend
        for number, task in enumerate(('x', 'y', 'z'), 1):
            edit(namespace, request(task))
            assert [lock.task_id for lock in other.read_locks().locks] == ['x', 'y', 'z'][:number]

    def test_only_locks_and_revision_change(self, namespace: Namespace) -> None:
        """An edit of locks changes neither nodes nor leadership, version and rows."""
        namespace.commit(namespace.leader())
        with namespace.changes_only('locks', 'locks_revision'):
            edit(namespace, request('x'))

    @needs(Ability.CLOCK)
    def test_expiry_is_measured_by_the_store_clock(self, namespace: Namespace, harness: Harness) -> None:
        """A lock is expired from the moment at which the store's time reaches ``expires_at``, and not before."""
        edit(namespace, request('x', expires_in=dt.timedelta(hours=2)))
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(namespace, expired=True) == 0
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(namespace, expired=True) == 1
