"""``read_locks`` and ``edit_locks``."""

from __future__ import annotations

import datetime as dt

import pytest

from jobsync.backend import LockEdit, LockFilter, LockRequest, TaskLock
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import Scene

__all__ = ['LockTests']

SOON, LATER = dt.timedelta(0), dt.timedelta(days=1)


def request(
    task: str, *patterns: str, by: str = 'me', reason: str | None = None, expires_in: dt.timedelta | None = None
) -> LockRequest:
    """A lock to put."""
    return LockRequest(task, patterns or ('a%',), by, reason, expires_in)


def edit(scene: Scene, *put: LockRequest, **remove: object) -> int:
    """One edit; conditions by keyword say what to remove."""
    wanted = LockFilter(**remove) if remove else None  # type: ignore[arg-type]
    return scene.backend.edit_locks(LockEdit(wanted, put))


class LockTests:
    """Task locks."""

    def test_a_lock_is_stored_whole(self, scene: Scene) -> None:
        """Every field of the request is in the lock; times are the store's; ``registered`` is the edit's revision."""
        before = scene.backend.snapshot().now
        with scene.raises_revision():
            assert edit(scene, request('x', 'b_%', 'a\\%', 'c', by='someone', reason='why', expires_in=LATER)) == 0
        snapshot = scene.backend.snapshot()
        (lock,) = scene.backend.read_locks().locks
        assert lock == TaskLock(
            lock.id, 'x', ('b_%', 'a\\%', 'c'), 'why', 'someone', lock.created_at, lock.expires_at, lock.registered
        )
        assert before <= lock.created_at <= snapshot.now
        assert lock.expires_at is not None
        assert abs(lock.expires_at - lock.created_at - LATER) < dt.timedelta(milliseconds=1)
        assert lock.registered == snapshot.revision.number == snapshot.locks_revision
        assert lock.id > 0

    def test_a_lock_without_reason_or_end(self, scene: Scene) -> None:
        """``reason`` and ``expires_at`` may be None."""
        edit(scene, request('x'))
        assert (scene.locks()['x'].reason, scene.locks()['x'].expires_at) == (None, None)

    def test_locks_are_read_by_id(self, scene: Scene) -> None:
        """All locks come in order of their ids, expired ones included; ids rise in order of the requests."""
        edit(scene, request('z'), request('y', expires_in=SOON))
        edit(scene, request('x'), request('a'))
        locks = scene.backend.read_locks().locks
        assert [lock.task_id for lock in locks] == ['z', 'y', 'x', 'a']
        ids = [lock.id for lock in locks]
        assert ids == sorted(set(ids))

    def test_putting_again_keeps_id_and_registered(self, scene: Scene) -> None:
        """A task's lock is replaced in every field but id, ``registered`` and ``created_at``; nothing counts as gone."""
        edit(scene, request('x', 'a%', reason='old', expires_in=LATER), request('y'))
        before = scene.locks()
        with scene.raises_revision():
            assert edit(scene, request('x', 'b', 'c', by='other', reason='new')) == 0
        old, new = before['x'], scene.locks()['x']
        assert new == TaskLock(old.id, 'x', ('b', 'c'), 'new', 'other', old.created_at, None, old.registered)
        assert scene.locks()['y'] == before['y']

    def test_last_request_for_a_task_counts(self, scene: Scene) -> None:
        """Two requests for one task in one edit make one lock, as the second says."""
        edit(scene, request('x', 'first'), request('y'), request('x', 'second'))
        assert sorted(scene.locks()) == ['x', 'y']
        assert scene.locks()['x'].patterns == ('second',)

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
    def test_filters(self, scene: Scene, remove: dict[str, object], gone: set[str]) -> None:
        """A lock goes if it meets every condition given, all of them if none is; the number of those gone is returned."""
        edit(scene, request('mine'), request('mine soon', expires_in=SOON))
        edit(scene, request('theirs', by='them'), request('theirs soon', by='them', expires_in=SOON))
        edit(scene, request('theirs later', by='them', expires_in=LATER))
        before = set(scene.locks())
        assert edit(scene, **remove) == len(gone)
        assert set(scene.locks()) == before - gone

    def test_removed_and_put_never_lapses(self, scene: Scene) -> None:
        """A lock that one edit removes and puts keeps id, ``registered`` and ``created_at``, and is not counted as gone."""
        edit(scene, request('x'), request('y'), request('other', by='other'))
        before = scene.locks()
        assert edit(scene, request('y', 'b'), request('z'), created_by='me') == 1
        after = scene.locks()
        assert set(after) == {'y', 'z', 'other'}
        assert after['y'].patterns == ('b',)
        for field in ('id', 'registered', 'created_at'):
            assert getattr(after['y'], field) == getattr(before['y'], field), field
        assert after['z'].id > max(lock.id for lock in before.values())
        assert after['other'] == before['other']

    def test_ids_are_never_reused(self, scene: Scene) -> None:
        """A new lock's id is above every id ever given, also after the highest or all were removed."""
        highest = 0
        for remove in ({'task_ids': frozenset({'y'})}, {'created_by': 'me'}, {'created_by': None}, {'expired': True}):
            edit(scene, request('x'), request('y', expires_in=SOON))
            new = [lock.id for lock in scene.backend.read_locks().locks if lock.id > highest]
            assert new
            highest = max(new)
            edit(scene, **remove)
        edit(scene, created_by=None)
        edit(scene, request('x'))
        lock = scene.locks()['x']
        assert lock.id > highest
        assert lock.registered == scene.revision.number

    def test_a_removed_lock_comes_back_as_a_new_one(self, scene: Scene) -> None:
        """Put in a later edit than the one that removed it, a task's lock has a new id and ``registered``."""
        edit(scene, request('x'))
        before = scene.locks()['x']
        edit(scene, created_by=None)
        edit(scene, request('x'))
        after = scene.locks()['x']
        assert after.id > before.id
        assert after.registered > before.registered

    def test_an_edit_that_changes_nothing(self, scene: Scene) -> None:
        """Removing nothing, putting what is there, or both, leaves everything as it is, the revision included."""
        put = (request('x', 'a', 'b', reason='r'), request('y'))
        edit(scene, *put)
        with scene.unchanged():
            assert edit(scene) == 0
            assert edit(scene, created_by='nobody') == 0
            assert edit(scene, *put) == 0
            assert edit(scene, *put, created_by='me') == 0

    @pytest.mark.parametrize('change', [{'by': 'other'}, {'reason': 'other'}, {'expires_in': LATER}])
    def test_every_field_counts_as_a_change(self, scene: Scene, change: dict[str, str]) -> None:
        """Another creator, reason or end is a change."""
        edit(scene, request('x'))
        with scene.raises_revision():
            edit(scene, request('x', **change))  # type: ignore[arg-type]

    def test_order_of_patterns_counts(self, scene: Scene) -> None:
        """The same patterns in another order are a change."""
        edit(scene, request('x', 'a', 'b'))
        with scene.raises_revision():
            edit(scene, request('x', 'b', 'a'))
        assert scene.locks()['x'].patterns == ('b', 'a')

    def test_edit_repeated_happens_once(self, scene: Scene) -> None:
        """The same edit again finds its work done."""
        edit(scene, request('old', by='a'), request('x', by='b'))
        assert edit(scene, request('x', 'n'), request('new'), created_by='a') == 1
        with scene.unchanged():
            assert edit(scene, request('x', 'n'), request('new'), created_by='a') == 0

    def test_only_locks_and_revision_change(self, scene: Scene) -> None:
        """Nodes, leadership, version and rows are as before."""
        scene.commit(scene.leader())
        before = scene.state()
        edit(scene, request('x'))
        after = scene.state()
        for field in ('nodes', 'leadership', 'version', 'timeline'):
            assert getattr(after.snapshot, field) == getattr(before.snapshot, field), field
        assert (after.rows, after.pins, after.members) == (before.rows, before.pins, before.members)

    @needs(Ability.CLOCK)
    def test_expiry_goes_by_the_stores_time(self, scene: Scene, harness: Harness) -> None:
        """A lock is expired from the moment the store's time reaches ``expires_at``, and not before."""
        edit(scene, request('x', expires_in=dt.timedelta(hours=2)))
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(scene, expired=True) == 0
        harness.move_clock(dt.timedelta(hours=1))
        assert edit(scene, expired=True) == 1
