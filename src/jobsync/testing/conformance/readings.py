"""``read_assignment`` and ``snapshot``: each reading is one state, and a difference is as good as the whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from random import Random

import pytest

from jobsync.backend import (
    INITIAL,
    NOBODY,
    Assignment,
    Changes,
    HistoryKind,
    LockEdit,
    LockFilter,
    LockRequest,
    Member,
    NodeRef,
    Pin,
    Revision,
    TokenGroup,
)
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import DAY, TOKENS, Namespace, content

__all__ = ['PositionTests', 'ReadingTests', 'SnapshotTests']


def random_commit(namespace: Namespace, leader: NodeRef, random: Random) -> Revision:
    """Commit random rows, pins and members."""
    names = ['a', 'b', 'c', None]
    tokens = random.sample(range(TOKENS), random.randint(0, TOKENS))
    groups = []
    while tokens:
        size = random.randint(1, len(tokens))
        part, tokens = sorted(tokens[:size]), tokens[size:]
        groups.append(TokenGroup(part, random.choice(names), random.choice([*names, NOBODY]), random.choice(names)))
    ids = random.sample(range(TOKENS + 1, TOKENS + 6), 3)
    pins = tuple(Pin(id_, f'task {id_}', random.choice(names), random.choice(names)) for id_ in ids)
    joined = {name: Member(f'run-{random.random()}', 15.0) for name in names if name and random.random() < 0.5}
    members = {**dict.fromkeys(random.choices(['a', 'b', 'c'])), **joined}
    unpinned = frozenset(random.sample(range(TOKENS + 6, TOKENS + 9), 1))
    return namespace.commit(leader, *groups, pins=pins[: random.randint(0, 3)], members=members, unpinned=unpinned)


class ReadingTests:
    """``read_assignment``. A node that reads a wrong row may claim a token that another node owns."""

    def test_complete_reading(self, namespace: Namespace) -> None:
        """Without ``since`` a reading is complete: no base, every row in exactly one group, tokens rising."""
        leader = namespace.leader()
        for seed in range(5):
            random_commit(namespace, leader, Random(seed))
        changes = namespace.backend.read_assignment()
        assert changes.base is None
        assert changes.version == namespace.snapshot().version
        tokens = [token for group in changes.groups for token in group.tokens]
        assert len(tokens) == len(set(tokens))
        assert [list(group.tokens) for group in changes.groups] == [sorted(group.tokens) for group in changes.groups]
        assert None not in changes.members.values()

    def test_a_reading_of_some_tokens(self, namespace: Namespace) -> None:
        """A reading of some tokens has their rows as a complete reading has them, and the version, members and pins.

        So has a difference of some tokens. A complete reading after it is complete.
        """
        leader, pins = namespace.leader(), (Pin(TOKENS + 1, 'x', 'a'), Pin(TOKENS + 2, 'y', None))
        for seed in range(3):
            random_commit(namespace, leader, Random(seed))
        before = namespace.assignment()
        groups = TokenGroup([3], 'a', 'b', 'c'), TokenGroup([4], None)
        version = namespace.commit(leader, *groups, pins=pins, members={'new': Member('host', 2.0)})
        after = before.apply(namespace.backend.read_assignment(before.version))
        namespace.backend.read_assignment(None, [3])
        whole = namespace.backend.read_assignment()
        is_whole = content(Assignment.empty(TOKENS).apply(whole)) == content(after)
        assert is_whole, (
            'after a reading of some tokens, one of all lacks rows: what a handle keeps of a reading is of its tokens'
        )
        later = before.apply(namespace.backend.read_assignment(before.version, [3]))
        assert later.row(3) == after.row(3)
        assert (later.version, dict(later.pins), dict(later.members)) == (version, dict(after.pins), dict(after.members))
        for wanted in ([], [3], [4, 7], frozenset({4, 7}), range(TOKENS), [TOKENS + 1]):
            some = namespace.backend.read_assignment(None, wanted)
            assert (some.version, some.base, dict(some.members), some.pins) == (version, None, dict(whole.members), whole.pins)
            rows, all_rows = (Assignment.empty(TOKENS).apply(reading) for reading in (some, whole))
            assert [rows.row(at) for at in wanted if at < TOKENS] == [all_rows.row(at) for at in wanted if at < TOKENS]

    @pytest.mark.parametrize('seed', range(5))
    def test_differences_add_up(self, namespace: Namespace, seed: int) -> None:
        """Readers that read at different times, each from the version it has, end with what a complete reading returns.

        They begin at INITIAL, and some read again from the present version. The tokens of each group rise.
        """
        random, leader = Random(seed), namespace.leader()
        readers = [Assignment.empty(TOKENS) for _ in range(4)]
        for step in range(12):
            random_commit(namespace, leader, random)
            namespace.lock(f'task {step}')  # the revision goes on, and the version does not
            whole = namespace.assignment()
            for every, reader in enumerate(readers, 1):
                if step % every == 0:
                    changes = namespace.backend.read_assignment(reader.version)
                    assert all(list(group.tokens) == sorted({*group.tokens}) for group in changes.groups)
                    readers[every - 1] = reader.apply(changes)
                    assert content(readers[every - 1]) == content(whole)
            assert content(whole.apply(namespace.backend.read_assignment(whole.version))) == content(whole)

    def test_members_in_a_difference(self, namespace: Namespace) -> None:
        """A difference has only the members that were added, changed or removed: what every node reads when one joins must not
        grow with the number of members.
        """
        leader = namespace.leader()
        new, other = Member('2', 1.0), Member('3', 1.0, since=9)
        namespace.commit(leader, members={name: Member('1', 1.0) for name in ('a', 'b', 'c', 'd')})
        steps: list[dict[str, Member | None]] = [{'a': None, 'e': new}, {'b': other, 'c': None}, {'a': new, 'e': None}]
        readings = [namespace.assignment()]
        for step in steps:
            namespace.commit(leader, members=step)
            readings.append(namespace.assignment())
        assert dict(readings[-1].members) == {'a': new, 'b': other, 'd': Member('1', 1.0)}
        for number, before in enumerate(readings):
            changes = namespace.backend.read_assignment(before.version)
            assert dict(before.apply(changes).members) == dict(readings[-1].members), number
            if changes.base is not None:
                assert set(changes.members) == {name for step in steps[number:] for name in step}, number

    def test_unknown_since_is_answered_in_full(self, namespace: Namespace) -> None:
        """A ``since`` that is no version of this history, in number and stamp, is answered with a complete reading."""
        leader = namespace.leader()
        for token in range(3):
            version = namespace.commit(leader, TokenGroup([token], 'a'))
        namespace.join('a')
        for kind, since in {
            'ahead': Revision(version.number + 1, version.stamp),
            'other stamp': Revision(version.number, version.stamp + 1),
            'not a version': namespace.revision,
            'far ahead': Revision(2**40, 1),
        }.items():
            changes = namespace.backend.read_assignment(since)
            assert changes.base is None, kind
            assert content(Assignment.empty(TOKENS).apply(changes)) == content(namespace.assignment()), kind

    def test_an_old_since_is_answered_rightly(self, namespace: Namespace) -> None:
        """A reading from a version far back is complete, or builds on exactly that version."""
        leader = namespace.leader()
        old = [Assignment.empty(TOKENS)]
        for step in range(130):
            namespace.commit(leader, TokenGroup([step % TOKENS], f'n{step}'), moved=1)
            if step < 3:
                old.append(namespace.assignment())
        for assignment in old:
            changes = namespace.backend.read_assignment(assignment.version)
            assert content(assignment.apply(changes)) == content(namespace.assignment())
        assert len(namespace.rebalances()) == 130, 'a rebalance stays in the history until it is purged'

    def test_nothing_of_many_commits_is_lost(self, namespace: Namespace, harness: Harness) -> None:
        """Each reading has what all commits come to, for a handle that reads each of them, and for one that reads now and then:
        a store may write the whole anew once there are many.
        """
        often, seldom = (Namespace(harness.connect()).backend for _ in range(2))
        leader, first, versions = namespace.leader(), TOKENS + 10, list[Revision]()

        def commit(step: int) -> None:
            members = {f'n{step}': Member(f'run {step}', 15.0), f'n{step - 2}': None}
            pins, unpinned = (Pin(first + step, f'task {step}', f'n{step}'),), frozenset({first + step - 2})
            group = TokenGroup([step % TOKENS], f'n{step}')
            versions.append(namespace.commit(leader, group, members=members, pins=pins, unpinned=unpinned))

        def check(step: int, changes: Changes) -> None:
            expected = range(max(0, step - 1), step + 1)
            assert [pin.id for pin in changes.pins] == [first + number for number in expected]
            if changes.base is None:
                assert set(changes.members) == {f'n{number}' for number in expected}
                assert Assignment.empty(TOKENS).apply(changes).row(step % TOKENS).owner == f'n{step}'

        for step in range(70):
            commit(step)
            check(step, often.read_assignment())
            if step in (0, 69):
                check(step, seldom.read_assignment())
        for step in (70, 71):
            commit(step)
        check(71, seldom.read_assignment(versions[70]))

    def test_every_handle_reads_the_same(self, namespace: Namespace, harness: Harness) -> None:
        """Every handle reads a commit as soon as it is acknowledged."""
        other = Namespace(harness.connect())
        leader = namespace.leader()
        for token in range(5):
            version = namespace.commit(leader, TokenGroup([token], 'a'))
            changes: Changes = other.backend.read_assignment()
            assert changes.version == version
            assert other.row(token).owner == 'a'


class PositionTests:
    """The position of the store in its own history, where a store has one. A lower one shows a store that went back (R8)."""

    def test_position_is_read_by_all_or_none(self, namespace: Namespace, harness: Harness) -> None:
        """Snapshots and Pulses of every handle all have an integer as position, or all have None."""
        ref, other = namespace.join('a'), Namespace(harness.connect()).backend
        positions = [
            reading.position
            for backend in (namespace.backend, other)
            for reading in (backend.snapshot(), backend.heartbeat(ref, INITIAL, frozenset()), backend.snapshot())
        ]
        assert {type(position) for position in positions} in ({int}, {type(None)}), positions

    def test_position_never_falls(self, namespace: Namespace, harness: Harness) -> None:
        """The position is never lower than in an earlier reading by any handle, also after renewals and what deletes records."""
        other = Namespace(harness.connect())
        leader, positions = namespace.leader(), []
        for step in range(12):
            writer, reader = (namespace, other) if step % 2 else (other, namespace)
            writer.commit(leader, TokenGroup([step], 'a'), moved=1)
            positions.append(reader.backend.snapshot().position)
            writer.lock(f'task {step}')
            positions.append(writer.beat(leader).position)
            writer.backend.append_audits('a', [f'item {step}'], DAY)
            positions.append(reader.beat(leader).position)
        ghost, evicted = namespace.join('ghost'), namespace.join('evicted')
        namespace.attempt(ghost, 'x')
        later = namespace.snapshot().now + dt.timedelta(hours=1)
        changes: list[Callable[[], object]] = [
            lambda: namespace.evict(leader, evicted),
            lambda: other.backend.deregister(ghost),
            lambda: namespace.backend.remove_node(ghost),
            lambda: other.backend.forget_attempts(['x'], DAY),
            lambda: namespace.backend.edit_locks(LockEdit(remove=LockFilter())),
            lambda: other.audit('a', 'x'),
            lambda: namespace.purge(HistoryKind.CLAIM, later),
            lambda: other.purge(HistoryKind.AUDIT, later),
            lambda: namespace.purge(HistoryKind.REBALANCE, later),
        ]
        for change in [lambda: None, *changes]:
            change()
            positions += [other.backend.snapshot().position, namespace.snapshot().position]
        namespace.backend.renew_timeline(namespace.timeline, 0)
        positions += [other.backend.snapshot().position, namespace.snapshot().position]
        known = [position for position in positions if position is not None]
        assert known == sorted(known)
        assert len(known) in (0, len(positions))
        assert not known or known[-1] > known[0], 'a position that does not rise shows no restore: None is right'

    @needs(Ability.CLOCK)
    def test_position_is_no_time(self, namespace: Namespace, harness: Harness) -> None:
        """The position does not fall when the store's clock is set back, or a step of the clock would look like a restore."""
        before = namespace.snapshot().position
        harness.move_clock(dt.timedelta(hours=-1))
        namespace.join('a')
        after = namespace.snapshot().position
        assert before is None or (after is not None and after >= before)

    @needs(Ability.RESTART)
    def test_position_outlives_a_restart(self, namespace: Namespace, harness: Harness) -> None:
        """The position is not lower after a restart of a durable store of unchanged identity."""
        namespace.populate()
        before = namespace.snapshot()
        if not namespace.backend.info.durable or before.position is None:
            pytest.skip('the backend does not declare durable, or tells no position')
        harness.restart()
        backend = Namespace(harness.connect()).backend
        after = backend.snapshot()
        assert after.position is not None
        assert after.store != before.store or after.position >= before.position


