"""``every``: functions on a schedule, each tick by one node and with a record."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from tests.job.slow_claims import slow_claims
from tests.job.stores import Store
from tests.job.waiting import wait_until

from jobsync import AsyncJob, ConfigError, CoordinationConfig, Job, JobsyncError, Tick, WrongProcess, plugins
from jobsync._core.agent.lease import Lease
from jobsync._core.records import Claim, HistoryKind, NodeRef, Registration
from jobsync._runtime import threads
from jobsync._worker import scheduler, store_clock
from jobsync._worker.schedule import SecondsSchedule
from jobsync._worker.scheduler import Scheduler
from jobsync._worker.session import Session
from jobsync._worker.singleton import Place
from jobsync._worker.store_clock import StoreClock
from jobsync._worker.ticks import Scheduled, Start, TickRecord, decide
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.errors import BackendUnavailable
from jobsync.testing import Fault, FaultyBackend

DEADLINE_SEC = 15
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


class Clock:
    """The clock that a job's schedule reads, set by the test."""

    def __init__(self, job: Job, moment: dt.datetime) -> None:
        self._scheduler, self._moment = job._scheduler, moment
        self._scheduler.clock = self  # type: ignore[assignment]

    def read(self) -> dt.datetime:
        """The time that was set."""
        return self._moment

    def set(self, moment: dt.datetime) -> None:
        """Set the time, and have the schedule read it."""
        self._moment = moment
        for each in self._scheduler._all.values():
            each.check_at = float('-inf')

    def is_settled(self) -> bool:
        """Whether all that is due has been run or left out."""
        latest = [(each.handled, each.schedule.latest(self._moment)) for each in self._scheduler._all.values()]
        return all(handled is not None and tick is not None and handled >= tick for handled, tick in latest)

    def settle(self, moment: dt.datetime) -> None:
        """Set the time, and wait until all that is due has been run or left out."""
        self.set(moment)
        wait_until(lambda: self.is_settled() and not any(each.holder for each in self._scheduler._all.values()), 'settled')


def item(moment: dt.datetime, name: str = 'work') -> str:
    """The name of a tick in the history."""
    return f'every:{name}@{moment:%Y-%m-%dT%H:%M:%SZ}'


def audits(store: Store) -> list[str]:
    """The ticks that are complete, and what failed, oldest first."""
    return [each for each in store.audits if not each.endswith(' ended') and ' unbegun ' not in each]


class Other:
    """Another node, as far as its records go."""

    def __init__(self, store: Store, name: str = 'other') -> None:
        self._handle, self.ref = store.handle, NodeRef(name, uuid.uuid4().hex)
        self._handle.register(Registration(self.ref, timeout_sec=600, weight=0), self._handle.snapshot().timeline, 0)

    def claim(self, moment: dt.datetime) -> None:
        """Begin a tick."""
        self._handle.append_claims(self.ref, [item(moment)], moment.date())

    def complete(self, moment: dt.datetime) -> None:
        """Complete a tick."""
        self._handle.append_audits(self.ref.name, [item(moment)], moment.date())

    def end(self, moment: dt.datetime) -> None:
        """Record that the function has ended, and stop before the tick is recorded as complete."""
        self._handle.append_claims(self.ref, [f'{item(moment)} ended'], moment.date())

    def fail(self, moment: dt.datetime) -> None:
        """Record that the function has raised."""
        claims: Any = self._handle.history(HistoryKind.CLAIM, item=item(moment))
        (claimed,) = (claim.created_on for claim in claims if claim.node == self.ref.name)
        self._handle.append_audits(self.ref.name, [f'{item(moment)} failed {claimed.isoformat()}'], moment.date())

    def leave(self) -> None:
        """Leave the cluster."""
        self._handle.deregister(self.ref)


def records(store: Store, kind: HistoryKind) -> list[tuple[str, dt.date]]:
    """The records of ticks with their dates, oldest first."""
    return [(row.item, row.date) for row in reversed(store.handle.history(kind))]  # type: ignore[union-attr]


# --- the rule -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('is_late', [False, True])
@pytest.mark.parametrize('is_known', [False, True])
def test_skip_is_at_most_once_and_run_is_at_least_once(is_late: bool, is_known: bool) -> None:
    """What was begun is never begun again, or begun again once no node is at it; what was not begun may be too late."""
    facts = {'is_late': is_late, 'is_known': is_known}
    assert decide(**facts, is_begun=True, is_in_hand=False, runs_missed=False) is Start.LEAVE_OUT
    assert decide(**facts, is_begun=True, is_in_hand=True, runs_missed=False) is Start.LEAVE_OUT
    assert decide(**facts, is_begun=True, is_in_hand=False, runs_missed=True) is Start.RUN
    assert decide(**facts, is_begun=True, is_in_hand=True, runs_missed=True) is Start.WAIT
    untouched = {'is_begun': False, 'is_in_hand': False}
    assert decide(**facts, **untouched, runs_missed=False) is (Start.LEAVE_OUT if is_late else Start.RUN)
    assert decide(**facts, **untouched, runs_missed=True) is (Start.LEAVE_OUT if is_late and not is_known else Start.RUN)


# --- ticks and records --------------------------------------------------------------------------------------------------------


