"""``read_assignment`` and ``snapshot``: what is read is one state, and a difference is as good as the whole."""

from __future__ import annotations

import datetime as dt
from random import Random

import pytest

from jobsync.backend import INITIAL, NOBODY, Assignment, Changes, Member, NodeRef, Pin, Revision, TokenGroup
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import SETTINGS, TOKENS, Scene
from jobsync.testing.conformance.surroundings import something_of_everything

__all__ = ['PositionTests', 'ReadingTests', 'SnapshotTests']


def same(one: Assignment, other: Assignment) -> bool:
    """Whether two assignments say the same of every token, whatever order they list names in."""
    return (
        one.version == other.version
        and dict(one.members) == dict(other.members)
        and dict(one.pins) == dict(other.pins)
        and all(one.row(token) == other.row(token) for token in range(one.total_tokens))
    )


def random_commit(scene: Scene, leader: NodeRef, random: Random) -> Revision:
    """A commit of any rows, pins and members."""
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
    return scene.commit(leader, *groups, pins=pins[: random.randint(0, 3)], members=members, unpinned=unpinned)


class ReadingTests:
    """``read_assignment``."""

    def test_complete_reading(self, scene: Scene) -> None:
        """Without ``since`` the reading is complete: no base, every row in exactly one group, tokens rising."""
        leader = scene.leader()
        for seed in range(5):
            random_commit(scene, leader, Random(seed))
        changes = scene.backend.read_assignment()
        assert changes.base is None
        assert changes.version == scene.backend.snapshot().version
        tokens = [token for group in changes.groups for token in group.tokens]
        assert len(tokens) == len(set(tokens))
        assert all(list(group.tokens) == sorted(group.tokens) for group in changes.groups)
        assert None not in changes.members.values()

    @pytest.mark.parametrize('seed', range(5))
    def test_differences_add_up(self, scene: Scene, seed: int) -> None:
        """Readers that read now and then, each from the version it has, end where a complete reading is."""
        random, leader = Random(seed), scene.leader()
        readers = [Assignment.empty(TOKENS) for _ in range(4)]
        for step in range(12):
            random_commit(scene, leader, random)
            whole = scene.assignment()
            for every, reader in enumerate(readers, 1):
                if step % every == 0:
                    readers[every - 1] = reader.apply(scene.backend.read_assignment(reader.version))
                    assert same(readers[every - 1], whole)

    def test_difference_from_the_present(self, scene: Scene) -> None:
        """Reading from the present version brings nothing that changes it."""
        leader = scene.leader()
        version = random_commit(scene, leader, Random(1))
        scene.join('a')
        scene.lock('x')
        whole = scene.assignment()
        changes = scene.backend.read_assignment(version)
        assert changes.version == version
        assert changes.base in (version, None)
        assert same(whole.apply(changes), whole)

    def test_pins_are_complete_in_a_difference(self, scene: Scene) -> None:
        """Whatever ``since`` is, pins are all there are."""
        leader = scene.leader()
        scene.commit(leader, TokenGroup([1], 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),))
        version = scene.commit(leader, TokenGroup([2], 'a'))
        scene.commit(leader, TokenGroup([3], 'a'), pins=(Pin(TOKENS + 2, 'y', 'a'),))
        changes = scene.backend.read_assignment(version)
        assert {pin.id for pin in changes.pins} == {TOKENS + 1, TOKENS + 2}

    @pytest.mark.parametrize('commits', [0, 1, 2, 3])
    def test_members_in_a_difference(self, scene: Scene, commits: int) -> None:
        """A difference says who came, who is another run now, and who is no more, and of nobody else: what a node reads when
        one joins must not grow with the number of those that are there.
        """
        leader = scene.leader()
        new, other = Member('2', 1.0), Member('3', 1.0, since=9)
        scene.commit(leader, members={name: Member('1', 1.0) for name in ('a', 'b', 'c', 'd')})
        steps: list[dict[str, Member | None]] = [{'a': None, 'e': new}, {'b': other, 'c': None}, {'a': new, 'e': None}]
        readings = [scene.assignment()]
        for step in steps:
            scene.commit(leader, members=step)
            readings.append(scene.assignment())
        assert dict(readings[-1].members) == {'a': new, 'b': other, 'd': Member('1', 1.0)}
        before = readings[-1 - commits]
        changes = scene.backend.read_assignment(before.version)
        assert dict(before.apply(changes).members) == dict(readings[-1].members)
        if changes.base is not None:
            assert set(changes.members) == {name for step in steps[len(steps) - commits :] for name in step}

    @pytest.mark.parametrize('kind', ['ahead', 'other stamp', 'not a version', 'far ahead'])
    def test_unknown_since_is_answered_in_full(self, scene: Scene, kind: str) -> None:
        """What is not a version of this history, number and stamp, cannot be built on."""
        leader = scene.leader()
        for token in range(3):
            version = scene.commit(leader, TokenGroup([token], 'a'))
        scene.join('a')
        revision = scene.revision
        since = {
            'ahead': Revision(version.number + 1, version.stamp),
            'other stamp': Revision(version.number, version.stamp + 1),
            'not a version': revision,
            'far ahead': Revision(2**40, 1),
        }[kind]
        changes = scene.backend.read_assignment(since)
        assert changes.base is None
        assert same(Assignment.empty(TOKENS).apply(changes), scene.assignment())

    def test_an_old_since_is_answered_rightly(self, scene: Scene) -> None:
        """However far back the version is, what comes is complete or builds on exactly it."""
        leader = scene.leader()
        old = [Assignment.empty(TOKENS)]
        for step in range(80):
            scene.commit(leader, TokenGroup([step % TOKENS], f'n{step}'))
            if step < 3:
                old.append(scene.assignment())
        for assignment in old:
            changes = scene.backend.read_assignment(assignment.version)
            assert same(assignment.apply(changes), scene.assignment())

    def test_reading_from_initial(self, scene: Scene) -> None:
        """A node that has nothing reads everything, by ``since`` INITIAL as by none."""
        random_commit(scene, scene.leader(), Random(2))
        changes = scene.backend.read_assignment(INITIAL)
        assert changes.base in (None, INITIAL)
        assert same(Assignment.empty(TOKENS).apply(changes), scene.assignment())

    def test_every_handle_reads_the_same(self, scene: Scene, harness: Harness) -> None:
        """A commit is there for every handle as soon as it is acknowledged."""
        other = Scene(harness.connect())
        leader = scene.leader()
        for token in range(5):
            version = scene.commit(leader, TokenGroup([token], 'a'))
            changes: Changes = other.backend.read_assignment()
            assert changes.version == version
            assert other.row(token).owner == 'a'


