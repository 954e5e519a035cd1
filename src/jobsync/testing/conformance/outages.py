"""What happens to a store from outside: it restarts, or is away for a while."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from jobsync.backend import INITIAL, Backend, HistoryKind, LockEdit, LockFilter, LockRequest, NodeRef, Registration, TokenGroup
from jobsync.errors import BackendUnavailable, Conflict, Evicted, NameTaken, SchemaMismatch
from jobsync.testing.conformance.external_changes import DAY, something_of_everything
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import SETTINGS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC, race

__all__ = ['OutageTests', 'RefusalTests', 'RepetitionTests']

LIMIT_SEC = DEADLINE_SEC / 4
"""For a call that is given a second: a limit against hanging."""
KILLS = 3


def eventually(call: Callable[[], object]) -> None:
    """Repeat a call while the store is not back yet."""
    deadline = time.monotonic() + DEADLINE_SEC
    while True:
        try:
            call()
        except BackendUnavailable:
            assert time.monotonic() < deadline, f'still unavailable after {DEADLINE_SEC} s'
            time.sleep(0.01)
        else:
            return


def outcome_within(seconds: float, call: Callable[[], object]) -> object:
    """What a call returns or raises; fails if that takes longer."""
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(call())
        except Exception as error:  # noqa: BLE001 - the test judges it
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, f'{call} has not ended after {seconds} s'
    return ended[0]


class OutageTests:
    """The store goes away and comes back."""

    @needs(Ability.RESTART)
    def test_acknowledged_writes_survive(self, namespace: Namespace, harness: Harness) -> None:
        """After a restart a durable store has everything it acknowledged, its identity included."""
        if not namespace.backend.info.durable:
            pytest.skip('the backend does not declare durable')
        something_of_everything(namespace)
        before = namespace.state()
        harness.restart()
        assert Namespace(harness.connect()).state() == before

    @needs(Ability.RESTART)
    def test_handles_outlive_a_restart(self, namespace: Namespace, harness: Harness) -> None:
        """A handle that was open goes on by itself once the store is back, at worst after ``BackendUnavailable``."""
        namespace.join('a')
        harness.restart()
        eventually(partial(namespace.backend.open, SETTINGS, True))
        namespace.timeline = namespace.snapshot().timeline
        ref = namespace.join('b')
        assert namespace.beat(ref).heartbeat == 1

    @needs(Ability.OUTAGE)
    def test_every_call_says_that_the_store_is_away(self, harness: Harness) -> None:
        """While the store is away each method but ``wait`` and ``close`` raises ``BackendUnavailable`` within its time."""
        namespace, backend = Namespace(harness.connect()), harness.connect(op_timeout_sec=0.3, bulk_timeout_sec=0.3)
        leader = something_of_everything(namespace)
        eventually(partial(backend.open, SETTINGS, True))
        plan, guard, timeline = namespace.plan(), namespace.guard(), namespace.timeline
        calls: list[Callable[[], object]] = [
            partial(backend.open, SETTINGS, True),
            partial(backend.renew_timeline, timeline, 0),
            partial(backend.register, Registration(namespace.ref('b'), 15.0), timeline, 0),
            partial(backend.heartbeat, leader, INITIAL, frozenset()),
            partial(backend.set_weight, leader, 2.0),
            partial(backend.deregister, leader),
            partial(backend.acquire_leadership, leader, 1),
            backend.snapshot,
            backend.read_assignment,
            partial(backend.commit, leader, plan, guard),
            backend.read_locks,
            partial(backend.edit_locks, LockEdit(remove=LockFilter())),
            partial(backend.append_claims, leader, ['z'], DAY),
            partial(backend.append_audits, 'leader', ['z'], DAY),
            partial(backend.history, HistoryKind.CLAIM),
            partial(backend.incomplete, DAY, dt.timedelta(0)),
            partial(backend.purge, HistoryKind.AUDIT, dt.datetime.now(dt.UTC)),
        ]
        number = namespace.revision.number
        harness.stop()
        try:
            for call in calls:
                ended = outcome_within(LIMIT_SEC, call)
                assert isinstance(ended, BackendUnavailable), ended
            assert outcome_within(LIMIT_SEC, partial(backend.wait, number, 0.1)) == number
        finally:
            harness.start()
        eventually(backend.snapshot)

    @needs(Ability.CRASH)
    def test_writes_acknowledged_under_load_survive(self, namespace: Namespace, harness: Harness) -> None:
        """The store is killed again and again while several write: whatever it had acknowledged to any of them is there."""
        backends = [harness.connect() for _ in 'abc']
        for backend in backends:
            backend.open(SETTINGS, create=True)
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

        jobs: list[Callable[[], list[str]]] = [kill, *(partial(write, *each) for each in zip(backends, 'abc', strict=True))]
        acknowledged: list[str] = []
        for found in race(jobs, 4 * DEADLINE_SEC):
            assert isinstance(found, list), found
            acknowledged += found
        if not namespace.backend.info.durable:
            pytest.skip('the backend does not declare durable')
        assert set(acknowledged) <= {audit.item for audit in namespace.audits()} | set(namespace.locks())

    @needs(Ability.CRASH)
    def test_wait_outlives_a_crash(self, namespace: Namespace, harness: Harness) -> None:
        """Whoever waits while the store crashes hears of the next change, or is told to look."""
        waiter = harness.connect()
        waiter.open(SETTINGS, create=True)
        namespace.join('a')
        number = namespace.revision.number
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(waiter.wait(number, 2 * DEADLINE_SEC)), daemon=True)
        thread.start()
        assert waiter.wait(number, 0.1) == number  # whoever waits is there by now
        harness.restart()
        eventually(partial(namespace.backend.open, SETTINGS, True))
        namespace.timeline = namespace.snapshot().timeline
        for name in ('b', 'c'):  # a store that forgot begins to count anew
            if namespace.revision.number <= number:
                namespace.join(name)
        thread.join(DEADLINE_SEC)
        assert answers, f'wait has not returned after {DEADLINE_SEC} s'

    @needs(Ability.OUTAGE)
    def test_close_while_the_store_is_away(self, harness: Harness) -> None:
        """``close`` does not need the store."""
        backend = harness.connect(op_timeout_sec=1.0)
        backend.open(SETTINGS, create=True)
        harness.stop()
        try:
            backend.close()
        finally:
            harness.start()


Unknown = Callable[[Namespace, Backend, NodeRef, NodeRef], tuple[Callable[[], object], Callable[[], int]]]
"""From a namespace, the handle to call, the leader and another node to a call, and to how often it has had its effect."""


def unknown_outcomes() -> dict[str, Unknown]:
    """Every call that changes something. A structural one shows in the revision, which must rise by one alone."""

    def structural(make: Callable[[Namespace, Backend, NodeRef, NodeRef], Callable[[], object]]) -> Unknown:
        def prepared(
            namespace: Namespace, handle: Backend, leader: NodeRef, ref: NodeRef
        ) -> tuple[Callable[[], object], Callable[[], int]]:
            call, before = make(namespace, handle, leader, ref), namespace.revision.number
            return call, lambda: namespace.revision.number - before

        return prepared

    def register(namespace: Namespace, handle: Backend, _leader: NodeRef, _ref: NodeRef) -> Callable[[], object]:
        return partial(handle.register, Registration(namespace.ref('new'), 15.0), namespace.timeline, 0)

    def commit(namespace: Namespace, handle: Backend, leader: NodeRef, _ref: NodeRef) -> Callable[[], object]:
        return partial(handle.commit, leader, namespace.plan(TokenGroup([1], 'b'), moved=1), namespace.guard())

    return {
        'register': structural(register),
        'commit': structural(commit),
        'set_weight': structural(lambda _, handle, __, ref: partial(handle.set_weight, ref, 2.0)),
        'deregister': structural(lambda _, handle, __, ref: partial(handle.deregister, ref)),
        'acquire_leadership': structural(lambda _, handle, __, ref: partial(handle.acquire_leadership, ref, 1)),
        'edit_locks': structural(
            lambda _, handle, *__: partial(handle.edit_locks, LockEdit(put=(LockRequest('x', ('a',), 'me'),)))
        ),
        'renew_timeline': structural(lambda namespace, handle, *_: partial(handle.renew_timeline, namespace.timeline, 0)),
        'append_claims': lambda namespace, handle, _, ref: (
            partial(handle.append_claims, ref, ['x'], DAY),
            lambda: len(namespace.claims()),
        ),
        'append_audits': lambda namespace, handle, *_: (
            partial(handle.append_audits, 'a', ['x'], DAY),
            lambda: len(namespace.audits()),
        ),
    }


LOCK = LockEdit(put=(LockRequest('x', ('a',), 'me'),))
UNKNOWN = unknown_outcomes()


class RefusalTests:
    """A store that answers readings and refuses writes: a full disk, a standby, replicas that are missing."""

    @needs(Ability.REFUSAL)
    @pytest.mark.parametrize('what', UNKNOWN)
    def test_a_refused_write_is_never_reported_as_success(self, harness: Harness, what: str) -> None:
        """It raises ``BackendUnavailable`` and has changed nothing; repeated once the store accepts writes, it happens once."""
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0, bulk_timeout_sec=1.0)
        leader, ref = namespace.leader(), namespace.join('a')
        namespace.commit(leader, TokenGroup([1], 'a'))
        eventually(partial(handle.open, SETTINGS, True))
        call, count = UNKNOWN[what](namespace, handle, leader, ref)
        before = namespace.state()
        harness.refuse_writes()
        try:
            ended = outcome_within(LIMIT_SEC, call)
            assert isinstance(ended, BackendUnavailable), ended
            assert namespace.state() == before
        finally:
            harness.accept_writes()
        eventually(call)
        assert count() == 1

    @needs(Ability.REFUSAL)
    def test_a_refused_heartbeat_does_not_count(self, harness: Harness) -> None:
        """A heartbeat that the store refuses raises, so that the lease ends, and the next one counts on from before."""
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0)
        ref = namespace.join('a')
        namespace.beat(ref)
        eventually(partial(handle.open, SETTINGS, True))
        harness.refuse_writes()
        try:
            ended = outcome_within(LIMIT_SEC, partial(handle.heartbeat, ref, INITIAL, frozenset({1})))
            assert isinstance(ended, BackendUnavailable), ended
            assert (namespace.node('a').heartbeat, namespace.node('a').holding) == (1, frozenset())
        finally:
            harness.accept_writes()
        eventually(partial(handle.heartbeat, ref, INITIAL, frozenset()))
        assert namespace.node('a').heartbeat == 2


class RepetitionTests:
    """Calls whose outcome nobody knows."""

    @needs(Ability.OUTAGE)
    @pytest.mark.parametrize('what', UNKNOWN)
    def test_a_call_of_unknown_outcome_is_repeated(self, harness: Harness, what: str) -> None:
        """What failed while the store was away, and is repeated verbatim once it is back, has happened exactly once."""
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0, bulk_timeout_sec=1.0)
        leader, ref = namespace.leader(), namespace.join('a')
        namespace.commit(leader, TokenGroup([1], 'a'))
        eventually(partial(handle.open, SETTINGS, True))
        call, count = UNKNOWN[what](namespace, handle, leader, ref)
        harness.stop()
        try:
            first = outcome_within(LIMIT_SEC, call)
        finally:
            harness.start()
        assert isinstance(first, BackendUnavailable), first
        eventually(namespace.backend.snapshot)
        with contextlib.suppress(NameTaken, Conflict, Evicted):
            eventually(call)
        assert count() == 1