def record_of(job: Job, *, runs_missed: bool = True) -> tuple[TickRecord, NodeRef]:
    """The record of a tick, and the present run of the job's node."""
    assert job._session.runtime is not None
    schedule = SecondsSchedule(3600)
    scheduled = Scheduled('tick', lambda _: None, schedule, dt.UTC, runs_missed, job._place('every', 'tick'))
    record = TickRecord(job._session, Tick(scheduled, dt.datetime.now(dt.UTC)), runs_missed=runs_missed)
    return record, job._session.runtime.agent.ref


@pytest.mark.any_store
def test_what_this_node_has_claimed_is_in_no_other_hand(store: Store) -> None:
    """It is at work on no tick as it decides about one: it would wait for itself for as long as it runs."""
    with store.job('a') as job:
        record, ref = record_of(job)
        assert record.begin(ref)
        (claim,) = record.read_claims(is_unbegun_here=False)
        assert not record.is_in_hand(claim)
        assert record.read_claims(is_unbegun_here=True) == []


@pytest.mark.any_store
def test_a_tick_is_kept_with_both_its_records(store: Store) -> None:
    """One whose claim was purged shows nothing of the ticks after it, whose records may be gone as well."""
    with store.job('a') as job:
        record, _ = record_of(job)
        store.handle.append_audits('a', [record._item], record._date)
        assert record.is_complete
        assert not record.is_kept


@pytest.mark.any_store
def test_a_run_whose_registration_is_not_known_records_that_it_has_claimed_the_tick(store: Store) -> None:
    """By the times a later owner could not find that it is at work."""
    with store.job('a') as job:
        record, ref = record_of(job)
        record._record_run(None, ref)
        assert store.audits == [record._item_by(ref)]


@pytest.mark.any_store
def test_a_run_that_is_over_says_nothing_of_the_claim_of_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have the name by now, and have claimed the tick, and called the function."""
    with store.job('a') as job:
        record, ref = record_of(job)
        assert record.begin(ref)
        with monkeypatch.context() as patched:
            patched.setattr(Lease, 'holds_lease', lambda *_: False)
            record.fail(ref)
        assert store.audits == []
        other = NodeRef('other', uuid.uuid4().hex)
        store.handle.register(Registration(other, 600.0), store.handle.snapshot().timeline, 0)
        store.handle.append_claims(other, [record._item], record._date)
        record.fail(ref)
        of_other, own = record._history.read_claims(record._item)
        assert [of_other.node, own.node] == ['other', 'a']
        assert store.audits == [record._item_about(own, 'failed')]


@pytest.mark.any_store
def test_a_completion_that_the_store_refuses_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that is taken away for a while is an outage: given up, the tick would be run once more."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        record, ref = record_of(job)
        assert record.begin(ref)
        append = backend.append_audits

        def refuse(*_: Any) -> None:
            monkeypatch.setattr(backend, 'append_audits', append)
            raise ConfigError('no right')

        monkeypatch.setattr(backend, 'append_audits', refuse)
        assert record.complete(ref)
        assert record.is_complete
    backend.inner.close()


@pytest.mark.any_store
def test_a_tick_that_raises_is_no_lost_attempt(store: Store) -> None:
    """With 'skip', too, where nothing else is recorded of it."""
    with store.job('a', config={'max_attempts': 3}) as job:
        record, ref = record_of(job, runs_missed=False)
        assert record.begin(ref)
        record.fail(ref)
        store.evict('a')
        assert store.handle.lost_attempts(record._date) == {}


@pytest.mark.any_store
def test_each_tick_runs_once_in_the_cluster(store: Store) -> None:
    """Two nodes on one schedule: each tick is run by one, with a claim and an audit at the date of the tick, in its zone."""
    ran: list[dt.datetime] = []
    midnight = dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)
    with store.job('a') as a, store.job('b') as b:
        clocks = [Clock(job, midnight - HOUR) for job in (a, b)]
        for job in (a, b):
            job.every('0 * * * *', name='work', tz='Europe/Berlin')(lambda tick: ran.append(tick.scheduled))
        for hour in range(3):
            for clock in clocks:
                clock.set(midnight + (hour - 1) * HOUR)
            wait_until(lambda: len(ran) == hour + 1 and len(audits(store)) == hour + 1, 'it has run')  # noqa: B023 - called in this round only
        assert a.date != midnight.date()
    ticks = [midnight - HOUR, midnight, midnight + HOUR]
    assert ran == ticks
    assert [f'{moment:%d %H:%M %z}' for moment in ran] == ['01 23:00 +0100', '02 00:00 +0100', '02 01:00 +0100']
    days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2), dt.date(2026, 1, 2)]
    assert (
        records(store, HistoryKind.CLAIM) == records(store, HistoryKind.AUDIT) == list(zip(map(item, ticks), days, strict=True))
    )
    with store.job('a') as again:  # a tick with a record is not run again
        clock = Clock(again, midnight + HOUR)
        again.every('0 * * * *', 'run', name='work', tz='Europe/Berlin')(ran.append)
        clock.settle(midnight + HOUR)
        clock.settle(midnight)  # back: nothing before the last one is due
    assert len(ran) == 3


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
@pytest.mark.parametrize('ahead', [120, -120])
def test_a_clock_that_is_wrong_makes_no_double(store: Store, misfire: str, ahead: int) -> None:
    """Two nodes one after the other, whose clocks differ by two minutes: no tick is run twice."""
    ran: list[dt.datetime] = []
    minute = dt.timedelta(minutes=1)
    for name, error in (('a', 0), ('b', ahead), ('c', 0)):
        with store.job(name) as job:
            clock = Clock(job, NOON)
            job.every(30, misfire, name='work')(lambda tick: ran.append(tick.scheduled))
            for step in range(8):
                clock.settle(NOON + dt.timedelta(seconds=error) + step * minute / 2)
    assert max(Counter(ran).values()) == 1
    assert {NOON + step * minute / 2 for step in range(8)} <= set(ran)
    assert Counter(audits(store)) == dict.fromkeys(map(item, ran), 1)


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_tick_whose_node_has_died(store: Store, misfire: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its claim has no audit: it is run again with 'run', and never with 'skip', however early the next owner is."""
    ran: list[dt.datetime] = []
    with store.job('a') as job:
        other = Other(store)
        other.claim(NOON)
        other.leave()
        clock = Clock(job, NOON)
        job.every(3600, misfire, name='work')(lambda tick: ran.append(tick.scheduled))
        with caplog.at_level(logging.WARNING, 'jobsync.job'):
            clock.settle(NOON)
            wait_until(lambda: "was begun by 'other' and never completed" in caplog.text, 'it says so')
        clock.settle(NOON + HOUR)
    assert ran == ([NOON, NOON + HOUR] if misfire == 'run' else [NOON + HOUR])
    assert audits(store) == [item(moment) for moment in ran]