class PositionTests:
    """How far the store's own history has got, where a store has such a number."""

    def test_position_is_told_by_all_or_none(self, scene: Scene, harness: Harness) -> None:
        """Snapshots and Pulses of every handle bring an integer, or none of them does."""
        ref, other = scene.join('a'), harness.connect()
        other.open(SETTINGS, create=True)
        told = [
            reading.position
            for backend in (scene.backend, other)
            for reading in (backend.snapshot(), backend.heartbeat(ref, INITIAL, frozenset()), backend.snapshot())
        ]
        assert {type(position) for position in told} in ({int}, {type(None)}), told

    def test_position_never_falls(self, scene: Scene, harness: Harness) -> None:
        """Whichever handle reads it and however, it is never lower than one that was read before, renewals included."""
        other = Scene(harness.connect())
        leader, positions = scene.leader(), []
        for step in range(12):
            writer, reader = (scene, other) if step % 2 else (other, scene)
            writer.commit(leader, TokenGroup([step], 'a'), moved=1)
            positions.append(reader.backend.snapshot().position)
            writer.lock(f'task {step}')
            positions.append(writer.beat(leader).position)
            writer.backend.append_audits('a', [f'item {step}'], dt.date(2026, 3, 2))
            positions.append(reader.beat(leader).position)
        scene.backend.renew_timeline(scene.timeline, 0)
        positions += [other.backend.snapshot().position, scene.backend.snapshot().position]
        told = [position for position in positions if position is not None]
        assert told == sorted(told)
        assert len(told) in (0, len(positions))

    @needs(Ability.RESTART)
    def test_position_outlives_a_restart(self, scene: Scene, harness: Harness) -> None:
        """After a restart of a durable store of unchanged identity it is not lower than what was read before."""
        something_of_everything(scene)
        before = scene.backend.snapshot()
        if not scene.backend.info.durable or before.position is None:
            pytest.skip('the backend does not declare durable, or tells no position')
        harness.restart()
        backend = harness.connect()
        backend.open(SETTINGS, create=True)
        after = backend.snapshot()
        assert after.position is not None
        assert after.store != before.store or after.position >= before.position


class SnapshotTests:
    """``snapshot``."""

    def test_snapshot_lists_nodes_by_created_on(self, scene: Scene) -> None:
        """Nodes, those that LEFT included, come in order of ``created_on``, which heartbeats do not change."""
        refs = [scene.join(name) for name in ('c', 'a', 'd', 'b')]
        scene.backend.deregister(refs[1])
        for ref in (refs[3], refs[0]):
            scene.beat(ref)
        again = scene.join('c', replacing=scene.node('c').beat)
        assert list(scene.nodes()) == ['a', 'd', 'b', 'c']
        assert scene.node('c').ref == again

    def test_snapshot_tells_the_time(self, scene: Scene) -> None:
        """``now`` has a timezone and does not go back."""
        times = [scene.backend.snapshot().now for _ in range(3)]
        assert times == sorted(times)
        assert all(time.tzinfo is not None for time in times)

    def test_locks_revision_is_that_of_the_last_edit(self, scene: Scene) -> None:
        """It is the number of the last revision that changed a lock, and no other change moves it."""
        assert scene.backend.snapshot().locks_revision == 0
        scene.join('a')
        for task in ('x', 'y'):
            scene.lock(task)
            snapshot = scene.backend.snapshot()
            assert snapshot.locks_revision == snapshot.revision.number
        scene.commit(scene.leader())
        assert scene.backend.snapshot().locks_revision == snapshot.locks_revision

    def test_readings_change_nothing(self, scene: Scene) -> None:
        """Nothing that only reads touches the revision or anything else."""
        scene.commit(scene.leader(), TokenGroup([1], 'a'))
        with scene.unchanged():
            scene.backend.snapshot()
            scene.backend.read_assignment()
            scene.backend.read_locks()
            scene.backend.wait(0, 0)