class SnapshotTests:
    """``snapshot``. A leader plans from it, so it must be one consistent state."""

    def test_snapshot_lists_nodes_by_created_on(self, namespace: Namespace) -> None:
        """Nodes in a snapshot, LEFT ones included, are in the order of ``created_on``, which heartbeats do not change."""
        refs = [namespace.join(name) for name in ('c', 'a', 'd', 'b')]
        namespace.backend.deregister(refs[1])
        for ref in (refs[3], refs[0]):
            namespace.beat(ref)
        again = namespace.join('c', replacing=namespace.node('c').beat)
        assert list(namespace.nodes()) == ['a', 'd', 'b', 'c']
        assert namespace.node('c').ref == again

    def test_snapshot_has_the_time_of_the_store(self, namespace: Namespace) -> None:
        """``now`` has a timezone and does not go back."""
        times = [namespace.snapshot().now for _ in range(3)]
        assert times == sorted(times)
        assert None not in [time.tzinfo for time in times]

    def test_locks_revision_is_that_of_the_last_edit(self, namespace: Namespace) -> None:
        """``locks_revision`` is the number of the last revision that changed a lock or an item; no other change moves it."""
        assert namespace.snapshot().locks_revision == 0
        namespace.join('a')
        edits = [
            LockEdit(put=(LockRequest('x', ('a',), 'me'), LockRequest('y', ('a',), 'me'))),
            LockEdit(put=(LockRequest('x', ('b',), 'me'),)),
            LockEdit(remove=LockFilter(task_ids=frozenset({'y'}))),
            LockEdit(put=(LockRequest('x', ('a',), 'me'),), group='g'),
            LockEdit(remove=LockFilter(), group='g'),
            LockEdit(remove=LockFilter()),
        ]
        for edit in edits:
            namespace.backend.edit_locks(edit)
            snapshot = namespace.snapshot()
            assert snapshot.locks_revision == snapshot.revision.number
        namespace.commit(namespace.leader())
        assert namespace.snapshot().locks_revision == snapshot.locks_revision

    def test_readings_change_nothing(self, namespace: Namespace) -> None:
        """Reading changes nothing, the revision included."""
        namespace.commit(namespace.leader(), TokenGroup([1], 'a'))
        with namespace.unchanged():
            namespace.snapshot()
            namespace.backend.read_assignment()
            namespace.backend.read_locks()
            namespace.backend.wait(0, 0)
