"""Claims, audits and rebalances: ``append_claims``, ``append_audits``, ``history``, ``incomplete`` and ``purge``."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import GONE, Scene
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['TrailTests']

MONDAY, TUESDAY = dt.date(2026, 3, 2), dt.date(2026, 3, 3)
NONE, HOUR = dt.timedelta(0), dt.timedelta(hours=1)


def three_commits(scene: Scene) -> None:
    """Three rebalances, told apart by their reasons."""
    leader = scene.leader()
    for number in range(1, 4):
        scene.commit(leader, reason=f'reason {number}', moved=number)


class TrailTests:
    """The three trails."""

    def test_claims_are_recorded(self, scene: Scene) -> None:
        """One record for each item, with the node, the date and the store's time; nothing structural changes."""
        ref = scene.join('a')
        before = scene.backend.snapshot().now
        with scene.same_revision():
            scene.backend.append_claims(ref, ['x', 'y'], MONDAY)
        after = scene.backend.snapshot().now
        claims = scene.claims()
        assert {(c.item, c.node, c.date) for c in claims} == {('x', 'a', MONDAY), ('y', 'a', MONDAY)}
        assert len(claims) == 2
        assert all(isinstance(c, Claim) and before <= c.created_on <= after for c in claims)

    def test_claims_are_kept_by_item_date_and_node(self, scene: Scene) -> None:
        """The same item at another date or by another node is another record."""
        a, b = scene.join('a'), scene.join('b')
        for ref, date in ((a, MONDAY), (a, TUESDAY), (b, MONDAY)):
            scene.backend.append_claims(ref, ['x'], date)
        assert len(scene.claims()) == 3

    def test_beginning_again_renews_the_claim(self, scene: Scene) -> None:
        """A claim repeated stays one record, with the store's time at the repetition."""
        ref = scene.join('a')
        scene.backend.append_claims(ref, ['x', 'y'], MONDAY)
        before = {claim.item: claim.created_on for claim in scene.claims()}
        deadline = time.monotonic() + DEADLINE_SEC
        while (now := scene.backend.snapshot().now) <= before['x']:
            assert time.monotonic() < deadline, f'the time of the store has been {now} for {DEADLINE_SEC} s'
            scene.beat(ref)
        scene.backend.append_claims(ref, ['x'], MONDAY)
        after = {claim.item: claim.created_on for claim in scene.claims()}
        assert len(scene.claims()) == 2
        assert after['x'] >= now > before['x']
        assert after['y'] == before['y']

    def test_an_item_twice_in_one_call(self, scene: Scene) -> None:
        """An item given twice is recorded once, by claims and by audits."""
        ref = scene.join('a')
        scene.backend.append_claims(ref, ['x', 'y', 'x'], MONDAY)
        scene.backend.append_audits('a', ['x', 'y', 'x'], MONDAY)
        assert len(scene.claims()) == len(scene.audits()) == 2

    def test_no_items(self, scene: Scene) -> None:
        """A call without items records nothing."""
        ref = scene.join('a')
        with scene.unchanged():
            scene.backend.append_claims(ref, [], MONDAY)
            scene.backend.append_audits('a', [], MONDAY)

    @pytest.mark.parametrize('how', GONE)
    def test_claims_of_a_gone_run_are_refused(self, scene: Scene, how: str) -> None:
        """Only an incarnation that is JOINED may claim; of a refused call nothing is written."""
        ref = scene.gone(how)
        with scene.refused(Evicted):
            scene.backend.append_claims(ref, ['x', 'y'], MONDAY)

    @pytest.mark.parametrize('how', GONE)
    def test_audits_are_accepted_from_anyone(self, scene: Scene, how: str) -> None:
        """What was done is recorded, whether or not the node is still registered."""
        name = scene.gone(how).name
        with scene.same_revision():
            scene.backend.append_audits(name, ['x', 'y'], MONDAY)
        audits = scene.audits()
        assert all(isinstance(a, Audit) for a in audits)
        assert {(a.item, a.node, a.date) for a in audits} == {('x', name, MONDAY), ('y', name, MONDAY)}

    def test_audit_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again changes nothing, the time of completion included."""
        scene.backend.append_audits('a', ['x', 'y'], MONDAY)
        with scene.unchanged():
            scene.backend.append_audits('a', ['y', 'x'], MONDAY)

    def test_audits_are_kept_by_item_date_and_node(self, scene: Scene) -> None:
        """The same item at another date or by another node is another record."""
        for name, date in (('a', MONDAY), ('a', TUESDAY), ('b', MONDAY)):
            scene.backend.append_audits(name, ['x'], date)
        assert len(scene.audits()) == 3

    @needs(Ability.CLOCK)
    def test_history_is_newest_first(self, scene: Scene, harness: Harness) -> None:
        """Each trail comes newest first; ``limit`` keeps the newest; a claim begun again is new."""
        ref = scene.leader('a')
        for item in ('w', 'x', 'y', 'w'):
            scene.backend.append_claims(ref, [item], MONDAY)
            scene.backend.append_audits('a', [item], MONDAY)
            scene.commit(ref, reason=item, moved=1)
            harness.move_clock(HOUR)
        assert [c.item for c in scene.claims()] == ['w', 'y', 'x']
        assert [a.item for a in scene.audits()] == ['y', 'x', 'w']
        assert [r.trigger_reason for r in scene.rebalances()] == ['w', 'y', 'x', 'w']
        assert [c.item for c in scene.claims(limit=2)] == ['w', 'y']
        assert [r.trigger_reason for r in scene.rebalances(limit=2)] == ['w', 'y']

    def test_history_does_not_ascend(self, scene: Scene) -> None:
        """Times in a history never rise, and ``limit`` bounds its length."""
        ref = scene.join('a')
        for number in range(6):
            scene.backend.append_claims(ref, [f'x{number}'], MONDAY)
            scene.backend.append_audits('a', [f'x{number}'], MONDAY)
        for found in (scene.claims(), scene.audits()):
            times = [record.created_on for record in found]
            assert times == sorted(times, reverse=True)
            assert len(found) == 6
        assert len(scene.claims(limit=4)) == len(scene.audits(limit=4)) == 4
        assert scene.claims(limit=100) == scene.claims()
        assert scene.claims(limit=0) == []

    def test_rebalances_are_newest_first(self, scene: Scene) -> None:
        """Rebalances come with their times never rising, every one of them, and ``limit`` bounds their number."""
        three_commits(scene)
        found = scene.rebalances()
        times = [record.triggered_at for record in found]
        assert times == sorted(times, reverse=True)
        assert {record.tokens_moved for record in found} == {1, 2, 3}
        assert len(scene.rebalances(limit=2)) == 2

    def test_history_of_a_date_or_an_item(self, scene: Scene) -> None:
        """``date`` and ``item`` each narrow the trail, together both; items are compared exactly."""
        ref = scene.join('a')
        for date in (MONDAY, TUESDAY):
            scene.backend.append_claims(ref, ['x', 'y', 'X', 'x%'], date)
            scene.backend.append_audits('a', ['x', 'y', 'X', 'x%'], date)
        for of in (scene.claims, scene.audits):
            assert {(r.item, r.date) for r in of(date=MONDAY)} == {(item, MONDAY) for item in ('x', 'y', 'X', 'x%')}
            assert {(r.item, r.date) for r in of(item='x')} == {('x', MONDAY), ('x', TUESDAY)}
            assert {(r.item, r.date) for r in of(item='x%', date=TUESDAY)} == {('x%', TUESDAY)}
            assert of(item='z') == []

    def test_incomplete_is_claimed_and_not_audited(self, scene: Scene) -> None:
        """An item is incomplete at the date of its claim until anyone audits it at that date, evicted nodes' included."""
        leader, ref = scene.leader(), scene.join('a')
        scene.backend.append_claims(ref, ['done', 'other day', 'by another', 'open'], MONDAY)
        scene.backend.append_audits('a', ['done'], MONDAY)
        scene.backend.append_audits('a', ['other day'], TUESDAY)
        scene.backend.append_audits('someone', ['by another'], MONDAY)
        scene.evict(leader, ref)
        for date in (MONDAY, None):
            assert {claim.item for claim in scene.backend.incomplete(date, NONE)} == {'other day', 'open'}
        assert scene.backend.incomplete(TUESDAY, NONE) == ()
        scene.backend.append_audits('a', ['other day', 'open'], MONDAY)
        assert scene.backend.incomplete(None, NONE) == ()

    def test_incomplete_counts_each_date(self, scene: Scene) -> None:
        """An item claimed at two dates is incomplete at each of them on its own."""
        ref = scene.join('a')
        scene.backend.append_claims(ref, ['x'], MONDAY)
        scene.backend.append_claims(ref, ['x'], TUESDAY)
        assert {claim.date for claim in scene.backend.incomplete(None, NONE)} == {MONDAY, TUESDAY}
        scene.backend.append_audits('a', ['x'], TUESDAY)
        assert [claim.date for claim in scene.backend.incomplete(None, NONE)] == [MONDAY]
        assert scene.backend.incomplete(TUESDAY, NONE) == ()

    def test_incomplete_is_old_enough(self, scene: Scene) -> None:
        """Only claims of at least that age count."""
        scene.backend.append_claims(scene.join('a'), ['x'], MONDAY)
        assert scene.backend.incomplete(MONDAY, HOUR) == ()
        assert len(scene.backend.incomplete(MONDAY, NONE)) == 1

    @needs(Ability.CLOCK)
    def test_incomplete_brings_the_newest_claim(self, scene: Scene, harness: Harness) -> None:
        """Of an item begun twice the newest claim counts, for the record and for its age; the oldest record comes first."""
        a, b = scene.join('a'), scene.join('b')
        for ref, item in ((a, 'x'), (a, 'y'), (b, 'x')):
            scene.backend.append_claims(ref, [item], MONDAY)
            harness.move_clock(HOUR)
        found = scene.backend.incomplete(MONDAY, NONE)
        assert [(claim.item, claim.node) for claim in found] == [('y', 'a'), ('x', 'b')]
        assert [claim.item for claim in scene.backend.incomplete(MONDAY, 2 * HOUR)] == ['y']
        assert scene.backend.incomplete(MONDAY, 3 * HOUR) == ()

    def test_purge_keeps_what_is_not_older(self, scene: Scene) -> None:
        """Only records before the moment go, of that trail alone; how many is returned, and again none."""
        leader = scene.leader('a')
        start = scene.backend.snapshot().now - HOUR
        scene.backend.append_claims(leader, ['x', 'y'], MONDAY)
        scene.backend.append_audits('a', ['x', 'y'], MONDAY)
        scene.commit(leader, moved=1)
        with scene.unchanged():
            assert [scene.backend.purge(kind, start) for kind in HistoryKind] == [0, 0, 0]
        sizes = {HistoryKind.CLAIM: 2, HistoryKind.AUDIT: 2, HistoryKind.REBALANCE: 1}
        for kind in HistoryKind:
            with scene.same_revision():
                assert scene.backend.purge(kind, start + 2 * HOUR) == sizes.pop(kind)
            assert {k: len(scene.backend.history(k)) for k in sizes} == sizes
            assert not scene.backend.history(kind)
            assert scene.backend.purge(kind, start + 2 * HOUR) == 0

    def test_purge_keeps_claims_without_audit(self, scene: Scene) -> None:
        """Claims stay until the work is complete, however old they are."""
        ref = scene.join('a')
        scene.backend.append_claims(ref, ['done', 'open'], MONDAY)
        scene.backend.append_claims(ref, ['done'], TUESDAY)
        scene.backend.append_audits('b', ['done'], MONDAY)
        assert scene.backend.purge(HistoryKind.CLAIM, scene.backend.snapshot().now + HOUR) == 1
        assert {(claim.item, claim.date) for claim in scene.claims()} == {('open', MONDAY), ('done', TUESDAY)}

    @needs(Ability.CLOCK)
    def test_purge_by_age(self, scene: Scene, harness: Harness) -> None:
        """Records before the moment go, later ones stay, in each trail."""
        ref = scene.leader('a')
        for item in ('old', 'new'):
            scene.backend.append_claims(ref, [item], MONDAY)
            scene.backend.append_audits('a', [item], MONDAY)
            scene.commit(ref, reason=item, moved=1)
            between = scene.backend.snapshot().now + HOUR
            harness.move_clock(2 * HOUR)
            if item == 'old':
                moment = between
        assert [scene.backend.purge(kind, moment) for kind in HistoryKind] == [1, 1, 1]
        assert [c.item for c in scene.claims()] == [a.item for a in scene.audits()] == ['new']
        assert [r.trigger_reason for r in scene.rebalances()] == ['new']

    def test_claims_of_many_items(self, scene: Scene) -> None:
        """A thousand items are recorded in one call."""
        ref: NodeRef = scene.join('a')
        items = [f'item {number}' for number in range(1000)]
        scene.backend.append_claims(ref, items, MONDAY)
        scene.backend.append_audits('a', items, MONDAY)
        assert {c.item for c in scene.claims()} == {a.item for a in scene.audits()} == set(items)
