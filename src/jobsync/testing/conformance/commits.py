"""``commit``: what a plan writes."""

from __future__ import annotations

import attrs
import pytest

from jobsync.backend import NOBODY, Eviction, Leadership, Member, NodeState, Pin, Plan, Rebalance, Revision, TokenGroup, TokenRow
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.scene import TOKENS, Scene

__all__ = ['CommitEffectTests']

X, Y = TOKENS + 1, TOKENS + 2
"""Ids of pins."""


class CommitEffectTests:
    """What a commit writes."""

    def test_rows_are_written(self, scene: Scene) -> None:
        """Each token of each group gets the group's owner, target and home; other tokens have no row still."""
        leader = scene.leader()
        version = scene.commit(
            leader,
            TokenGroup([0, 2, 4], 'a'),
            TokenGroup([1], 'a', target='b', home='c'),
            TokenGroup([3, TOKENS - 1], None, home='b'),
            TokenGroup([5], 'b', target=NOBODY),
        ).number
        expected = {
            **dict.fromkeys([0, 2, 4], TokenRow('a', None, None, version)),
            1: TokenRow('a', 'b', 'c', version),
            **dict.fromkeys([3, TOKENS - 1], TokenRow(None, None, 'b', version)),
            5: TokenRow('b', NOBODY, None, version),
        }
        for token, row in enumerate(scene.state().rows):
            assert row.absent == (token not in expected)
            assert row == expected.get(token, row)

    def test_rows_not_in_the_plan_stay(self, scene: Scene) -> None:
        """A later commit changes the rows it names and no other."""
        leader = scene.leader()
        scene.commit(leader, TokenGroup(range(TOKENS), 'a', target='b', home='c'))
        before = scene.state().rows
        version = scene.commit(leader, TokenGroup([7], 'b')).number
        assert scene.state().rows == (*before[:7], TokenRow('b', None, None, version), *before[8:])

    def test_versions_are_written_as_given(self, scene: Scene) -> None:
        """A store works no version out: rows and pins have the plan's afterwards, whether their owner changes or not."""
        leader = scene.leader()
        plans = [
            ([TokenGroup([0, 1], 'a', version=2**40), TokenGroup([2], None, home='b')], Pin(X, 'x', 'a', version=77)),
            ([TokenGroup([0], 'a', 'b', version=3), TokenGroup([1], 'b', version=2**53 - 1)], Pin(X, 'x', 'a', 'b', 2**53 - 1)),
            ([TokenGroup([0, 3], 'b', version=5), TokenGroup([2], 'b', version=4)], Pin(X, 'x', 'b', version=0)),
        ]
        expected: dict[int, int] = {}
        reader = scene.assignment()
        for groups, pin in plans:
            scene.backend.commit(leader, Plan('test', groups=tuple(groups), pins=(pin,)), scene.guard())
            expected.update({token: group.version for group in groups for token in group.tokens})
            reader = reader.apply(scene.backend.read_assignment(reader.version))
            for reading in (scene.assignment(), reader):
                assert {token: reading.row(token).version for token in expected} == expected
                assert dict(reading.pins) == {X: pin}

    @pytest.mark.parametrize('ahead', [-1000, -1, 0, 1, 2, 1000])
    def test_revision_is_at_least_the_plans_number(self, scene: Scene, ahead: int) -> None:
        """The commit's revision is above the present one, however low the plan's number, and not below that."""
        leader = scene.leader()
        for _ in range(3):
            scene.join(f'n{scene.revision.number}')
        before = scene.revision.number
        version = scene.commit(leader, TokenGroup([1], 'a'), number=before + ahead)
        assert version.number >= max(before + 1, before + ahead)
        assert version == scene.revision == scene.backend.snapshot().version
        assert scene.assignment().version == version
        scene.join('next')
        assert scene.revision.number > version.number

    def test_commits_of_two_handles_build_on_each_other(self, scene: Scene, harness: Harness) -> None:
        """A handle that has not read since builds on what another committed: no row of it is lost, each new owner is newer."""
        other, leader = Scene(harness.connect()), scene.leader()
        scene.commit(leader, TokenGroup(range(TOKENS), 'a'), pins=(Pin(X, 'x', 'a'),))
        for home in ('n1', 'n2'):
            theirs = other.backend.commit(leader, other.plan(TokenGroup([1, 2], 'b'), pins=(Pin(X, 'x', 'b'),)), other.guard())
            other.commit(leader, TokenGroup(range(3, TOKENS), 'c', home=home))
            ours = scene.commit(leader, TokenGroup([1], 'a'), pins=(Pin(X, 'x', 'a'),))
            for reader in (scene, other):
                assert reader.row(1) == TokenRow('a', None, None, ours.number)
                assert (reader.row(2).owner, reader.row(3).owner, reader.row(3).home) == ('b', 'c', home)
                assert reader.row(2).version <= theirs.number < ours.number == reader.pins()[X].version

    def test_pins_are_written_and_removed(self, scene: Scene) -> None:
        """Pins are put by id with every field, ``home`` included; those in ``unpinned`` go; others stay."""
        leader = scene.leader()
        pins = (Pin(X, 'x', 'a', pattern='a%'), Pin(Y, 'y', 'a'), Pin(Y + 1, 'z', 'b', NOBODY, home='h'), Pin(Y + 2, 'w', None))
        first = scene.commit(leader, pins=pins).number
        assert scene.pins() == {pin.id: attrs.evolve(pin, version=first) for pin in pins}
        changed = (Pin(X, 'x', 'a', 'b', pattern='b%', home='a'), Pin(Y + 1, 'z', None))
        second = scene.commit(leader, pins=changed, unpinned=frozenset({Y, Y + 9})).number
        assert scene.pins() == {
            X: attrs.evolve(changed[0], version=first),
            Y + 1: attrs.evolve(changed[1], version=second),
            Y + 2: attrs.evolve(pins[3], version=first),
        }

    def test_a_pin_made_again_is_new(self, scene: Scene) -> None:
        """A pin that was removed and comes back under its id and owner has what is given, the later version first of all."""
        leader = scene.leader()
        scene.commit(leader, pins=(Pin(X, 'x', 'a'),))
        scene.commit(leader, unpinned=frozenset({X}))
        version = scene.commit(leader, pins=(Pin(X, 'x', 'a'),)).number
        assert scene.pins()[X].version == version

    def test_members_are_put_and_removed(self, scene: Scene) -> None:
        """The members of the plan are put, those that are None in it are none afterwards, and the others stay."""
        leader = scene.leader()
        first = {'a': Member('1', 15.0), 'b': Member('2', 2.5, since=7), 'c': Member('3', 0.1, since=2**53 - 1)}
        scene.commit(leader, members=first)
        assert dict(scene.backend.read_assignment().members) == first
        scene.commit(leader)
        assert dict(scene.backend.read_assignment().members) == first
        scene.commit(leader, members={'a': None, 'b': Member('3', 15.0), 'd': None})
        assert dict(scene.backend.read_assignment().members) == {'b': Member('3', 15.0), 'c': first['c']}
        scene.commit(leader, members={'b': None, 'c': None})
        assert dict(scene.backend.read_assignment().members) == {}

    def test_revision_is_returned_and_is_the_version(self, scene: Scene) -> None:
        """The commit's revision is above the last one, has a new stamp, is the version everywhere; an empty plan's too."""
        leader = scene.leader()
        for groups in ((TokenGroup([1], 'a'),), ()):
            with scene.raises_revision():
                version = scene.commit(leader, *groups)
            snapshot = scene.backend.snapshot()
            assert version == snapshot.revision == snapshot.version == scene.backend.read_assignment().version
            pulse = scene.beat(leader)
            assert version == pulse.revision == pulse.version

    def test_leader_counts_the_commit(self, scene: Scene) -> None:
        """The leader's heartbeat rises by one and its ``seen`` and ``holding`` stay; no other node's record changes."""
        leader, other = scene.leader(), scene.join('other')
        scene.beat(leader, Revision(4, 5), {1})
        scene.beat(other)
        before = scene.nodes()
        scene.commit(leader, TokenGroup([1], 'a'))
        after = scene.nodes()
        assert after['other'] == before['other']
        last = after['leader'].last_heartbeat
        assert after['leader'] == attrs.evolve(before['leader'], heartbeat=2, last_heartbeat=last)

    def test_evicted_and_departed_records_go(self, scene: Scene) -> None:
        """Exactly the nodes named are removed, in the same step; one that left and is not named stays."""
        leader, dead, left, also_left = scene.leader(), scene.join('dead'), scene.join('left'), scene.join('also left')
        scene.join('alive')
        scene.beat(dead)
        scene.backend.deregister(left)
        scene.backend.deregister(also_left)
        scene.commit(leader, TokenGroup([1], 'alive'), evictions=(Eviction(dead, 1),), departed=(left,))
        assert list(scene.nodes()) == ['leader', 'also left', 'alive']
        assert scene.node('also left').state is NodeState.LEFT

    def test_leadership_locks_and_trails_stay(self, scene: Scene) -> None:
        """A commit touches neither the leadership nor task locks."""
        leader = scene.leader()
        scene.lock('x')
        before = scene.state()
        scene.commit(leader, TokenGroup([1], 'a'))
        after = scene.state()
        assert after.snapshot.leadership == before.snapshot.leadership == Leadership(1, leader)
        assert after.snapshot.locks_revision == before.snapshot.locks_revision
        assert (after.locks, after.claims, after.audits) == (before.locks, before.claims, before.audits)

    def test_rebalance_is_recorded_if_tokens_moved(self, scene: Scene) -> None:
        """A commit with ``moved`` appends one record with the plan's figures; one without appends none."""
        leader = scene.leader()
        scene.commit(leader, TokenGroup([1], 'a'), moved=0)
        assert scene.rebalances() == []
        scene.commit(leader, reason='joined: b', moved=3, nodes_before=1, nodes_after=2, duration_ms=17)
        (record,) = scene.rebalances()
        assert record == Rebalance(record.triggered_at, 'joined: b', 'leader', 1, 2, 3, 17)
        assert record.triggered_at.tzinfo is not None
