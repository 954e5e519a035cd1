"""Times are the store's: a process whose wall clock is wrong writes the times that any other process would write."""

from __future__ import annotations

import copyreg
import datetime as dt
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from threading import Event, Thread
from typing import Any

import pytest

from jobsync.backend import INITIAL, HistoryKind, LockEdit, LockFilter, NodeRef, Reach, TokenGroup
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import DAY as DATE
from jobsync.testing.conformance.namespace import NAMESPACE, Namespace
from jobsync.testing.conformance.processes import common, processes, receive
from jobsync.testing.conformance.write_history import COMMON

__all__ = ['ClockTests', 'shift_wall_clock']

MONTH, DAY, HOUR = dt.timedelta(days=30), dt.timedelta(days=1), dt.timedelta(hours=1)
ZONES = 'BEHIND+11', 'AHEAD-13'
"""Timezones of a process, the first far behind UTC and the second far ahead of it: one date begins a day apart in them."""
BEAT_SEC = 0.1
OTHERS = 4
"""Number of nodes whose clocks are right."""


def shift_wall_clock(by: dt.timedelta) -> None:
    """Shift every time that Python code of this process reads from its wall clock."""
    real: Any = dt.datetime
    time_of, time_ns_of, seconds = time.time, time.time_ns, by.total_seconds()

    class ShiftedType(type):
        """Lets times of the real type pass as instances of the shifted one."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

    class Shifted(real, metaclass=ShiftedType):  # type: ignore[misc]  # a class that is known at run time
        """A ``datetime`` whose clock is shifted. Every value is of the real type."""

        def __new__(cls, *args: Any, **fields: Any) -> Any:
            return real(*args, **fields)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return real.now(tz) + by

        @classmethod
        def utcnow(cls) -> Any:
            return real.now(dt.UTC).replace(tzinfo=None) + by

        @classmethod
        def today(cls) -> Any:
            return real.now() + by

    def shifted_time() -> float:
        # gRPC passes a deadline by this clock to its C library, whose own clock is right.
        caller = sys._getframe(1).f_globals.get('__name__', '')
        return time_of() + (0 if caller.startswith('grpc.') else seconds)

    # A store may keep its records as pickles. Those name the type of a time, and what has that name must be the type.
    Shifted.__module__, Shifted.__qualname__ = real.__module__, real.__qualname__
    copyreg.pickle(real, lambda value: (Shifted, *value.__reduce_ex__(2)[1:]))
    dt.datetime = Shifted  # type: ignore[misc]
    time.time = shifted_time
    time.time_ns = lambda: time_ns_of() + int(seconds * 1e9)


def write_with_a_wrong_clock(by: dt.timedelta, namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Make every write that has a time, with this process's clock set wrong; return what was removed and read."""
    shift_wall_clock(by)
    ref = namespace.join('wrong')
    for _ in range(3):
        namespace.beat(ref)
        pipe.send('beaten')
        pipe.recv()
    namespace.lock('short', expires_in=HOUR)
    namespace.lock('old', expires_in=dt.timedelta(0))
    removed = namespace.backend.edit_locks(LockEdit(remove=LockFilter(expired=True)))
    namespace.claim(ref, 'x', 'y')
    namespace.audit('wrong', 'x')
    namespace.lead(ref)
    namespace.commit(ref, TokenGroup([1], 'wrong'), moved=1)
    late = [claim.item for claim in namespace.backend.incomplete(DATE, HOUR)]
    early = [claim.item for claim in namespace.backend.incomplete(DATE, dt.timedelta(0))]
    return removed, late, early, namespace.snapshot().now


