"""``purge``: the end of what the history keeps."""

from __future__ import annotations

import datetime as dt

import pytest

from jobsync.backend import HistoryKind
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.history import HOUR, MONDAY, NONE, TUESDAY
from jobsync.testing.conformance.names import ODD_NAMES
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['PurgeTests']


class PurgeTests:
    """What may be deleted of the history, and in how large portions."""

    def test_purged_audits_complete_nothing(self, namespace: Namespace) -> None:
        """An item whose audits are purged is not completed any more: its next claim is recorded."""
        ref = namespace.join('a')
        namespace.audit('b', 'x')
        assert namespace.claim(ref, 'x') == {'x'}
        namespace.purge(HistoryKind.AUDIT, namespace.snapshot().now + HOUR)
        assert namespace.claim(ref, 'x') == frozenset()
        assert [claim.item for claim in namespace.claims()] == ['x']

    def test_purge_keeps_what_is_not_older(self, namespace: Namespace) -> None:
        """``purge`` deletes only records of one history from before the moment, and returns their number."""
        leader = namespace.leader('a')
        start = namespace.snapshot().now - HOUR
        namespace.claim(leader, 'x', 'y')
        namespace.audit('a', 'x', 'y')
        namespace.commit(leader, moved=1)
        with namespace.unchanged():
            assert [namespace.purge(kind, start) for kind in HistoryKind] == [0, 0, 0]
            elsewhere = start.astimezone(dt.timezone(14 * HOUR))
            assert [namespace.purge(kind, elsewhere) for kind in HistoryKind] == [0, 0, 0]
        sizes = {HistoryKind.CLAIM: 2, HistoryKind.AUDIT: 2, HistoryKind.REBALANCE: 1}
        for kind in HistoryKind:
            with namespace.same_revision():
                assert namespace.purge(kind, start + 2 * HOUR) == sizes.pop(kind)
            assert {k: len(namespace.backend.history(k)) for k in sizes} == sizes
            assert not namespace.backend.history(kind)
            assert namespace.purge(kind, start + 2 * HOUR) == 0

    def test_purge_keeps_claims_without_audit(self, namespace: Namespace) -> None:
        """``purge`` keeps claims without an audit, however old they are."""
        ref = namespace.join('a')
        namespace.gone('left', ['open'])
        namespace.claim(ref, 'done', 'open')
        namespace.claim(ref, 'done', date=TUESDAY)
        namespace.audit('b', 'done')
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now + HOUR) == 1
        assert namespace.lost() == {'open': 1}
        assert {(claim.item, claim.date) for claim in namespace.claims()} == {('open', MONDAY), ('done', TUESDAY)}

    def test_purge_keeps_audits_of_claims(self, namespace: Namespace) -> None:
        """``purge`` keeps an audit while a claim of its item at its date is left, so that complete work stays complete."""
        ref = namespace.join('a')
        namespace.claim(ref, 'x', 'y')
        namespace.claim(ref, 'x')  # the same claim: once it goes, none is left
        namespace.audit('b', 'x', 'z')
        namespace.audit('a', 'x')
        namespace.audit('a', 'y', date=TUESDAY)
        later = namespace.snapshot().now + HOUR
        assert namespace.purge(HistoryKind.AUDIT, later) == 2
        assert {(audit.item, audit.node) for audit in namespace.audits()} == {('x', 'a'), ('x', 'b')}
        assert {claim.item for claim in namespace.backend.incomplete(None, NONE)} == {'y'}
        assert [namespace.purge(kind, later) for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT)] == [1, 2]
        assert {claim.item for claim in namespace.backend.incomplete(None, NONE)} == {'y'}

    def test_purge_compares_times_exactly(self, namespace: Namespace) -> None:
        """``purge`` keeps a record of exactly the moment, and deletes one of a microsecond before it."""
        for kind in (HistoryKind.AUDIT, HistoryKind.REBALANCE):
            if kind is HistoryKind.AUDIT:
                namespace.audit('a', 'x')
                made = namespace.audits()[0].created_on
            else:
                namespace.commit(namespace.leader(), moved=1)
                made = namespace.rebalances()[0].triggered_at
            assert namespace.purge(kind, made) == 0
            assert namespace.purge(kind, made + dt.timedelta(microseconds=1)) == 1

    @pytest.mark.parametrize('kind', HistoryKind)
    def test_purge_in_portions(self, namespace: Namespace, kind: HistoryKind) -> None:
        """Portions that follow each other read every record, past those that stay, and delete the rest, whatever their names."""
        ref, names = namespace.leader('a'), [f'{name}|a:b' for name in ODD_NAMES[-12:]]
        for name in names:
            namespace.claim(ref, f'open {name}', date=MONDAY)
        for name in names:
            for date in (MONDAY, TUESDAY):
                if kind is not HistoryKind.AUDIT:
                    namespace.claim(ref, f'done {name}', date=date)
                namespace.audit('a', f'done {name}', date=date)
            if kind is HistoryKind.REBALANCE:
                namespace.commit(ref, reason=f'reason {name}', moved=1)
        for name in names:
            namespace.claim(ref, f'open {name}', date=TUESDAY)
        incomplete = {(claim.item, claim.date) for claim in namespace.backend.incomplete(None, NONE)}
        found = namespace.purge(kind, namespace.snapshot().now + HOUR, limit=5)
        assert found == (12 if kind is HistoryKind.REBALANCE else 24)
        assert {(claim.item, claim.date) for claim in namespace.backend.incomplete(None, NONE)} == incomplete
        left = {HistoryKind.CLAIM: 24, HistoryKind.AUDIT: 0, HistoryKind.REBALANCE: 0}[kind]
        assert len(namespace.backend.history(kind)) == left

    def test_a_portion_is_small(self, namespace: Namespace) -> None:
        """One portion of several thousand records, of as many calls, does not read all of them."""
        for number in range(8):
            namespace.audit('a', *(f'{number} {item:03}' for item in range(500)))
        portion = namespace.backend.purge(HistoryKind.AUDIT, namespace.snapshot().now + HOUR, limit=500)
        assert 0 < portion.deleted <= 2000
        assert portion.resume
        left = 4000 - portion.deleted
        assert namespace.purge(HistoryKind.AUDIT, namespace.snapshot().now + HOUR, limit=300) == left, (
            'records of one moment are in two portions'
        )

    @pytest.mark.parametrize('kind', [HistoryKind.CLAIM, HistoryKind.AUDIT])
    def test_a_purge_ends_under_appending(self, namespace: Namespace, kind: HistoryKind) -> None:
        """Records that are appended as fast as portions are read do not keep a purge from its end."""
        ref = namespace.join('a')
        before, after = namespace.snapshot().now - HOUR, ''
        for number in range(24):
            items = [f'{number} {item:03}' for item in range(400)]
            if kind is HistoryKind.CLAIM:
                namespace.claim(ref, *items)
            else:
                namespace.audit('a', *items)
            if number >= 4:
                after = namespace.backend.purge(kind, before, 300, after).resume
                if not after:
                    return
        raise AssertionError(f'a purge of {kind} reads what was appended after it began')

    def test_a_renewal_hides_no_other(self, namespace: Namespace) -> None:
        """A purge reads each record that is not renewed, though others are renewed between two portions."""
        ref = namespace.join('a')
        for kept in ('first', 'last'):
            for number in range(12):
                namespace.claim(ref, f'{kept} {number}')
            for number in range(12):
                namespace.claim(ref, f'done {kept} {number}')
                namespace.audit('a', f'done {kept} {number}')
        later, after = namespace.snapshot().now + HOUR, ''
        for number in range(100):
            after = namespace.backend.purge(HistoryKind.CLAIM, later, 3, after).resume
            if not after:
                break
            if number < 12:
                namespace.claim(ref, f'first {number}')
        assert {claim.item for claim in namespace.claims()} == {f'{kept} {n}' for kept in ('first', 'last') for n in range(12)}

    def test_a_portion_may_be_repeated(self, namespace: Namespace) -> None:
        """A repeated portion deletes nothing that the first one did not, except of what follows it."""
        ref = namespace.join('a')
        namespace.claim(ref, *(f'open {number}' for number in range(20)))
        later = namespace.snapshot().now + HOUR
        first = namespace.backend.purge(HistoryKind.CLAIM, later, limit=5)
        with namespace.unchanged():
            assert namespace.backend.purge(HistoryKind.CLAIM, later, limit=5) == first
        assert namespace.purge(HistoryKind.CLAIM, later, limit=5) == 0
        assert len(namespace.claims()) == 20

    @needs(Ability.CLOCK)
    def test_purge_by_age(self, namespace: Namespace, harness: Harness) -> None:
        """``purge`` deletes records from before the moment and keeps later ones, in each history."""
        ref = namespace.leader('a')
        for item in ('old', 'new'):
            namespace.claim(ref, item)
            namespace.audit('a', item)
            namespace.commit(ref, reason=item, moved=1)
            between = namespace.snapshot().now + HOUR
            harness.move_clock(2 * HOUR)
            if item == 'old':
                moment = between
        assert [namespace.purge(kind, moment) for kind in HistoryKind] == [1, 1, 1]
        assert [c.item for c in namespace.claims()] == [a.item for a in namespace.audits()] == ['new']
        assert [r.trigger_reason for r in namespace.rebalances()] == ['new']
