"""``commit``: the records that a plan writes."""

from __future__ import annotations

import attrs
import pytest

from jobsync.backend import (
    NOBODY,
    Eviction,
    Leadership,
    Member,
    NodeRef,
    NodeState,
    Pin,
    Plan,
    Rebalance,
    Revision,
    TokenGroup,
    TokenRow,
)
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import TOKENS, Namespace

__all__ = ['CommitEffectTests']

X, Y = TOKENS + 1, TOKENS + 2
"""Ids of pins."""
FAR = 2**40 + X
"""The id of a pin, or the number of a plan, in a namespace that has given very many."""


class CommitEffectTests:
    """A commit writes exactly its plan, because nodes claim tokens by what they read."""

    def test_rows_are_written(self, namespace: Namespace) -> None:
        """Each token of a group gets the group's owner, target and home; other tokens still have no row."""
        leader = namespace.leader()
        version = namespace.commit(
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
        for token, row in enumerate(namespace.state().rows):
            assert row.absent == (token not in expected)
            assert row == expected.get(token, row)

    def test_rows_not_in_the_plan_stay(self, namespace: Namespace) -> None:
        """A commit replaces the whole rows of the tokens that its plan names, and leaves those of others."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a', target='b', home='c'))
        before = namespace.state().rows
        version = namespace.commit(leader, TokenGroup([7], 'b'), TokenGroup([8], None, home='a')).number
        named = (TokenRow('b', None, None, version), TokenRow(None, None, 'a', version))
        assert namespace.state().rows == (*before[:7], *named, *before[9:])

    def test_versions_are_written_as_given(self, namespace: Namespace) -> None:
        """Rows and pins have the versions of the plan, whether their owner changes or not. A store computes no version."""
        leader = namespace.leader()
        plans = [
            ([TokenGroup([0, 1], 'a', version=2**40), TokenGroup([2], None, home='b')], Pin(X, 'x', 'a', version=77)),
            ([TokenGroup([0], 'a', 'b', version=3), TokenGroup([1], 'b', version=2**53 - 1)], Pin(X, 'x', 'a', 'b', 2**53 - 1)),
            ([TokenGroup([0, 3], 'b', version=5), TokenGroup([], 'c'), TokenGroup([2], 'b', version=4)], Pin(X, 'x', 'b')),
        ]
        expected: dict[int, int] = {}
        reader = namespace.assignment()
        for groups, pin in plans:
            namespace.backend.commit(leader, Plan('test', groups=tuple(groups), pins=(pin,)), namespace.guard())
            expected.update({token: group.version for group in groups for token in group.tokens})
            reader = reader.apply(namespace.backend.read_assignment(reader.version))
            for reading in (namespace.assignment(), reader):
                assert {token: reading.row(token).version for token in expected} == expected
                assert dict(reading.pins) == {X: pin}

    def test_revision_is_at_least_the_plans_number(self, namespace: Namespace) -> None:
        """The revision of a commit is above the present one, and not below the plan's number."""
        leader = namespace.leader()
        for ahead in (-1000, -1, 0, 1, 2, 1000):
            for _ in range(3):
                namespace.join(f'n{namespace.revision.number}')
            before = namespace.revision.number
            version = namespace.commit(leader, TokenGroup([1], 'a'), number=before + ahead)
            assert version.number >= max(before + 1, before + ahead), ahead
            assert version == namespace.revision == namespace.snapshot().version
            assert namespace.assignment().version == version
            namespace.join(f'next to {ahead}')
            assert namespace.revision.number > version.number, ahead

    def test_commits_of_two_handles_build_on_each_other(self, namespace: Namespace, harness: Harness) -> None:
        """A handle that has not read lately keeps every row that another handle committed, and gives newer versions."""
        other, leader = Namespace(harness.connect()), namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), pins=(Pin(X, 'x', 'a'),))
        for home in ('n1', 'n2'):
            theirs = other.backend.commit(leader, other.plan(TokenGroup([1, 2], 'b'), pins=(Pin(X, 'x', 'b'),)), other.guard())
            other.commit(leader, TokenGroup(range(3, TOKENS), 'c', home=home))
            ours = namespace.commit(leader, TokenGroup([1], 'a'), pins=(Pin(X, 'x', 'a'),))
            for reader in (namespace, other):
                assert reader.row(1) == TokenRow('a', None, None, ours.number)
                assert (reader.row(2).owner, reader.row(3).owner, reader.row(3).home) == ('b', 'c', home)
                assert reader.row(2).version <= theirs.number < ours.number == reader.pins()[X].version

    def test_pins_are_written_and_removed(self, namespace: Namespace) -> None:
        """Pins are put by id with every field; pins in ``unpinned`` are removed; other pins stay."""
        leader = namespace.leader()
        pins = (Pin(X, 'x', 'a', pattern='a%'), Pin(Y, 'y', 'a'), Pin(Y + 1, 'z', 'b', NOBODY, home='h'), Pin(FAR, 'w', None))
        first = namespace.commit(leader, pins=pins).number
        assert namespace.pins() == {pin.id: attrs.evolve(pin, version=first) for pin in pins}
        changed = (Pin(X, 'x', 'a', 'b', home='a'), Pin(Y + 1, 'z', None, pattern='b%'))
        second = namespace.commit(leader, pins=changed, unpinned=frozenset({Y, Y + 9})).number
        assert namespace.pins() == {
            X: attrs.evolve(changed[0], version=first),
            Y + 1: attrs.evolve(changed[1], version=second),
            FAR: attrs.evolve(pins[3], version=first),
        }

    def test_a_pin_made_again_is_new(self, namespace: Namespace) -> None:
        """A pin that is removed and put again under the same id and owner has the version given last."""
        leader = namespace.leader()
        namespace.commit(leader, pins=(Pin(X, 'x', 'a'),))
        namespace.commit(leader, unpinned=frozenset({X}))
        version = namespace.commit(leader, pins=(Pin(X, 'x', 'a'),)).number
        assert namespace.pins()[X].version == version

    def test_members_are_put_and_removed(self, namespace: Namespace) -> None:
        """Members of a plan are put, members with None are removed, and other members stay."""
        leader = namespace.leader()
        stays = Member('3', 500_000 / 3, since=2**53 - 1)
        first = {'a': Member('1', 15.0), 'b': Member('2', 2.5, since=7), 'c': Member('2', 2.5, since=7), 'd': stays}
        namespace.commit(leader, members=first)
        assert dict(namespace.backend.read_assignment().members) == first
        namespace.commit(leader)
        assert dict(namespace.backend.read_assignment().members) == first
        changed = {'b': Member('3', 15.0), 'c': Member('2', 15.0, since=8)}
        namespace.commit(leader, members={'a': None, 'e': None, **changed})
        assert dict(namespace.backend.read_assignment().members) == {**changed, 'd': stays}
        namespace.commit(leader, members=dict.fromkeys('bcd'))
        assert dict(namespace.backend.read_assignment().members) == {}

    def test_revision_is_returned_and_is_the_version(self, namespace: Namespace) -> None:
        """The revision of a commit, even of an empty plan, is new, and is the version in every reading."""
        leader = namespace.leader()
        for groups in ((TokenGroup([1], 'a'),), ()):
            with namespace.raises_revision():
                version = namespace.commit(leader, *groups)
            snapshot = namespace.snapshot()
            assert version == snapshot.revision == snapshot.version == namespace.backend.read_assignment().version
            pulse = namespace.beat(leader)
            assert version == pulse.revision == pulse.version

    def test_leader_counts_the_commit(self, namespace: Namespace) -> None:
        """A commit raises the leader's heartbeat by one and keeps its other fields; other nodes stay."""
        leader, other = namespace.leader(), namespace.join('other')
        namespace.beat(leader, Revision(4, 5), {1})
        namespace.backend.set_weight(leader, 2.5, stalled=True)
        namespace.beat(other)
        before = namespace.nodes()
        namespace.commit(leader, TokenGroup([1], 'a'))
        after = namespace.nodes()
        assert after['other'] == before['other']
        last = after['leader'].last_heartbeat
        assert after['leader'] == attrs.evolve(before['leader'], heartbeat=2, last_heartbeat=last)

    def test_evicted_and_departed_records_go(self, namespace: Namespace) -> None:
        """A commit removes exactly the nodes that it names, and of those the record alone: a node that left and is not named
        stays, as do rows and members that the plan does not name.
        """
        leader, dead, left, also_left = (
            namespace.leader(),
            namespace.join('dead'),
            namespace.join('left'),
            namespace.join('also left'),
        )
        namespace.join('alive')
        namespace.beat(dead)
        namespace.backend.deregister(left)
        namespace.backend.deregister(also_left)
        members = {name: Member('1', 15.0) for name in ('dead', 'left')}
        namespace.commit(leader, TokenGroup([1, 2], 'dead', 'left'), TokenGroup([3], 'left', home='dead'), members=members)
        before = namespace.state()
        namespace.commit(leader, TokenGroup([1], 'alive'), evictions=(Eviction(dead, 1),), departed=(left,))
        after = namespace.state()
        assert (after.rows[2:], after.members) == (before.rows[2:], before.members)
        assert list(namespace.nodes()) == ['leader', 'also left', 'alive']
        assert namespace.node('also left').state is NodeState.LEFT

    def test_leadership_locks_and_history_stay(self, namespace: Namespace) -> None:
        """A commit changes neither the leadership nor task locks, claims and audits."""
        leader = namespace.populate()
        with namespace.changes_only('version', 'nodes', 'rows'):
            namespace.commit(leader, TokenGroup([1], 'a'))
        assert namespace.snapshot().leadership == Leadership(1, leader)

    def test_rebalance_is_recorded_if_tokens_moved(self, namespace: Namespace) -> None:
        """A commit with ``moved`` appends one rebalance with the plan's figures; one that moves and removes nothing, none."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup([1], 'a'), moved=0)
        assert namespace.rebalances() == []
        before = namespace.snapshot().now
        namespace.commit(leader, reason='joined: b', number=FAR, moved=3, nodes_before=1, nodes_after=2, duration_ms=17)
        (record,) = namespace.rebalances()
        assert record == Rebalance(record.triggered_at, 'joined: b', 'leader', 1, 2, 3, 17, FAR)
        assert before <= record.triggered_at <= namespace.snapshot().now

    @pytest.mark.parametrize('how', ['evicted', 'departed', 'absent'])
    def test_rebalance_is_recorded_if_a_node_goes(self, namespace: Namespace, how: str) -> None:
        """A commit by which a node goes is in the history though it moves no token: people look there for the reason."""
        leader, gone = namespace.leader(), namespace.join('gone')
        if how == 'evicted':
            namespace.commit(leader, evictions=(Eviction(gone, 0),), reason=how)
        elif how == 'departed':
            namespace.backend.deregister(gone)
            namespace.commit(leader, departed=(gone,), reason=how)
        else:
            namespace.commit(leader, absent=(NodeRef('never seen', '1'),), reason=how)
        assert [(record.trigger_reason, record.tokens_moved) for record in namespace.rebalances()] == [(how, 0)]
