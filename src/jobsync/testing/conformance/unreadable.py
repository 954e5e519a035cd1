"""Records that cannot be read: rule R9."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs
import pytest

from jobsync.backend import Eviction, LockEdit, LockFilter, Node, NodeRef, Snapshot, TokenGroup, Unreadable
from jobsync.errors import Evicted, NameTaken
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import NAMESPACE, SETTINGS, Namespace

__all__ = ['UnreadableTests']

OTHERS = attrs.evolve(SETTINGS, hash_function='md5')


@needs(Ability.SPOIL)
class UnreadableTests:
    """A record that cannot be read is reported, and stops neither a reading nor any other node."""

    def test_a_spoilt_node_is_reported(self, namespace: Namespace, harness: Harness) -> None:
        """A spoilt node is left out, or read with harmless values for weight, timeout and times; other records are unchanged."""
        namespace.leader()
        for way in harness.node_spoils:
            name = f'spoilt {way}'
            namespace.join(name, weight=2.5, timeout_sec=3.5)
            before = namespace.snapshot()
            harness.spoil_node(NAMESPACE, name, way)
            after = namespace.snapshot()
            report = report_of(name, after.unreadable)
            assert report.kind == 'node'
            assert report.problem
            assert others(after, name) == others(before, name)
            for node in after.nodes:
                if node.name == name:
                    check_harmless(node, next(node for node in before.nodes if node.name == name), after)
        assert len(namespace.snapshot().unreadable) == len(harness.node_spoils)

    def test_a_node_left_out_is_absent(self, namespace: Namespace, harness: Harness) -> None:
        """Calls of a node that is left out are refused as those of an unregistered node, and a new run registers in its place."""
        leader = namespace.leader()
        for name, ref in spoilt_nodes(namespace, harness):
            if name in namespace.nodes():
                continue
            calls: list[Callable[[], object]] = [
                partial(namespace.beat, ref),
                partial(namespace.backend.set_weight, ref, 2.0),
                partial(namespace.backend.acquire_leadership, ref, namespace.snapshot().leadership.epoch),
                partial(namespace.commit, ref),
                partial(namespace.claim, ref, 'x'),
            ]
            for call in calls:
                with namespace.refused(Evicted):
                    call()
            with namespace.unchanged():
                namespace.backend.deregister(ref)
            namespace.commit(leader, TokenGroup([1], 'leader'), absent=(ref,))
            new = namespace.join(name)
            assert namespace.node(name).ref == new
            assert name not in {unreadable.key for unreadable in namespace.snapshot().unreadable}
            assert namespace.beat(new).heartbeat == 1

    def test_a_spoilt_node_with_harmless_values_goes_on(self, namespace: Namespace, harness: Harness) -> None:
        """A record that is read with harmless values counts as JOINED for every method."""
        leader = namespace.leader()
        for name, ref in spoilt_nodes(namespace, harness):
            if name not in namespace.nodes():
                continue
            assert namespace.beat(ref).heartbeat == 1
            with pytest.raises(NameTaken) as caught:
                namespace.join(name)
            assert caught.value.record.beat == (ref.incarnation, 1)
            namespace.lead(ref)
            namespace.commit(ref, TokenGroup([1], name))
            namespace.lead(leader)
            namespace.commit(leader, evictions=(Eviction(ref, 2),))
            assert name not in namespace.nodes()
            assert name not in {unreadable.key for unreadable in namespace.snapshot().unreadable}

    def test_a_spoilt_node_stops_no_other(self, namespace: Namespace, harness: Harness) -> None:
        """Beside spoilt nodes, others beat, register, leave, lead and are removed; plans and a renewal are written."""
        leader, dead, left = namespace.leader(), namespace.join('dead'), namespace.join('left')
        spoilt = {name for name, _ in spoilt_nodes(namespace, harness)}
        other = namespace.join('other')
        namespace.beat(other)
        namespace.backend.set_weight(other, 2.0)
        namespace.backend.deregister(left)
        namespace.commit(leader, TokenGroup([1], 'other'), evictions=(Eviction(dead, 0),), departed=(left,), moved=1)
        namespace.lead(other)
        namespace.commit(other, TokenGroup([2], 'other'))
        namespace.claim(other, 'x')
        assert set(namespace.nodes()) - spoilt == {'leader', 'other'}
        assert (namespace.row(1).owner, namespace.row(2).owner) == ('other', 'other')
        namespace.backend.renew_timeline(namespace.timeline, 0)
        after = namespace.snapshot()
        assert (after.nodes, after.unreadable, after.timeline.generation) == ((), (), 1)

    def test_a_spoilt_leader_is_followed(self, namespace: Namespace, harness: Harness) -> None:
        """With the leader's record spoilt, a Pulse shows no leader or one that goes on, and another node may take over."""
        follower = namespace.join('follower')
        for name, leader in spoilt_nodes(namespace, harness, lead=True):
            pulse = namespace.beat(follower)
            assert pulse.leadership.node == leader
            assert pulse.leader_heartbeat == (0 if name in namespace.nodes() else None)
            assert pulse.leader_is_candidate
            namespace.lead(follower)
            namespace.commit(follower, TokenGroup([1], 'follower'))

    def test_a_spoilt_node_does_not_keep_the_settings(self, namespace: Namespace, harness: Harness) -> None:
        """A spoilt node that is left out does not keep ``open`` from storing other settings."""
        assert list(spoilt_nodes(namespace, harness))
        joined = [node.beat for node in namespace.snapshot().nodes]
        assert namespace.backend.open(OTHERS, True, joined).settings == OTHERS
        assert namespace.snapshot().timeline.generation == 1

    def test_a_spoilt_lock_is_reported(self, namespace: Namespace, harness: Harness) -> None:
        """A spoilt lock is left out, and every other lock is unchanged."""
        namespace.lock('x', 'z')
        for way in harness.lock_spoils:
            task = f'spoilt {way}'
            namespace.lock(task)
            before = namespace.backend.read_locks()
            harness.spoil_lock(NAMESPACE, task, way)
            after = namespace.backend.read_locks()
            report = report_of(task, after.unreadable)
            assert report.kind == 'lock'
            assert report.problem
            assert after.locks == tuple(lock for lock in before.locks if lock.task_id != task)
        assert len(namespace.backend.read_locks().unreadable) == len(harness.lock_spoils)

    def test_a_spoilt_lock_stops_no_other(self, namespace: Namespace, harness: Harness) -> None:
        """Beside spoilt locks, others are put, changed and removed, by creator and by expiry too, and plans are written."""
        namespace.lock('x', 'y', created_by='them')
        namespace.lock('old', expires_in=dt.timedelta(0))
        assert list(spoilt_locks(namespace, harness))
        highest = max(lock.id for lock in namespace.backend.read_locks().locks)
        namespace.lock('new')
        assert namespace.locks()['new'].id > highest
        namespace.backend.edit_locks(LockEdit(remove=LockFilter(expired=True)))
        assert set(namespace.locks()) == {'x', 'y', 'new'}
        namespace.lock('x', created_by='others')
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by='them'))) == 1
        assert set(namespace.locks()) == {'x', 'new'}
        namespace.commit(namespace.leader(), TokenGroup([1], 'leader'))

    def test_a_spoilt_lock_is_put_anew(self, namespace: Namespace, harness: Harness) -> None:
        """A new lock for the task of a spoilt one takes its place, under an id that no other lock has."""
        namespace.lock('x')
        for task in spoilt_locks(namespace, harness):
            with namespace.raises_revision():
                namespace.lock(task, reason='anew')
            reading = namespace.backend.read_locks()
            assert reading.unreadable == ()
            assert namespace.locks()[task].reason == 'anew'
            assert len({lock.id for lock in reading.locks}) == len(reading.locks)

    @pytest.mark.parametrize('by', ['name', 'all'])
    def test_a_spoilt_lock_is_removed(self, namespace: Namespace, harness: Harness, by: str) -> None:
        """A spoilt lock is removed by an edit that names its task, and by one that removes all locks, and by none of items."""
        namespace.lock('x')
        for task in spoilt_locks(namespace, harness):
            remove = LockFilter(task_ids=frozenset({task}) if by == 'name' else None)
            assert namespace.backend.edit_locks(LockEdit(remove=remove, group='items')) == 0
            report_of(task, namespace.backend.read_locks().unreadable)
            with namespace.raises_revision():
                namespace.backend.edit_locks(LockEdit(remove=remove))
            assert namespace.backend.read_locks().unreadable == ()
            assert set(namespace.locks()) == ({'x'} if by == 'name' else set())


