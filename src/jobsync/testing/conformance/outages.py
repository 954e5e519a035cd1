"""A store that restarts, crashes, or is away for a while."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest

from jobsync.backend import INITIAL, Backend, LockEdit, LockFilter, LockRequest, Member, NodeRef, Timeline, TokenGroup
from jobsync.errors import BackendUnavailable, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.calls import CALLS
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace, State, content
from jobsync.testing.conformance.threads import DEADLINE_SEC, LinesOfCalls, race
from jobsync.testing.conformance.waiting import Waiting

__all__ = ['LIMIT_SEC', 'SHORT_SEC', 'OutageTests', 'eventually', 'outage', 'outcome_within']

LIMIT_SEC = DEADLINE_SEC / 4
"""The limit for a call that has one second. It ends a test that hangs."""
SHORT_SEC, LATE_SEC = 0.3, 2.0
"""A short limit for a call, and when it is late."""
KILLS = 3
READINGS = ('snapshot', 'read_assignment', 'read_locks', 'history', 'incomplete', 'lost_attempts')
BUSY_WAIT = 'a wait that has no answer must last, or a node sends requests without a pause'


def eventually(call: Callable[[], object]) -> None:
    """Repeat a call while it raises ``BackendUnavailable``."""
    deadline = time.monotonic() + DEADLINE_SEC
    while True:
        try:
            call()
        except BackendUnavailable:
            assert time.monotonic() < deadline, f'still unavailable after {DEADLINE_SEC} s'
            time.sleep(0.01)
        else:
            return


@contextlib.contextmanager
def outage(harness: Harness) -> Iterator[None]:
    """Take the store away for the length of the block."""
    harness.stop()
    try:
        yield
    finally:
        harness.start()


def outcome_within(seconds: float, call: Callable[[], object]) -> object:
    """Return what a call returns or raises; fail if it takes longer than ``seconds``."""
    return race([call], seconds)[0]


class OutageTests:
    """The store goes away and comes back. Nodes keep their tokens only if handles and records survive that (P4)."""

    @needs(Ability.RESTART)
    def test_acknowledged_writes_survive(self, namespace: Namespace, harness: Harness) -> None:
        """After a restart a durable store has every write that it acknowledged, and the identity that it had."""
        if not namespace.backend.info.durable:
            pytest.skip('the backend does not declare durable')
        leader = namespace.populate()
        earlier = namespace.assignment()
        namespace.gone('left', ['lost'])
        namespace.lock('x', group='g', cost=0.5)
        namespace.lock('gone')
        highest = namespace.locks()['gone'].id
        namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'gone'}))))
        namespace.commit(leader, TokenGroup([1], 'a'), members={'leader': Member(leader.incarnation, 15.0)})
        namespace.backend.set_weight(leader, 2.5, stalled=True)
        namespace.beat(leader, candidate=False)
        before = namespace.state()
        harness.restart()
        after = Namespace(harness.connect())
        assert after.state() == before
        changes = after.backend.read_assignment(earlier.version)
        is_same = content(earlier.apply(changes)) == content(after.assignment())
        assert is_same, 'a difference from a version of before the restart lacks changes: answer in full where they are not known'
        after.lock('new')
        assert after.locks()['new'].id > highest, 'an id is used again after a restart'

    @needs(Ability.RESTART)
    def test_handles_outlive_a_restart(self, namespace: Namespace, harness: Harness) -> None:
        """An open handle works again once the store is back, at worst after some ``BackendUnavailable``, and reads what others
        have written since.
        """
        namespace.join('a')
        other = Namespace(harness.connect())
        other.state()
        harness.restart()
        eventually(partial(namespace.backend.open, SETTINGS, True))
        namespace.timeline = namespace.snapshot().timeline
        ref = namespace.leader('b')
        assert namespace.beat(ref).heartbeat == 1
        namespace.lock('x')
        namespace.commit(ref, TokenGroup([1], 'b'), moved=1)
        found = list[State]()
        eventually(lambda: found.append(other.state()))
        is_same = found == [namespace.state()]
        assert is_same, 'another handle reads what was there before the restart: after a lost connection nothing it knows counts'

    @needs(Ability.OUTAGE)
    def test_every_call_fails_in_time_while_the_store_is_away(self, harness: Harness) -> None:
        """While the store is away, each method except ``wait`` and ``close`` raises ``BackendUnavailable`` within its time."""
        namespace, backend = Namespace(harness.connect()), harness.connect(op_timeout_sec=0.3, bulk_timeout_sec=0.3)
        leader = namespace.populate()
        eventually(partial(backend.open, SETTINGS, True))
        timeline, number = namespace.timeline, namespace.revision.number
        openings: dict[str, Callable[[Backend, Timeline, NodeRef], object]] = {
            'open': lambda backend, *_: backend.open(SETTINGS, True),
            'open that only reads': lambda backend, *_: backend.open(None, False),
        }
        for reading in READINGS:  # what a handle has read before is no answer in an outage
            eventually(partial(CALLS[reading], backend, timeline, leader))
        with outage(harness), LinesOfCalls():
            for method, call in {**openings, **CALLS}.items():
                ended = outcome_within(LIMIT_SEC, partial(call, backend, timeline, leader))
                assert isinstance(ended, BackendUnavailable), f'{method} while the store is away: {ended!r}'
            begin = time.monotonic()
            assert outcome_within(LIMIT_SEC, partial(backend.wait, number, SHORT_SEC)) == number
            assert time.monotonic() - begin >= SHORT_SEC / 2, BUSY_WAIT
        eventually(backend.snapshot)

    @needs(Ability.OUTAGE)
    def test_a_node_may_start_while_the_store_is_away(self, harness: Harness) -> None:
        """A handle made while the store is away says what it declares, raises ``BackendUnavailable``, and works afterwards."""
        Namespace(harness.connect())
        with outage(harness):
            backend = harness.connect(op_timeout_sec=SHORT_SEC, bulk_timeout_sec=SHORT_SEC)
            assert backend.info == harness.connect().info
            calls: list[Callable[[], object]] = [partial(backend.open, SETTINGS, True), backend.snapshot, backend.read_locks]
            if backend.info.namespaces:
                calls.append(partial(backend.read_namespaces, 10))  # type: ignore[attr-defined]
            for call in calls:
                ended = outcome_within(LIMIT_SEC, call)
                assert isinstance(ended, BackendUnavailable), (call, ended)
            begin = time.monotonic()
            assert outcome_within(LIMIT_SEC, partial(backend.wait, 5, SHORT_SEC)) == 5
            assert time.monotonic() - begin >= SHORT_SEC / 2, BUSY_WAIT
        eventually(partial(backend.open, SETTINGS, True))

    @needs(Ability.OUTAGE)
    @pytest.mark.parametrize('method', ['heartbeat', 'snapshot', 'commit', 'read_locks'])
    def test_the_limit_of_a_call_is_that_of_its_handle(self, harness: Harness, method: str) -> None:
        """While the store is away, a call with a short limit ends, though one with a long limit, which began before, goes on."""
        namespace = Namespace(harness.connect())
        leader, timeline = namespace.leader(), namespace.timeline
        long, short = 2 * LIMIT_SEC, SHORT_SEC
        patient = Namespace(harness.connect(op_timeout_sec=long, bulk_timeout_sec=long)).backend
        hurried = harness.connect(op_timeout_sec=short, bulk_timeout_sec=short)
        eventually(partial(hurried.open, SETTINGS, True))

        def outcome(backend: Backend) -> object:
            try:
                return CALLS[method](backend, timeline, leader)
            except JobsyncError as error:
                return error

        with outage(harness):
            first = threading.Thread(target=outcome, args=(patient,), daemon=True)
            first.start()
            first.join(short)
            begin = time.monotonic()
            assert isinstance(outcome(hurried), BackendUnavailable)
            took = time.monotonic() - begin
            # A store that refuses connections may fail both at once. On a busy machine a short call may take long.
            assert took < LATE_SEC or first.is_alive(), f'{took:.1f} s with a limit of {short} s'
        first.join(DEADLINE_SEC)

    @needs(Ability.OUTAGE)
    def test_a_bulk_call_holds_up_no_heartbeat(self, harness: Harness) -> None:
        """While the store is away, a heartbeat ends within its own limit, though a bulk call of the same handle goes on."""
        ref = Namespace(harness.connect()).join('a')
        backend = harness.connect(op_timeout_sec=SHORT_SEC, bulk_timeout_sec=2 * LIMIT_SEC)
        eventually(partial(backend.open, SETTINGS, True))

        def read() -> None:
            with contextlib.suppress(JobsyncError):
                backend.read_assignment()

        with outage(harness):
            bulk = threading.Thread(target=read, daemon=True)
            bulk.start()
            bulk.join(SHORT_SEC)
            begin = time.monotonic()
            ended = outcome_within(4 * LIMIT_SEC, partial(backend.heartbeat, ref, INITIAL, frozenset()))
            took = time.monotonic() - begin
            assert isinstance(ended, BackendUnavailable), ended
            # As above: on a busy machine a short call may take long.
            assert took < min(LATE_SEC, LIMIT_SEC) or bulk.is_alive(), (
                f'a heartbeat with a limit of {SHORT_SEC} s took {took:.1f} s: it has waited for the bulk call'
            )
        bulk.join(DEADLINE_SEC)

    @needs(Ability.OUTAGE)
    def test_a_wall_clock_that_goes_back_lengthens_no_call(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the store is away, a call and a wait end in their time, though the wall clock of the process is set back."""
        ref, backend = Namespace(harness.connect()).join('a'), harness.connect(op_timeout_sec=SHORT_SEC)
        eventually(partial(backend.open, SETTINGS, True))
        number, real, hours = backend.snapshot().revision.number, time.time, itertools.count()

        def set_back() -> float:
            # As in ``clocks``: gRPC passes this time on to its C library.
            caller = sys._getframe(1).f_globals.get('__name__', '')
            return real() - (0 if caller.startswith('grpc.') else 3600 * next(hours))

        with outage(harness), monkeypatch.context() as patch:
            patch.setattr(time, 'time', set_back)
            ended = outcome_within(LIMIT_SEC, partial(backend.heartbeat, ref, INITIAL, frozenset()))
            assert isinstance(ended, BackendUnavailable), ended
            assert outcome_within(LIMIT_SEC, partial(backend.wait, number, SHORT_SEC)) == number

    @needs(Ability.CRASH)
    def test_writes_acknowledged_under_load_survive(self, namespace: Namespace, harness: Harness) -> None:
        """After a durable store was killed several times under load, every write that it acknowledged is present."""
        backends = [Namespace(harness.connect()).backend for _ in 'abc']
        enough, over = threading.Semaphore(0), threading.Event()

        def write(backend: Backend, writer: str) -> list[str]:
            written: list[str] = []
            for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
                item = f'{writer} {number}'
                try:
                    if number % 2:
                        backend.append_audits('a', [item], DAY)
                    else:
                        backend.edit_locks(LockEdit(put=(LockRequest(item, ('a%',), writer),)))
                except (BackendUnavailable, SchemaMismatch):
                    time.sleep(0.01)
                else:
                    written.append(item)
                    enough.release()
            return written

        def kill() -> list[str]:
            random = Random(1)
            try:
                for _ in range(KILLS):
                    for _ in range(random.randint(5, 30)):
                        assert enough.acquire(timeout=DEADLINE_SEC)
                    harness.restart()
                    eventually(partial(namespace.backend.open, SETTINGS, True))
            finally:
                over.set()
            return []

        writes = [partial(write, *each) for each in zip(backends, 'abc', strict=True)]
        acknowledged = set[str]()
        for found in race([kill, *writes], 4 * DEADLINE_SEC):
            assert isinstance(found, list), found
            acknowledged.update(found)
        if not namespace.backend.info.durable:
            pytest.skip('the backend does not declare durable')
        assert acknowledged <= {audit.item for audit in namespace.audits()} | set(namespace.locks())

    @needs(Ability.CRASH)
    def test_wait_outlives_a_crash(self, namespace: Namespace, harness: Harness) -> None:
        """A ``wait`` that runs while the store crashes returns at the next change at latest, and so does the next one."""
        waiter = Namespace(harness.connect()).backend
        namespace.join('a')
        number = namespace.revision.number
        waiting = Waiting(waiter.wait, number, 2 * DEADLINE_SEC)
        assert waiter.wait(number, 0.1) == number  # the other wait has begun by now
        harness.restart()
        eventually(partial(namespace.backend.open, SETTINGS, True))
        namespace.timeline = namespace.snapshot().timeline
        for name in ('b', 'c'):  # a store that lost its records counts from 0
            if namespace.revision.number <= number:
                namespace.join(name)
        waiting.answer()
        number = namespace.revision.number
        later = Waiting(waiter.wait, number, 2 * DEADLINE_SEC)
        assert waiter.wait(number, 0.1) == number  # the other wait has begun by now
        namespace.join('d')
        assert later.answer() > number

    @needs(Ability.OUTAGE)
    def test_close_while_the_store_is_away(self, harness: Harness) -> None:
        """``close`` returns while the store is away, and ends a ``wait`` that is under way."""
        backend = Namespace(harness.connect(op_timeout_sec=1.0)).backend
        waiting = Waiting(backend.wait, backend.snapshot().revision.number, 2 * DEADLINE_SEC)
        with outage(harness):
            assert outcome_within(LIMIT_SEC, backend.close) is None
            waiting.answer()