@pytest.mark.any_store
@pytest.mark.parametrize('end', ['leaves', 'restarts', 'completes', 'fails', 'fails again', 'ends'])
def test_a_tick_in_the_hands_of_a_live_node(store: Store, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not run by two at once: the new owner waits until the node that has begun it completes it, or is gone."""
    monkeypatch.setattr(scheduler, '_AGAIN_SEC', 0.01)
    ran, asked = list[dt.datetime](), list[Claim]()
    with store.job('a') as job:
        other = Other(store)
        other.claim(NOON)
        if end == 'fails again':  # as in a run of before, which leaves the tick incomplete
            other.fail(NOON)
            other.leave()
            other = Other(store)
            other.claim(NOON)
        clock = Clock(job, NOON)
        is_in_hand = TickRecord.is_in_hand

        def ask(self: TickRecord, claim: Claim) -> bool:
            asked.append(claim)
            return is_in_hand(self, claim)

        monkeypatch.setattr(TickRecord, 'is_in_hand', ask)
        job.every(3600, 'run', name='work')(lambda tick: ran.append(tick.scheduled))
        wait_until(lambda: len(asked) > 3, 'it has waited')
        assert (ran, clock.is_settled()) == ([], False)
        if end == 'completes':
            other.complete(NOON)  # and stays
        elif end.startswith('fails'):
            other.fail(NOON)  # and stays
        else:
            if end == 'ends':
                other.end(NOON)
            other.leave()
        if end == 'restarts':  # registered again: the run that has begun the tick is over all the same
            Other(store)
        clock.settle(NOON)
    if end == 'ends':
        other.complete(NOON)  # the process goes on, and records what is recorded already
    assert ran == ([] if end in ('completes', 'ends') else [NOON])
    assert [each for each in audits(store) if 'failed' not in each] == [item(NOON)]


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_tick_whose_place_passed_on_while_its_claim_was_under_way(store: Store, misfire: str) -> None:
    """Another node has begun the tick meanwhile, of which no claim was found before: the function is called by that one."""
    may_end = threading.Event()
    began: list[str] = []

    def work(node: str) -> None:
        began.append(node)
        may_end.wait(120)

    with (
        slow_claims(store) as (slow, is_under_way, may_go_on),
        store.job('a', config={'backend': slow, 'handover_timeout_sec': 0.5}) as a,
    ):
        try:
            Clock(a, NOON)
            a.every(3600, misfire, name='work')(lambda: work('a'))
            assert is_under_way.wait(120)
            with store.job('b') as b:
                clock = Clock(b, NOON)
                b.every(3600, misfire, name='work')(lambda: work('b'))
                b.register_task_lock('every:work', 'b')
                wait_until(lambda: began, 'the next owner has begun the tick')
                may_go_on.set()
                (each,) = a._scheduler._all.values()
                wait_until(lambda: not each.is_busy or len(began) > 1, 'the first owner is through')
                may_end.set()
                clock.settle(NOON)
        finally:
            may_go_on.set()
            may_end.set()
    assert began == ['b']
    assert [each for each in audits(store) if 'failed' not in each] == [item(NOON)]


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_tick_whose_thread_was_stopped_until_its_place_had_passed_on(
    store: Store, misfire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not begun, as the place has another owner, although that one has no claim of it: it has a later tick."""
    is_stopped, may_go_on = threading.Event(), threading.Event()
    began: list[str] = []
    take = Place.take

    def stopped(place: Place) -> bool:
        is_taken = take(place)
        if is_taken and place.session.node_name == 'a':
            is_stopped.set()
            assert may_go_on.wait(120)
        return is_taken

    monkeypatch.setattr(Place, 'take', stopped)
    with store.job('a', config={'handover_timeout_sec': 0.5}) as a:
        try:
            Clock(a, NOON)
            a.every(3600, misfire, name='work')(lambda: began.append('a'))
            assert is_stopped.wait(120)
            with store.job('b') as b:
                Clock(b, NOON + HOUR)
                b.every(3600, misfire, name='work')(lambda: began.append('b'))
                b.register_task_lock('every:work', 'b')
                wait_until(lambda: began, 'the next owner has begun a tick')
                may_go_on.set()
                (each,) = a._scheduler._all.values()
                wait_until(lambda: not each.is_busy, 'the first owner is through')
                assert began == ['b']
        finally:
            may_go_on.set()


@pytest.mark.any_store
@pytest.mark.parametrize('why', ['leaving', 'asked'])
def test_a_tick_whose_node_is_to_give_its_place_up_while_its_claim_was_under_way(
    store: Store, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node still has the place, and runs the tick: no other would, as it is claimed."""
    ran: list[str] = []

    with (
        slow_claims(store) as (slow, is_under_way, may_go_on),
        store.job('a', config={'backend': slow}) as a,
        store.job('b') as b,
    ):
        try:
            a.register_task_lock('every:work', 'a')
            wait_until(lambda: a.can_claim_task('every:work'), 'the owner has the place')
            Clock(a, NOON)
            clock = Clock(b, NOON)
            a.every(3600, 'skip', name='work')(lambda: ran.append('a'))
            b.every(3600, 'skip', name='work')(lambda: ran.append('b'))
            (each,) = a._scheduler._all.values()
            assert is_under_way.wait(120)
            if why == 'leaving':
                leaves = property(lambda session: session is a._session)  # as it is before anybody else knows
                monkeypatch.setattr(Session, 'is_leaving', leaves)
            else:
                a.register_task_lock('every:work', 'b')
                wait_until(lambda: not each.place.is_free_here, 'the owner is asked for the place')
            may_go_on.set()
            wait_until(lambda: not each.is_busy, 'the owner is through')
            monkeypatch.undo()
            a.register_task_lock('every:work', 'b')
            clock.settle(NOON)
        finally:
            may_go_on.set()
    assert ran == ['a']
    assert [each for each in audits(store) if 'failed' not in each] == [item(NOON)]


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_tick_whose_fence_rose_while_its_claim_was_under_way(
    store: Store, misfire: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The place may have been another node's meanwhile, and was not: the tick is begun all the same, and no two are at it."""
    may_end = threading.Event()
    ran: list[str] = []

    def work() -> None:
        ran.append('a')
        assert may_end.wait(120)

    with (
        slow_claims(store) as (slow, is_under_way, may_go_on),
        store.job('a', config={'backend': slow, 'handover_timeout_sec': 0.5}) as a,
    ):
        try:
            Clock(a, NOON)
            a.every(3600, misfire, name='work')(work)
            assert is_under_way.wait(120)
            before = a.fence('every:work')
            a.register_task_lock('every:work', 'a')
            wait_until(lambda: a.fence('every:work') not in (before, None), 'the pin has a fence of its own')
            slow.faults.clear()
            may_go_on.set()
            wait_until(lambda: ran, 'the tick is begun')
            with store.job('b') as b:  # which waits for the tick, though its claim was given up once
                other = Clock(b, NOON)
                b.every(3600, misfire, name='work')(lambda: ran.append('b'))
                a.register_task_lock('every:work', 'b')
                wait_until(lambda: b.can_claim_task('every:work'), 'the place has passed on')
                if misfire == 'skip':
                    other.settle(NOON)
                else:
                    other.set(NOON)
                    (each,) = b._scheduler._all.values()
                    wait_until(lambda: each.check_at > 0 and not each.is_busy, 'it has found the claim')
                may_end.set()
                other.settle(NOON)
        finally:
            may_go_on.set()
            may_end.set()
    assert ran == ['a']
    assert [each for each in audits(store) if 'failed' not in each] == [item(NOON)]
    assert ("begun by 'a' and never completed" in caplog.text) == (misfire == 'skip')  # by b, which leaves it out


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_tick_that_was_given_up_is_run_by_the_next_owner(store: Store, misfire: str) -> None:
    """Its owner found that the place might have passed on while the claim was under way: that keeps no other from the tick."""
    ran: list[str] = []

    def runner(job: Job) -> Callable[[], None]:
        return lambda: ran.append(job.node_name)

    with slow_claims(store) as (slow, is_under_way, may_go_on):
        config = {'backend': slow}
        with store.job('a', config=config) as a, store.job('b', config=config) as b:
            wait_until(lambda: len(a.my_tokens) == len(b.my_tokens), 'each has its share')
            owner, other = (a, b) if a.can_claim_task('every:work') else (b, a)
            Clock(owner, NOON)
            clock = Clock(other, NOON)
            for job in (owner, other):
                job.every(3600, misfire, name='work')(runner(job))
            assert is_under_way.wait(120)
            lease = owner._session.lease
            assert lease is not None
            other.register_task_lock('every:work', other.node_name)
            wait_until(lambda: 'every:work' in lease.assignment.pin_of, 'the place is to pass on, under a fence of its own')
            slow.faults.clear()
            may_go_on.set()
            clock.settle(NOON)
            assert ran == [other.node_name]
    assert audits(store) == [item(NOON)]


@pytest.mark.any_store
def test_a_tick_that_was_given_up_once_and_then_failed(store: Store) -> None:
    """That it failed is known of the attempt that failed, and the next owner runs it while the node lives."""
    ran: list[str] = []

    def fail() -> None:
        ran.append('a')
        raise KeyError

    with slow_claims(store) as (slow, is_under_way, may_go_on), store.job('a', config={'backend': slow}) as a:
        Clock(a, NOON)
        a.every(3600, 'run', name='work')(fail)
        assert is_under_way.wait(120)
        before = a.fence('every:work')
        a.register_task_lock('every:work', 'a')
        wait_until(lambda: a.fence('every:work') not in (before, None), 'the pin has a fence of its own')
        may_go_on.set()
        (each,) = a._scheduler._all.values()
        wait_until(lambda: ran and not each.is_busy, 'the tick has failed')
        with store.job('b') as b:
            clock = Clock(b, NOON)
            b.every(3600, 'run', name='work')(lambda: ran.append('b'))
            a.register_task_lock('every:work', 'b')
            clock.settle(NOON)
    assert ran == ['a', 'b']
    assert [each for each in audits(store) if 'failed' not in each] == [item(NOON)]


def test_a_tick_whose_node_registered_while_the_clock_was_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its claim is older than its registration, as the store's clock was set back: the next owner waits for it all the same."""
    monkeypatch.setattr(scheduler, '_AGAIN_SEC', 0.01)
    moment, began, asked = NOON + HOUR, list[str](), list[Claim]()
    is_at_work, may_end = threading.Event(), threading.Event()
    is_in_hand = TickRecord.is_in_hand

    def ask(self: TickRecord, claim: Claim) -> bool:
        asked.append(claim)
        return is_in_hand(self, claim)

    def work(node: str) -> None:
        began.append(node)
        is_at_work.set()
        may_end.wait(120)

    monkeypatch.setattr(TickRecord, 'is_in_hand', ask)
    store = Store('memory://clock-ahead')
    backend = MemoryBackend(MemoryStore(clock=lambda: moment), BackendOptions())
    config = {'backend': backend, 'handover_timeout_sec': 0.5}
    with store.job('a', config=config) as a, store.job('b', config=config) as b:
        try:
            a.register_task_lock('every:work', 'a')
            wait_until(lambda: a.can_claim_task('every:work'), 'the lock holds')
            moment = NOON
            Clock(a, NOON)
            a.every(3600, 'run', name='work')(lambda: work('a'))
            assert is_at_work.wait(120)
            Clock(b, NOON)
            b.every(3600, 'run', name='work')(lambda: work('b'))
            a.register_task_lock('every:work', 'b')
            wait_until(lambda: len(asked) > 3 or len(began) > 1, 'the next owner has waited')
            assert began == ['a']
        finally:
            may_end.set()
    assert began == ['a']


@pytest.mark.any_store
def test_a_tick_that_one_of_two_claimants_is_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest claim is of a node that has given the tick up: the node of the claim before is waited for all the same."""
    monkeypatch.setattr(scheduler, '_AGAIN_SEC', 0.01)
    ran, asked = list[dt.datetime](), list[Claim]()
    is_in_hand = TickRecord.is_in_hand

    def ask(self: TickRecord, claim: Claim) -> bool:
        asked.append(claim)
        return is_in_hand(self, claim)

    monkeypatch.setattr(TickRecord, 'is_in_hand', ask)
    with store.job('a') as job:
        at_work, failed = Other(store, 'at work'), Other(store, 'failed')
        at_work.claim(NOON)
        failed.claim(NOON)
        failed.fail(NOON)
        clock = Clock(job, NOON)
        job.every(3600, 'run', name='work')(lambda tick: ran.append(tick.scheduled))
        wait_until(lambda: len(asked) > 6, 'it has waited')
        assert ran == []
        at_work.complete(NOON)
        clock.settle(NOON)
    assert ran == []


@pytest.mark.any_store
def test_a_tick_that_kills_its_nodes(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """With ``max_attempts``, a tick at which so many runs were lost is in quarantine; one whose function raised is not."""
    ran: list[dt.datetime] = []

    def work(tick: Tick) -> None:
        ran.append(tick.scheduled)
        raise KeyError

    with store.job('a', config={'max_attempts': 2}, date=NOON.date()) as job:
        for name in ('one', 'two'):
            other = Other(store, name)
            store.handle.append_claims(other.ref, [item(NOON)], NOON.date(), 1)
            other.leave()
        clock = Clock(job, NOON)
        job.every(3600, 'run')(work)
        clock.settle(NOON)
        wait_until(lambda: 'is in quarantine' in caplog.text, 'it says so')
        assert ran == []
        assert [row['item'] for row in job.list_quarantined()] == [item(NOON)]
        clock.settle(NOON + HOUR)
        assert ran == [NOON + HOUR]
    store.handle.append_claims(Other(store, 'a').ref, ['x'], NOON.date(), 1)  # the run of before is over
    assert store.handle.lost_attempts(NOON.date(), 1) == {item(NOON): 2}


@pytest.mark.any_store
def test_a_tick_that_is_complete_without_a_claim(store: Store) -> None:
    """The answer to the claim says so, and the function is not called."""
    ran: list[dt.datetime] = []
    with store.job('a') as job:
        Other(store).complete(NOON)
        clock = Clock(job, NOON)
        job.every(3600, name='work')(lambda tick: ran.append(tick.scheduled))
        clock.settle(NOON)
    assert (ran, store.claims, audits(store)) == ([], [], [item(NOON)])


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_ticks_that_no_node_has_begun(store: Store, misfire: str) -> None:
    """Of many the latest counts. Late it is left out by 'skip'; 'run' runs it, unless no tick before was completed."""
    ran: list[dt.datetime] = []
    quarter = dt.timedelta(minutes=15)
    with store.job('a') as job:
        clock = Clock(job, NOON + quarter)
        job.every(3600, misfire, name='work')(lambda tick: ran.append(tick.scheduled))
        clock.settle(NOON + quarter)  # a new schedule begins with the next tick
        assert ran == []
        clock.settle(NOON + HOUR + dt.timedelta(seconds=6))  # within heartbeat_timeout_sec + 2 s, which a crash takes
        assert ran == [NOON + HOUR]
        clock.settle(NOON + 6 * HOUR + quarter)
        assert ran[1:] == ([NOON + 6 * HOUR] if misfire == 'run' else [])
        clock.settle(NOON + 7 * HOUR)
        assert ran[-1] == NOON + 7 * HOUR
        clock.set(NOON + 5 * HOUR)  # the store's clock goes back to a tick without a record
        (each,) = job._scheduler._all.values()
        job._scheduler.step(each)
        assert not each.is_busy
        clock.settle(NOON + 30 * HOUR + quarter)  # all of the ten before were missed
        assert ran[-1] == NOON + 7 * HOUR


@pytest.mark.any_store
def test_a_completed_tick_whose_records_were_purged(store: Store) -> None:
    """A purge leaves the tick before it, which stayed incomplete: a restarted node does not run the completed one again."""
    ran: list[dt.datetime] = []
    with store.job('a'):
        other = Other(store)
        other.claim(NOON)
        other.claim(NOON + HOUR)
        other.complete(NOON + HOUR)
        other.leave()
        for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
            store.handle.purge(kind, dt.datetime.now(dt.UTC) + dt.timedelta(days=1), 1000)
        assert (records(store, HistoryKind.CLAIM), audits(store)) == ([(item(NOON), NOON.date())], [])
    with store.job('b') as job:
        clock = Clock(job, NOON + 1.5 * HOUR)
        job.every(3600, 'run', name='work')(lambda tick: ran.append(tick.scheduled))
        clock.settle(NOON + 1.5 * HOUR)
        assert ran == []
        clock.settle(NOON + 2 * HOUR)
    assert ran == [NOON + 2 * HOUR]


@pytest.mark.any_store
def test_a_clock_that_is_set_back_far(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """No tick before the last one is run, as it may have been run already; the log says once until when."""
    ran: list[dt.datetime] = []
    with store.job('a') as job:
        clock = Clock(job, NOON)
        job.every(60, name='work')(lambda tick: ran.append(tick.scheduled))
        clock.settle(NOON + 3 * HOUR)
        (each,) = job._scheduler._all.values()
        clock.set(NOON)
        wait_until(lambda: 'set back' in caplog.text, 'it is logged')
        for minute in (1, 2):
            clock.set(NOON + dt.timedelta(minutes=minute))
            job._scheduler.step(each)
            assert not each.is_busy
        clock.settle(NOON + 4 * HOUR)
    assert ran[-2:] == [NOON + 3 * HOUR, NOON + 4 * HOUR]
    (line,) = (record.getMessage() for record in caplog.records if 'set back' in record.getMessage())
    assert "'work' runs again after its tick of 2026-" in line


@pytest.mark.any_store
def test_few_of_many_ticks_are_begun_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a connection to the store until its function is called: of hundreds at midnight a server refuses most."""
    begun, ran, release = list[TickRecord](), list[str](), threading.Event()
    stepped, step, read_claims = list[Scheduled](), Scheduler.step, TickRecord.read_claims

    def count(scheduler: Scheduler, each: Scheduled) -> float:
        at = step(scheduler, each)
        stepped.append(each)
        return at

    def slow(record: TickRecord, *, is_unbegun_here: bool) -> list[Claim]:
        begun.append(record)
        release.wait(DEADLINE_SEC)
        return read_claims(record, is_unbegun_here=is_unbegun_here)

    monkeypatch.setattr(Scheduler, 'step', count)
    monkeypatch.setattr(TickRecord, 'read_claims', slow)
    with store.job('a') as job:
        clock = Clock(job, NOON)
        for number in range(20):
            job.every(3600, name=f'work {number}')(lambda tick: ran.append(tick.id))
        wait_until(lambda: len(begun) >= 8, 'eight are begun')
        stepped.clear()
        wait_until(lambda: len(stepped) > 2 * 20, 'all others are looked at')
        assert sum(each.is_busy for each in job._scheduler._all.values()) == 8
        release.set()
        clock.settle(NOON)
    assert len(set(ran)) == len(ran) == 20


@pytest.mark.any_store
def test_a_tick_that_takes_longer_than_the_next(store: Store) -> None:
    """No tick begins while one is run; afterwards the latest does."""
    ran: list[dt.datetime] = []
    running, most, release = [], [0], threading.Event()

    def work(tick: Tick) -> None:
        running.append(tick)
        most[0] = max(most[0], len(running))
        release.wait(DEADLINE_SEC)
        running.remove(tick)
        ran.append(tick.scheduled)

    with store.job('a') as job:
        clock = Clock(job, NOON)
        job.every(1, 'run')(work)
        wait_until(lambda: running, 'it runs')
        for seconds in range(1, 6):
            clock.set(NOON + dt.timedelta(seconds=seconds))
        release.set()
        clock.settle(NOON + dt.timedelta(seconds=5))
        assert (ran, most) == ([NOON, NOON + dt.timedelta(seconds=5)], [1])


@pytest.mark.any_store
@pytest.mark.parametrize('misfire', ['skip', 'run'])
def test_a_function_that_raises(store: Store, misfire: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged, the tick stays incomplete and is not tried again by this node; the next tick is run."""
    ran: list[dt.datetime] = []

    def work(tick: Tick) -> None:
        ran.append(tick.scheduled)
        if len(ran) == 1:
            raise SystemExit('not now')

    with store.job('a', date=NOON.date()) as job:
        clock = Clock(job, NOON)
        job.every(3600, misfire)(work)
        clock.settle(NOON)
        clock.settle(NOON + HOUR / 2)
        clock.settle(NOON + HOUR)
        wait_until(lambda: f'tick {item(NOON)} raised, and stays incomplete' in caplog.text, 'it is logged')
        assert [row.item for row in store.handle.incomplete(NOON.date(), dt.timedelta(0))] == [item(NOON)]
        assert job.get_incomplete_tasks(0) == []  # a loop over them would take it for a task, and complete it
    assert ran == [NOON, NOON + HOUR]
    failed = [each for each in audits(store) if each.startswith(f'{item(NOON)} failed ')]
    assert (len(failed), audits(store)) == (misfire == 'run', [*failed, item(NOON + HOUR)])


@pytest.mark.any_store
@pytest.mark.parametrize('kind', ['coroutine', 'generator', 'async_generator'])
def test_a_wrapper_whose_call_runs_nothing(store: Store, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function, a decorator's say, that returns what nobody runs: the tick is not complete, and the log says why."""

    async def coroutine() -> None:
        raise AssertionError('it is not run')

    def generator() -> Iterator[None]:
        yield

    async def async_generator() -> AsyncIterator[None]:
        yield

    made: dict[str, Callable[[], object]] = {
        'coroutine': lambda: coroutine(),
        'generator': lambda: generator(),
        'async_generator': lambda: async_generator(),
    }
    with store.job('a', date=NOON.date()) as job:
        clock = Clock(job, NOON)
        job.every(3600, name='work')(made[kind])
        clock.settle(NOON)
        wait_until(lambda: f'tick {item(NOON)} raised, and stays incomplete' in caplog.text, 'it is logged')
        assert f'has returned <{kind} object' in caplog.text
        assert [row.item for row in store.handle.incomplete(NOON.date(), dt.timedelta(0))] == [item(NOON)]


@pytest.mark.any_store
@pytest.mark.parametrize('fails', [False, True])
def test_a_tick_is_over_with_its_function(store: Store, fails: bool) -> None:
    """A thread that the function has started does not go on beside the next tick."""
    ticks: list[Tick] = []

    def work(tick: Tick) -> None:
        assert tick
        ticks.append(tick)
        if fails:
            raise ZeroDivisionError

    with store.job('a') as job:
        clock = Clock(job, NOON)
        job.every(3600)(work)
        clock.settle(NOON)
        assert [bool(tick) for tick in ticks] == [False]


@pytest.mark.any_store
def test_a_tick_that_ends_too_late_has_no_second_record(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A run that was evicted while it was at a tick does not record it: the next owner has run it again, and has."""
    during = threading.Event()
    release = threading.Event()
    ticks: list[Tick] = []

    def work(tick: Tick) -> None:
        ticks.append(tick)
        during.set()
        release.wait(DEADLINE_SEC)

    with store.job('a') as job:
        Clock(job, NOON)
        job.every(3600, 'run')(work)
        assert during.wait(DEADLINE_SEC)
        assert ticks[0]
        store.evict('a')
        wait_until(lambda: not ticks[0], 'the tick has seen it')
        wait_until(lambda: job.can_claim_task('every:work'), 'the node is back, as another run')
        release.set()
        wait_until(lambda: 'has ended and is not recorded as complete' in caplog.text, 'it says so')
        wait_until(lambda: audits(store), 'it is run again')
    assert (audits(store), len(ticks)) == ([item(NOON)], 2)


@pytest.mark.any_store
def test_no_tick_while_the_store_is_away(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What the store refuses is tried again, whether before the tick or after it; the function runs once."""
    from jobsync.backend import BackendOptions

    monkeypatch.setattr(scheduler, '_AGAIN_SEC', 0.01)
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    ran: list[dt.datetime] = []
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.1}) as job:
        clock = Clock(job, NOON)
        backend.faults += [Fault('history', times=3), Fault('append_audits', times=3)]
        job.every(3600, name='work')(lambda tick: ran.append(tick.scheduled))
        clock.settle(NOON)
        assert (ran, audits(store)) == ([NOON], [item(NOON)])
    backend.inner.close()


# --- the job around it --------------------------------------------------------------------------------------------------------


@pytest.mark.any_store
def test_leaving_waits_for_a_tick(store: Store) -> None:
    """A function under way is waited for, sees that its tick is over, and is recorded; no other one begins."""
    ticks, ended = list[Tick](), threading.Event()

    def work(tick: Tick) -> None:
        ticks.append(tick)
        wait_until(lambda: not tick, 'the job leaves')
        ended.set()

    job = store.job('a')
    clock = Clock(job, NOON)
    assert job.every(1)(work) is work  # before the block
    with job:
        wait_until(lambda: ticks, 'it runs')
        with pytest.raises(ConfigError, match='scheduled already'):
            job.every(1)(work)
    assert ended.is_set()
    clock.set(NOON + HOUR)
    assert (len(ticks), audits(store)) == (1, [item(NOON)])
    assert 'jobsync-every-a' not in [thread.name for thread in threading.enumerate() if not thread.daemon]


@pytest.mark.any_store
def test_run_scheduled_waits_until_the_job_is_to_leave(store: Store) -> None:
    """It returns when another thread leaves; before the block it is refused."""
    with store.job('a') as job:
        with pytest.raises(JobsyncError, match='outside'):
            store.job('b').run_scheduled()
        waiting = threading.Thread(target=job.run_scheduled)
        waiting.start()
        assert waiting.is_alive()
    waiting.join(DEADLINE_SEC)
    assert not waiting.is_alive()


@pytest.mark.any_store
def test_a_function_for_which_no_thread_can_be_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and accepted the next time, under the same name."""
    has_run = threading.Event()
    with store.job('a') as job:
        with monkeypatch.context() as patched:
            patched.setattr(threads, 'start', Mock(side_effect=RuntimeError))
            with pytest.raises(JobsyncError, match='no thread for the schedule'):
                job.every(0.1, name='work')(has_run.set)
        job.every(0.1, name='work')(has_run.set)
        assert has_run.wait(DEADLINE_SEC)


@pytest.mark.any_store
def test_without_coordination(store: Store) -> None:
    """The one node runs each tick; what the store has as complete is not run again."""
    ran: list[dt.datetime] = []
    for backend in (store.url, None):
        for hours in (0, 3):
            with Job('a', coordination_config=CoordinationConfig(enabled=False, backend=backend)) as job:
                clock = Clock(job, NOON)
                job.every(3600, 'run', name='work')(lambda tick: ran.append(tick.scheduled))
                clock.settle(NOON)
                clock.settle(NOON + hours * HOUR + HOUR / 2)
    assert ran == [NOON, NOON + 3 * HOUR, NOON, NOON]
    assert audits(store) == [item(NOON), item(NOON + 3 * HOUR)]


def test_what_is_not_allowed() -> None:
    """Each is refused where the function is registered."""
    job = Job('a', coordination_config=CoordinationConfig(enabled=False))
    with pytest.raises(ConfigError, match=r"misfire is 'no' .*: must be one of skip, run"):
        job.every(1, 'no')
    with pytest.raises(ConfigError, match=r'name is .*lambda'):
        job.every(1)(lambda: None)
    for wrong in (None, 5, lambda one, two: None):
        with pytest.raises(ConfigError, match='function is'):
            job.every(1, name='x')(wrong)  # type: ignore[type-var]
    job._session._pid = -1
    with pytest.raises(WrongProcess):
        job.every(1)


@pytest.mark.parametrize('kind', [Job, AsyncJob])
def test_a_function_without_a_name_needs_one(kind: type[Job] | type[AsyncJob]) -> None:
    """What is made of a function has no name of its own, and gets none that two of them would share in the cluster."""
    job = kind('a', coordination_config=CoordinationConfig(enabled=False))
    made = partial(lambda what, tick: None, 'x')
    with pytest.raises(ConfigError, match='name is'):
        job.every(1)(made)
    job.every(1, name='x')(made)


@pytest.mark.any_store
def test_coroutines_run_on_the_event_loop(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """They are cancelled with a hurried job, and their tick stays incomplete then; other functions run in threads."""
    where: dict[str, Any] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        job = store.async_job('a', date=NOON.date())
        Clock(job._job, NOON)

        @job.every(3600)
        async def coroutine(tick: Tick) -> None:
            where['coroutine'] = asyncio.get_running_loop()
            assert tick

        @job.every(3600)
        def function() -> None:
            where['thread'] = threading.current_thread().name

        @job.every(3600)
        async def endless() -> None:
            where['endless'] = True
            await asyncio.sleep(10 * DEADLINE_SEC)

        async with job:
            while len(where) < 3 or len(await job.get_audit()) < 2:
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(job.run_scheduled())
            await asyncio.sleep(0)
            assert not waiting.done()
            job._hurry()
        await waiting
        assert where['coroutine'] is loop

    asyncio.run(asyncio.wait_for(main(), DEADLINE_SEC))
    assert where['thread'] == 'jobsync-tick-a'
    assert sorted(audits(store)) == [item(NOON, 'coroutine'), item(NOON, 'function')]
    wait_until(lambda: f'{item(NOON, "endless")} was cancelled before its end' in caplog.text, 'it is logged')
    assert 'raised' not in caplog.text


def test_a_coroutine_of_a_job_that_has_left_is_not_complete() -> None:
    """It was not run, so the call raises."""
    ran: list[int] = []

    async def main() -> None:
        job = AsyncJob('a', coordination_config=CoordinationConfig(enabled=False))

        @job.every(1)
        async def work() -> None:
            ran.append(1)

        with pytest.raises(JobsyncError, match='has left'):
            job._job._scheduler._all['work'].function(None)  # type: ignore[arg-type]

    asyncio.run(main())
    assert ran == []


def test_the_time_is_the_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's wall clock is not read; the store's is read once a minute, and counted on in between and through an outage."""
    monotonic = [1000.0]
    monkeypatch.setattr(store_clock, 'clock', SimpleNamespace(now=lambda: monotonic[0]))
    monkeypatch.setattr(time, 'time', lambda: 0.0)
    answers: list[Any] = [BackendUnavailable('away'), NOON, BackendUnavailable('away'), NOON + HOUR]

    def snapshot() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(now=answer)

    session = SimpleNamespace(backend=SimpleNamespace(snapshot=snapshot), caller=SimpleNamespace(call=lambda act, while_: act()))
    clock = StoreClock(session)  # type: ignore[arg-type]
    assert clock.read() is None
    monotonic[0] += 1
    assert clock.read() == NOON
    monotonic[0] += 59
    assert clock.read() == NOON + dt.timedelta(seconds=59)
    monotonic[0] += 1
    assert clock.read() == NOON + dt.timedelta(seconds=60)  # the store does not answer
    monotonic[0] += 1
    assert clock.read() == NOON + HOUR
    assert answers == []