def spoilt_nodes(namespace: Namespace, harness: Harness, *, lead: bool = False) -> Iterator[tuple[str, NodeRef]]:
    """Register a node for each way to spoil one, let it lead if wanted, spoil its record, and yield its name and its run."""
    for way in harness.node_spoils:
        name = f'spoilt {way}'
        ref = namespace.leader(name) if lead else namespace.join(name)
        harness.spoil_node(NAMESPACE, name, way)
        yield name, ref


def spoilt_locks(namespace: Namespace, harness: Harness) -> Iterator[str]:
    """Register a lock for each way to spoil one, spoil it, and yield its task id."""
    for way in harness.lock_spoils:
        task = f'spoilt {way}'
        namespace.lock(task)
        harness.spoil_lock(NAMESPACE, task, way)
        yield task


def report_of(key: str, unreadable: Sequence[Unreadable]) -> Unreadable:
    """Return the one report of a record."""
    found = [report for report in unreadable if report.key == key]
    assert found, f'the record {key!r} was spoilt, and is not reported in `unreadable`: it is read as if nothing were wrong'
    assert len(found) == 1, f'the record {key!r} is reported more than once: {found}'
    return found[0]


def others(snapshot: Snapshot, name: str) -> list[Node]:
    """Return the records of all nodes except one."""
    return [node for node in snapshot.nodes if node.name != name]


def check_harmless(found: Node, before: Node, snapshot: Snapshot) -> None:
    """Check that the record is unchanged, except for harmless values."""
    assert found.weight in (before.weight, 1.0)
    assert found.timeout_sec in (before.timeout_sec, snapshot.longest_timeout_sec)
    fields = ('weight', 'timeout_sec', 'created_on', 'last_heartbeat')
    assert found == attrs.evolve(before, **{field: getattr(found, field) for field in fields})
