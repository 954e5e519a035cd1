"""Attempts: ``append_claims`` with ``tolerated``, ``forget_attempts`` and ``lost_attempts``."""

from __future__ import annotations

import datetime as dt

import pytest

from jobsync.backend import HistoryKind, NodeRef
from jobsync.errors import Evicted
from jobsync.testing.conformance.namespace import DAY, GONE, Namespace

__all__ = ['AttemptTests']

OTHER_DAY = DAY + dt.timedelta(days=1)
FAR = dt.date.min, dt.date(1969, 12, 31), dt.date(2038, 1, 20), dt.date.max
MANY, OPEN = 1_200, 1_050


def lose(namespace: Namespace, leader: NodeRef, name: str, *items: str) -> None:
    """Have a node attempt items and be evicted."""
    ref = namespace.join(name)
    assert namespace.attempt(ref, *items, tolerated=100) == {}
    namespace.evict(leader, ref)


class AttemptTests:
    """Attempts at items, from which nodes learn which tasks kill their workers."""

    def test_a_run_that_lives_loses_nothing(self, namespace: Namespace) -> None:
        """Attempts of JOINED runs are not lost: a claim by any node is recorded."""
        a, b = namespace.join('a'), namespace.join('b')
        assert namespace.attempt(a, 'x', 'y') == namespace.attempt(a, 'x') == namespace.attempt(b, 'x') == {}
        assert namespace.lost() == {}
        assert {(claim.item, claim.node) for claim in namespace.claims()} == {('x', 'a'), ('y', 'a'), ('x', 'b')}

    @pytest.mark.parametrize('how', [*GONE[2:], 'removed'])
    def test_a_gone_run_has_lost_its_attempts(self, namespace: Namespace, how: str) -> None:
        """The attempts of a run that is not JOINED are lost, at their date; the item is refused with the number."""
        ref = namespace.gone(how, ['x', 'y'])
        other = namespace.join('other')
        assert namespace.attempt(other, 'x', 'z', 'x') == {'x': 1}
        assert namespace.attempt(other, 'x', date=OTHER_DAY) == {}
        assert {(claim.item, claim.node) for claim in namespace.claims(date=DAY)} == {
            ('x', ref.name),
            ('y', ref.name),
            ('z', 'other'),
        }
        assert namespace.lost() == {'x': 1, 'y': 1}
        assert namespace.lost(date=OTHER_DAY) == {}
        with namespace.refused(Evicted):
            namespace.attempt(ref, 'x')

    def test_every_run_counts_once(self, namespace: Namespace) -> None:
        """Lost attempts are counted over the runs, of one name or of several, and not over their claims, or twice in one call."""
        leader = namespace.leader()
        for lost, name in enumerate('aaba'):
            ref = namespace.join(name)
            for items in (('x',), ('x', 'x')):
                assert namespace.attempt(ref, *items, tolerated=lost) == {}
            if lost:
                assert namespace.attempt(ref, 'x', 'y', tolerated=lost - 1) == {'x': lost}
            namespace.evict(leader, ref)
        assert namespace.lost() == {'x': 4, 'y': 3}
        assert namespace.lost(4) == {'x': 4}
        assert namespace.lost(5) == {}

    def test_a_refused_item_is_not_attempted(self, namespace: Namespace) -> None:
        """No claim of a refused item is recorded or renewed, and the run that was refused attempts it not."""
        leader = namespace.leader()
        lose(namespace, leader, 'a', 'x')
        ref = namespace.join('b')
        with namespace.unchanged():
            assert namespace.attempt(ref, 'x') == {'x': 1}
        namespace.evict(leader, ref)
        assert namespace.lost() == {'x': 1}

    def test_without_a_limit_nothing_is_counted(self, namespace: Namespace) -> None:
        """A claim without ``tolerated`` is no attempt, and is recorded however many were lost. It forgets none either."""
        leader = namespace.leader()
        lose(namespace, leader, 'a', 'x')
        for name in 'bb':
            ref = namespace.join(name)
            result = namespace.backend.append_claims(ref, ['x', 'y'], DAY)
            assert (result.completed, dict(result.lost_attempts)) == (frozenset(), {})
            namespace.evict(leader, ref)
        assert namespace.lost() == {'x': 1}
        assert ('x', 'b') in {(claim.item, claim.node) for claim in namespace.claims()}
        ref = namespace.join('c')
        namespace.attempt(ref, 'y')
        namespace.claim(ref, 'x', 'y')
        namespace.evict(leader, ref)
        assert namespace.lost() == {'x': 1, 'y': 1}

    def test_completed_items_have_no_attempts(self, namespace: Namespace) -> None:
        """A completed item is returned as completed, not as lost, and is not listed."""
        leader = namespace.leader()
        lose(namespace, leader, 'a', 'x', 'y')
        namespace.audit('b', 'x')
        result = namespace.backend.append_claims(leader, ['x', 'y', 'z'], DAY, 0)
        assert result.completed == {'x'}
        assert result.lost_attempts == {'y': 1}
        assert namespace.lost() == {'y': 1}

    def test_an_item_is_completed_at_one_date_and_for_good(self, namespace: Namespace) -> None:
        """A completed item keeps the lost attempts of other dates, and has no others again once its audit is purged."""
        leader = namespace.leader()
        lose(namespace, leader, 'a', 'x')
        ref = namespace.join('b')
        namespace.attempt(ref, 'x', date=OTHER_DAY)
        namespace.evict(leader, ref)
        namespace.audit('c', 'x')
        for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
            assert namespace.purge(kind, namespace.snapshot().now + dt.timedelta(hours=1)) == 1
        assert (namespace.lost(), namespace.lost(date=OTHER_DAY)) == ({}, {'x': 1})

    def test_a_run_gives_up_its_own_attempts(self, namespace: Namespace) -> None:
        """Attempts that a run has given up are not lost when it is over; those of other runs and at other items are."""
        leader = namespace.leader()
        lose(namespace, leader, 'a', 'x')
        a, b = namespace.join('a'), namespace.join('b')
        for ref in (a, b):
            assert namespace.attempt(ref, 'x', 'y', 'z', tolerated=1) == {}
        with namespace.same_revision():
            namespace.backend.forget_attempts(['x', 'y'], DAY, a)
        namespace.backend.forget_attempts(['z'], OTHER_DAY, a)
        claims = namespace.claims()
        for ref in (a, b):
            namespace.evict(leader, ref)
        assert namespace.lost() == {'x': 2, 'y': 1, 'z': 2}
        assert namespace.claims() == claims

    def test_a_run_attempts_again_what_it_gave_up(self, namespace: Namespace) -> None:
        """A claim after the attempt was given up is an attempt again."""
        leader, a = namespace.leader(), namespace.join('a')
        for _ in range(2):
            assert namespace.attempt(a, 'x', 'y') == {}
            namespace.backend.forget_attempts(['x', 'y'], DAY, a)
        assert namespace.attempt(a, 'x') == {}
        namespace.evict(leader, a)
        assert namespace.lost() == {'x': 1}

    def test_a_released_item_begins_anew(self, namespace: Namespace) -> None:
        """Without a run every attempt at the item at the date is forgotten, whatever its node; later ones count again."""
        leader = namespace.leader()
        for name in 'aab':
            lose(namespace, leader, name, 'x', 'y')
        assert namespace.attempt(leader, 'x', tolerated=2) == {'x': 3}
        namespace.backend.forget_attempts(['x', 'never claimed'], DAY)
        assert namespace.lost() == {'y': 3}
        assert namespace.attempt(leader, 'x') == {}
        lose(namespace, leader, 'c', 'x')
        assert namespace.lost() == {'x': 1, 'y': 3}
        other = namespace.join('d')
        namespace.attempt(other, 'x', date=OTHER_DAY)
        namespace.evict(leader, other)
        namespace.backend.forget_attempts(['x'], DAY)
        assert (namespace.lost(), namespace.lost(date=OTHER_DAY)) == ({'y': 3}, {'x': 1})

    def test_attempts_of_any_date(self, namespace: Namespace) -> None:
        """Attempts are lost, given up and released at any date, long ago or far ahead, and at that date alone."""
        leader, ref = namespace.leader(), namespace.join('a')
        for date in FAR:
            assert namespace.attempt(ref, 'x', 'y', 'z', date=date) == {}
            namespace.backend.forget_attempts(['x'], date, ref)
        namespace.evict(leader, ref)
        for date in FAR:
            assert namespace.lost(date=date) == {'y': 1, 'z': 1}
            namespace.backend.forget_attempts(['y'], date)
            assert namespace.attempt(leader, 'x', 'y', 'z', date=date) == {'z': 1}
            assert namespace.lost(date=date) == {'z': 1}

    def test_given_up_after_the_end(self, namespace: Namespace) -> None:
        """The attempts of a run that is over can be forgotten as well: a call of unknown outcome is repeated."""
        leader, a = namespace.leader(), namespace.join('a')
        assert namespace.attempt(a, 'x', 'y') == {}
        namespace.evict(leader, a)
        assert namespace.lost() == {'x': 1, 'y': 1}
        for _ in range(2):
            namespace.backend.forget_attempts(['x'], DAY, a)
        assert namespace.lost() == {'y': 1}
        assert namespace.attempt(leader, 'x', 'y') == {'y': 1}

    def test_many_items(self, namespace: Namespace) -> None:
        """A call with many items counts or forgets each; a purge of claims keeps the attempts at what is incomplete."""
        items = [f'x{number}' for number in range(MANY)]
        leader = namespace.leader()
        lose(namespace, leader, 'a', *items)
        namespace.audit('a', *items[OPEN:])
        namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now + dt.timedelta(hours=1))
        found = namespace.backend.append_claims(leader, [*items, 'new'], DAY, 0)
        assert found.completed == set(items[OPEN:])
        assert found.lost_attempts == namespace.lost() == dict.fromkeys(items[:OPEN], 1)
        namespace.backend.forget_attempts(items, DAY)
        assert namespace.lost() == {}