class ClockTests:
    """On a store that several machines reach, no time is that of one caller's wall clock: locks would expire at random."""

    @needs(Ability.PROCESSES)
    @pytest.mark.parametrize('by', [MONTH, -MONTH], ids=['ahead', 'behind'])
    def test_a_wrong_wall_clock_makes_no_difference(self, harness: Harness, by: dt.timedelta) -> None:
        """A node whose clock is wrong by a month writes and reads the store's times, while other clocks are right: its locks
        expire when they should, and its claims have their true age.
        """
        if harness.connect(NAMESPACE).info.reach is not Reach.NETWORK:
            pytest.skip('all callers are on one host, and share its clock')
        namespace = common(harness)
        namespace.lock('week', expires_in=7 * DAY)
        refs = [namespace.join(f'n{number}') for number in range(OTHERS)]
        before = namespace.snapshot().now
        with (
            beating(harness, [*refs, COMMON]),
            processes(harness, partial(write_with_a_wrong_clock, by), 1) as ((_, pipe),),
        ):
            for _ in range(3):
                assert receive(pipe) == 'beaten'
                for ref in refs:
                    namespace.beat(ref)
                pipe.send('go on')
            removed, late, early, theirs = receive(pipe)
            after = namespace.snapshot().now
        assert (removed, late, early) == (1, [], ['y'])
        assert set(namespace.locks()) == {'week', 'short'}
        times = {
            'snapshot': theirs,
            'registration': namespace.node('wrong').created_on,
            'lock': namespace.locks()['short'].created_at,
            'end of a lock': (namespace.locks()['short'].expires_at or before) - HOUR,
            'claim': namespace.claims(item='x')[0].created_on,
            'audit': namespace.audits()[0].created_on,
            'rebalance': namespace.rebalances()[0].triggered_at,
        }
        wrong = {what: time for what, time in times.items() if not before - HOUR / 4 <= time <= after + HOUR / 4}
        assert not wrong, f'between {before} and {after}, by the clock of the store'

    def test_the_timezone_of_a_process_makes_no_difference(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a process of one timezone writes, a process of any other reads: the same times and the same dates."""
        if not hasattr(time, 'tzset'):
            pytest.skip('this system sets no timezone for a process')
        states, now = {}, dict[str, dt.datetime]()
        try:
            for number, zone in enumerate(ZONES):
                monkeypatch.setenv('TZ', zone)
                time.tzset()
                writer = Namespace(harness.connect())
                write_in_a_timezone(writer, f'n{number}', DATE + number * DAY)
                now[zone] = writer.snapshot().now
            for zone in ZONES:
                monkeypatch.setenv('TZ', zone)
                time.tzset()
                reader = Namespace(harness.connect())
                states[zone] = reader.state()
                assert reader.backend.incomplete(None, HOUR) == ()
                assert [reader.purge(kind, now[zone] - HOUR) for kind in HistoryKind] == [0, 0, 0]
                assert reader.backend.edit_locks(LockEdit(remove=LockFilter(expired=True))) == 0
        finally:
            monkeypatch.undo()
            time.tzset()
        first, *others = states.values()
        assert others == [first] * len(others)
        assert {claim.date for claim in first.claims} == {audit.date for audit in first.audits} == {DATE, DATE + DAY}
        assert max(now.values()) - min(now.values()) < 12 * HOUR


def write_in_a_timezone(namespace: Namespace, name: str, date: dt.date) -> None:
    """Make every write that has a time or a date."""
    leader = namespace.leader(name)
    namespace.lock(f'task of {name}', expires_in=HOUR)
    namespace.claim(leader, 'x', 'y', date=date)
    namespace.audit(name, 'x', date=date)
    namespace.commit(leader, TokenGroup([1], name), moved=1)


@contextmanager
def beating(harness: Harness, refs: list[NodeRef]) -> Iterator[None]:
    """Send heartbeats of these nodes for the length of the block."""
    over = Event()

    def beat() -> None:
        backend = harness.connect(NAMESPACE)
        while not over.wait(BEAT_SEC):
            for ref in refs:
                try:
                    backend.heartbeat(ref, INITIAL, frozenset())
                except BackendUnavailable:
                    break

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
