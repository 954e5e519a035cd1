"""Claims, audits and rebalances: ``append_claims``, ``append_audits``, ``history`` and ``incomplete``."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from jobsync.backend import HistoryKind, NodeRef
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import DAY, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['HistoryTests']

MONDAY, TUESDAY = DAY, DAY + dt.timedelta(days=1)
NONE, HOUR = dt.timedelta(0), dt.timedelta(hours=1)
SEPARATORS = (':', '/', '|', '#', ' ', '\x1f')
"""By which a store might join the parts of a key."""


def later_than(moment: dt.datetime, namespace: Namespace, ref: NodeRef) -> dt.datetime:
    """Send heartbeats until the time of the store is later than ``moment``, and return it."""
    deadline = time.monotonic() + DEADLINE_SEC
    while (now := namespace.snapshot().now) <= moment:
        assert time.monotonic() < deadline, f'the time of the store has been {now} for {DEADLINE_SEC} s'
        namespace.beat(ref)
    return now


class HistoryTests:
    """The histories of claims, audits and rebalances, from which users learn what was begun and completed."""

    def test_claims_are_recorded(self, namespace: Namespace) -> None:
        """Each claimed item has one record with the node, the date and the store's time, and no new revision."""
        ref = namespace.join('a')
        before = namespace.snapshot().now
        with namespace.same_revision():
            namespace.claim(ref, 'x', 'y')
        after = namespace.snapshot().now
        claims = namespace.claims()
        assert {(c.item, c.node, c.date) for c in claims} == {('x', 'a', MONDAY), ('y', 'a', MONDAY)}
        assert len(claims) == 2
        assert [c for c in claims if not before <= c.created_on <= after] == []

    def test_records_are_kept_by_item_date_and_node(self, namespace: Namespace) -> None:
        """A claim or an audit of one item at another date or by another node is another record."""
        refs = {name: namespace.join(name) for name in 'ab'}
        for name, date in (('a', MONDAY), ('a', TUESDAY), ('b', MONDAY)):
            namespace.claim(refs[name], 'x', date=date)
            namespace.audit(name, 'y', date=date)
        assert (len(namespace.claims()), len(namespace.audits())) == (3, 3)

    def test_a_repeated_claim_renews_its_time(self, namespace: Namespace) -> None:
        """A repeated claim stays one record, with the store's time at the repetition."""
        ref = namespace.join('a')
        namespace.claim(ref, 'x', 'y')
        before = {claim.item: claim.created_on for claim in namespace.claims()}
        now = later_than(before['x'], namespace, ref)
        namespace.claim(ref, 'x')
        after = {claim.item: claim.created_on for claim in namespace.claims()}
        assert len(namespace.claims()) == 2
        assert after['x'] >= now > before['x']
        assert after['y'] == before['y']
        namespace.claim(namespace.join('a', replacing=namespace.node('a').beat), 'x', 'y')
        assert len(namespace.claims()) == 2, 'a record is of a node, whichever run of it has claimed the item last'

    @pytest.mark.parametrize('name', ['a', 'b', 'never registered'])
    def test_a_claim_returns_what_is_completed(self, namespace: Namespace, name: str) -> None:
        """A claim returns those of its items that have an audit at its date, of whichever node, and no others."""
        ref = namespace.join('a')
        assert namespace.claim(ref, 'x', 'y', 'z') == frozenset()
        namespace.audit(name, 'x', 'z', 'w')
        namespace.audit(name, 'y', date=TUESDAY)
        assert namespace.claim(ref, 'x', 'y', 'z', 'x', 'X') == {'x', 'z'}
        assert namespace.claim(ref, 'x', 'y', date=TUESDAY) == {'y'}
        assert namespace.claim(ref) == frozenset()

    def test_no_claim_of_a_completed_item_is_recorded(self, namespace: Namespace) -> None:
        """Of items that any node has completed no claim is recorded; the others of the call are recorded."""
        ref = namespace.join('a')
        namespace.audit('a', 'x')
        namespace.audit('b', 'y')
        assert namespace.claim(ref, 'y', 'x', 'z') == {'x', 'y'}
        assert [claim.item for claim in namespace.claims()] == ['z']
        with namespace.unchanged():
            assert namespace.claim(ref, 'x', 'y') == {'x', 'y'}

    def test_a_claim_of_a_completed_item_is_not_renewed(self, namespace: Namespace) -> None:
        """A claim from before the audit keeps its time when the item is claimed again, and is no younger than the audit."""
        ref = namespace.join('a')
        namespace.claim(ref, 'x')
        (first,) = namespace.claims()
        namespace.audit('b', 'x')
        later_than(first.created_on, namespace, ref)
        with namespace.unchanged():
            assert namespace.claim(ref, 'x') == {'x'}
        assert namespace.claims() == [first]

    def test_an_item_given_twice_is_recorded_once(self, namespace: Namespace) -> None:
        """An item given twice in one call is recorded once, by claims and by audits."""
        ref = namespace.join('a')
        namespace.claim(ref, 'x', 'y', 'x')
        namespace.audit('a', 'x', 'y', 'x')
        assert len(namespace.claims()) == len(namespace.audits()) == 2

    def test_a_call_without_items_records_nothing(self, namespace: Namespace) -> None:
        """A call without items records nothing."""
        ref = namespace.join('a')
        lost = namespace.gone('left', ['x'])
        with namespace.unchanged():
            namespace.claim(ref)
            namespace.audit('a')
            for run in (None, lost):
                namespace.backend.forget_attempts((), MONDAY, run)

    def test_claims_of_a_gone_run_are_refused(self, namespace: Namespace) -> None:
        """Claims of a run that is not JOINED are refused, and none is written; so is a claim of nothing or of completed items."""
        namespace.audit('b', 'completed')
        for how, ref in namespace.gone_runs():
            for items in ((), ('x', 'y'), ('completed',)):
                with namespace.refused(Evicted, (how, items)):
                    namespace.claim(ref, *items)

    def test_audits_of_a_gone_run_are_recorded(self, namespace: Namespace) -> None:
        """Audits are recorded whether or not the node is still registered, so that no completed work is lost."""
        expected = set()
        for how, ref in namespace.gone_runs():
            before = namespace.snapshot().now
            with namespace.same_revision():
                namespace.audit(ref.name, 'x', 'y')
            audits, after = namespace.audits(), namespace.snapshot().now
            assert [a for a in audits if a.node == ref.name and not before <= a.created_on <= after] == [], how
            expected |= {('x', ref.name, MONDAY), ('y', ref.name, MONDAY)}
            assert {(a.item, a.node, a.date) for a in audits} == expected, how

    def test_audit_repeated_happens_once(self, namespace: Namespace) -> None:
        """A repeated audit changes nothing, the time of completion included."""
        namespace.audit('a', 'x', 'y')
        with namespace.unchanged():
            namespace.audit('a', 'y', 'x')

    @needs(Ability.CLOCK)
    def test_history_is_newest_first(self, namespace: Namespace, harness: Harness) -> None:
        """Each history is newest first; ``limit`` keeps the newest; a repeated claim counts as new."""
        ref = namespace.leader('a')
        for item in ('w', 'x', 'y', 'w'):
            namespace.claim(ref, item)
            namespace.audit('a', f'done {item}')
            namespace.commit(ref, reason=item, moved=1)
            harness.move_clock(HOUR)
        assert [c.item for c in namespace.claims()] == ['w', 'y', 'x']
        assert [a.item for a in namespace.audits()] == ['done y', 'done x', 'done w']
        assert [r.trigger_reason for r in namespace.rebalances()] == ['w', 'y', 'x', 'w']
        assert [c.item for c in namespace.claims(limit=2)] == ['w', 'y']
        assert [r.trigger_reason for r in namespace.rebalances(limit=2)] == ['w', 'y']

    def test_history_does_not_ascend(self, namespace: Namespace) -> None:
        """Every record is in its history, whose times never rise, and ``limit`` brings the newest; rebalances have neither date
        nor item.
        """
        ref = namespace.leader('a')
        for number in range(6):
            namespace.claim(ref, f'x{number}')
            namespace.audit('a', f'x{number}')
            namespace.commit(ref, reason=f'reason {number}', moved=number + 1)
            later_than(namespace.rebalances()[0].triggered_at, namespace, ref)
        for of, field in (
            (namespace.claims, 'created_on'),
            (namespace.audits, 'created_on'),
            (namespace.rebalances, 'triggered_at'),
        ):
            times = [getattr(record, field) for record in of()]
            assert times == sorted(times, reverse=True)
            assert len(times) == 6
            assert [getattr(record, field) for record in of(limit=4)] == times[:4], 'limit=4 does not bring the newest'
        assert {record.tokens_moved for record in namespace.rebalances()} == set(range(1, 7))
        assert namespace.rebalances(date=MONDAY, item='x') == namespace.rebalances()
        assert namespace.claims(limit=100) == namespace.claims()
        assert [list(namespace.backend.history(kind, limit=0)) for kind in HistoryKind] == [[], [], []]
        namespace.audit('b', 'x0')
        assert [audit.node for audit in namespace.audits(item='x0', date=MONDAY, limit=1)] == ['b']

    def test_history_of_a_date_or_an_item(self, namespace: Namespace) -> None:
        """``date`` and ``item`` each narrow a history, and both together; items are compared exactly."""
        ref = namespace.join('a')
        for date in (MONDAY, TUESDAY):
            namespace.claim(ref, 'x', 'y', 'X', 'x%', date=date)
            namespace.audit('a', 'x', 'y', 'X', 'x%', date=date)
        for of in (namespace.claims, namespace.audits):
            assert {(r.item, r.date) for r in of(date=MONDAY)} == {(item, MONDAY) for item in ('x', 'y', 'X', 'x%')}
            assert {(r.item, r.date) for r in of(item='x')} == {('x', MONDAY), ('x', TUESDAY)}
            assert {(r.item, r.date) for r in of(item='x%', date=TUESDAY)} == {('x%', TUESDAY)}
            assert of(item='z') == []
            assert [[r.item for r in of(item=item, limit=1)] for item in ('x', 'y', 'X', 'x%')] == [['x'], ['y'], ['X'], ['x%']]
            assert [[r.date for r in of(date=date, limit=1)] for date in (MONDAY, TUESDAY)] == [[MONDAY], [TUESDAY]]

    def test_any_date(self, namespace: Namespace) -> None:
        """A date may be long ago or far ahead, and is read back as it was given."""
        ref, dates = namespace.join('a'), [dt.date.min, dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date.max]
        for date in dates:
            namespace.claim(ref, 'x', date=date)
        assert {claim.date for claim in namespace.backend.incomplete(None, NONE)} == set(dates)
        for date in dates:
            assert [claim.date for claim in namespace.backend.incomplete(date, NONE)] == [date]
            namespace.audit('a', 'x', date=date)
            assert [claim.date for claim in namespace.claims(date=date)] == [date]
            assert [audit.date for audit in namespace.audits(date=date)] == [date]
        assert namespace.backend.incomplete(None, NONE) == ()

    def test_records_with_similar_parts(self, namespace: Namespace) -> None:
        """What belongs to an item and a node stays apart from what belongs to others whose names look alike in one string."""
        for separator in SEPARATORS:
            short, long = f'b{separator}c', f'a{separator}b'
            for item, name in ((long, 'c'), ('a', short)):
                namespace.audit(name, item)
                namespace.claim(namespace.join(name), f'{item} open')
            for name in ('c', short):
                namespace.backend.deregister(namespace.node(name).ref)
        items = {('a', f'b{each}c') for each in SEPARATORS} | {(f'a{each}b', 'c') for each in SEPARATORS}
        assert {(audit.item, audit.node) for audit in namespace.audits()} == items
        assert {(claim.item, claim.node) for claim in namespace.claims()} == {(f'{item} open', name) for item, name in items}

    def test_incomplete_is_claimed_and_not_audited(self, namespace: Namespace) -> None:
        """An item is incomplete at the date of its claim until an audit at that date, also if its node left or was evicted."""
        leader, ref, left = namespace.leader(), namespace.join('a'), namespace.join('left')
        namespace.claim(ref, 'done', 'other day', 'by another', 'open')
        namespace.claim(left, 'left')
        namespace.backend.deregister(left)
        namespace.audit('a', 'done')
        namespace.audit('a', 'other day', date=TUESDAY)
        namespace.audit('someone', 'by another')
        namespace.evict(leader, ref)
        for date in (MONDAY, None):
            found = namespace.backend.incomplete(date, NONE)
            assert {claim.item for claim in found} == {'other day', 'open', 'left'}
            assert set(found) <= set(namespace.claims())
        assert namespace.backend.incomplete(TUESDAY, NONE) == ()
        namespace.audit('a', 'other day', 'open', 'left')
        assert namespace.backend.incomplete(None, NONE) == ()

    def test_every_handle_reads_the_history_at_once(self, namespace: Namespace, harness: Harness) -> None:
        """A handle that writes nothing reads what others have just claimed, completed, lost and moved."""
        leader, other = namespace.leader(), Namespace(harness.connect())
        for number in range(1, 4):
            ref = namespace.join(f'n{number}')
            namespace.attempt(ref, 'lost', f'done {number}', tolerated=9)
            assert {claim.item for claim in other.backend.incomplete(MONDAY, NONE)} == {'lost', f'done {number}'}
            namespace.audit(ref.name, f'done {number}')
            assert {claim.item for claim in other.backend.incomplete(MONDAY, NONE)} == {'lost'}
            namespace.evict(leader, ref)
            assert other.lost(date=MONDAY) == {'lost': number}
            assert len(other.rebalances()) == number

    def test_incomplete_counts_each_date(self, namespace: Namespace) -> None:
        """An item claimed at two dates is incomplete at each of them separately."""
        ref = namespace.join('a')
        namespace.claim(ref, 'x')
        namespace.claim(ref, 'x', date=TUESDAY)
        assert {claim.date for claim in namespace.backend.incomplete(None, NONE)} == {MONDAY, TUESDAY}
        for date in (MONDAY, TUESDAY):
            assert [claim.date for claim in namespace.backend.incomplete(date, NONE)] == [date]
        namespace.audit('a', 'x', date=TUESDAY)
        assert [claim.date for claim in namespace.backend.incomplete(None, NONE)] == [MONDAY]
        assert namespace.backend.incomplete(TUESDAY, NONE) == ()

    def test_incomplete_is_old_enough(self, namespace: Namespace) -> None:
        """Only claims of at least the given age are incomplete, and the oldest comes first."""
        ref = namespace.join('a')
        for item in 'xwyv':
            namespace.claim(ref, item)
        for age in (HOUR, 24 * HOUR, 36_500 * 24 * HOUR):
            assert namespace.backend.incomplete(MONDAY, age) == ()
        times = [claim.created_on for claim in namespace.backend.incomplete(MONDAY, NONE)]
        assert times == sorted(times)
        assert len(times) == 4

    @needs(Ability.CLOCK)
    def test_incomplete_brings_the_newest_claim(self, namespace: Namespace, harness: Harness) -> None:
        """An item claimed twice is returned once, with the age of its newest claim; the oldest record comes first."""
        a, b = namespace.join('a'), namespace.join('b')
        for ref, item in ((a, 'x'), (b, 'z'), (a, 'y'), (b, 'x'), (a, 'z')):
            namespace.claim(ref, item)
            harness.move_clock(HOUR)
        found = namespace.backend.incomplete(MONDAY, NONE)
        assert [(claim.item, claim.node) for claim in found] == [('y', 'a'), ('x', 'b'), ('z', 'a')]
        for age, items in ((1.5, 'yx'), (2, 'yx'), (2.5, 'y'), (3, 'y'), (4, '')):
            assert [claim.item for claim in namespace.backend.incomplete(MONDAY, age * HOUR)] == list(items)
