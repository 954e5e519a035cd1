"""``on_assign``, ``on_revoke``, ``on_lost``: told of tokens that come, before they go, and when they are gone."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from typing import Any

import attrs
import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import Job, plugins
from jobsync._core.agent.events import OwnershipChanged
from jobsync._core.agent.ownership import Ownership
from jobsync._runtime.callbacks import Callbacks, Functions
from jobsync._runtime.clock import now
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend

pytestmark = pytest.mark.any_store

_numbers = itertools.count()


@attrs.define
class Heard:
    """What a job was told, in order."""

    calls: list[tuple[str, frozenset[int]]] = attrs.field(factory=list)
    threads: set[int] = attrs.field(factory=set)
    inside: int = 0

    def _hear(self, name: str, tokens: frozenset[int]) -> None:
        assert tokens, 'never called for nothing'
        self.inside += 1
        assert self.inside == 1, 'one at a time'
        self.calls.append((name, tokens))
        self.threads.add(threading.get_ident())
        self.inside -= 1

    def on_assign(self, tokens: frozenset[int]) -> None:
        """To be called."""
        self._hear('assign', tokens)

    def on_revoke(self, tokens: frozenset[int], deadline: float) -> None:
        """To be called."""
        assert deadline > time.monotonic()
        self._hear('revoke', tokens)

    def on_lost(self, tokens: frozenset[int]) -> None:
        """To be called."""
        self._hear('lost', tokens)

    @property
    def functions(self) -> dict[str, Any]:
        """As arguments of ``Job``."""
        return {'on_assign': self.on_assign, 'on_revoke': self.on_revoke, 'on_lost': self.on_lost}

    @property
    def tokens(self) -> frozenset[int]:
        """The tokens it has by what it was told."""
        tokens: frozenset[int] = frozenset()
        for name, some in list(self.calls):
            if name == 'assign':
                assert not tokens & some
                tokens |= some
            else:
                assert some <= tokens
                tokens -= some
        return tokens

    def names(self) -> list[str]:
        """Which were called."""
        return [name for name, _ in self.calls]


def test_what_is_told_adds_up(store: Store) -> None:
    """The calls of two jobs follow their tokens through a join, a lock and a leave, on one thread each, and nothing is lost."""
    one, two = Heard(), Heard()
    with store.job('a', **one.functions) as a:
        wait_until(lambda: one.tokens == frozenset(range(TOKENS)), 'all is assigned')
        with store.job('b', **two.functions) as b:
            wait_until(lambda: one.tokens == a.my_tokens and two.tokens == b.my_tokens, 'both have heard')
            assert len(two.tokens) == TOKENS // 2
            a.register_task_lock('x', 'b')
            wait_until(lambda: max(two.tokens) > TOKENS, 'b has the pin')
        wait_until(lambda: one.tokens == a.my_tokens and len(a.my_tokens) >= TOKENS, 'all is back')
        assert two.tokens == frozenset()
    assert one.tokens == frozenset()
    assert (one.names()[0], one.names()[-1]) == ('assign', 'revoke')
    assert 'lost' not in one.names() + two.names()
    assert len(one.threads) == len(two.threads) == 1


def test_tokens_stay_until_on_revoke_returns(store: Store) -> None:
    """While it runs nobody may claim them, every other token goes on working, and when it returns they are the other's."""
    asked: list[frozenset[int]] = []
    ready = threading.Event()

    def on_revoke(tokens: frozenset[int], deadline: float) -> None:
        asked.append(tokens)
        ready.wait(120)

    with store.job('a', on_revoke=on_revoke) as a:
        entering = threading.Thread(target=lambda: None)
        b = store.job('b')
        entering = threading.Thread(target=b.__enter__)
        entering.start()
        wait_until(lambda: asked, 'a is asked')
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1, 'four heartbeats have passed')
        assert not b.my_tokens
        assert a.my_tokens == frozenset(range(TOKENS)) - asked[0]
        ready.set()
        wait_until(lambda: b.my_tokens == asked[0], 'they have passed on')
        entering.join(120)
        b.__exit__(None, None, None)


def test_on_revoke_that_hangs_delays_its_own_tokens_until_the_deadline(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Past ``handover_timeout_sec`` its tokens go without it, which is logged, and the next calls are made all the same."""
    hang, later = threading.Event(), Heard()
    first = threading.Event()

    def on_revoke(tokens: frozenset[int], deadline: float) -> None:
        if not first.is_set():
            first.set()
            hang.wait(120)
        else:
            later.calls.append(('revoke', tokens))

    with store.job('a', config={'handover_timeout_sec': 1.5}, on_revoke=on_revoke) as a:
        with store.job('b') as b:
            assert len(b.my_tokens) == TOKENS // 2
            with store.job('c') as c:
                assert len(c.my_tokens) == TOKENS // 3
                wait_until(lambda: later.calls, 'the next is called')
        wait_until(lambda: len(a.my_tokens) == TOKENS, 'all is back')
        assert a._session.runtime is not None
        tasks = a._session.runtime.lease._tasks
        wait_until(lambda: not tasks._announced, 'nothing is held')  # or these tokens would be until each later deadline
    hang.set()
    assert 'on_revoke has not returned in time' in caplog.text


@pytest.mark.parametrize('error', [ZeroDivisionError, SystemExit])
def test_exceptions_are_logged_and_delay_nothing(
    store: Store, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """A callback that raises is logged with its traceback; the tokens go, and the next call is made."""
    assigned: list[frozenset[int]] = []

    def on_revoke(tokens: frozenset[int], deadline: float) -> None:
        raise error('by the user')

    def on_assign(tokens: frozenset[int]) -> None:
        assigned.append(tokens)
        raise error('by the user')

    with store.job('a', on_revoke=on_revoke, on_assign=on_assign) as a:
        with store.job('b') as b:
            assert len(b.my_tokens) == TOKENS // 2
        wait_until(lambda: len(a.my_tokens) == TOKENS and len(assigned) == 2, 'all is back, and told of')
    assert 'on_revoke raised' in caplog.text
    assert 'on_assign raised' in caplog.text


def test_a_callback_whose_call_runs_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine function behind a plain one is not refused beforehand: the log says that nothing was run."""

    async def on_assign(tokens: frozenset[int]) -> None:
        raise AssertionError('it is not run')

    with store.job('a', on_assign=lambda tokens: on_assign(tokens)):
        wait_until(lambda: 'on_assign has returned <coroutine object' in caplog.text, 'it is logged')


def test_on_assign_that_hangs_delays_no_claim(store: Store) -> None:
    """Tokens are claimable when they are this node's, whatever the callback does."""
    hang = threading.Event()
    with store.job('a', on_assign=lambda tokens: hang.wait(120)) as a:
        assert len(a.my_tokens) == TOKENS
        with store.job('b') as b:
            assert len(b.my_tokens) == TOKENS // 2
    hang.set()


def test_a_lease_that_ends_is_a_loss_and_its_return_an_assignment(store: Store) -> None:
    """While the store is away the tokens are lost with the lease; when it is back with nobody having taken them, they are told
    of as assigned again.
    """
    heard = Heard()
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.3}, **heard.functions) as a:
        wait_until(lambda: len(heard.tokens) == TOKENS, 'all is assigned')
        backend.faults.append(Fault(times=1_000_000))
        wait_until(lambda: heard.names()[-1] == 'lost', 'the loss is told')
        assert not a.my_tokens
        assert heard.calls[-1][1] == frozenset(range(TOKENS))
        backend.faults.clear()
        wait_until(lambda: heard.tokens == a.my_tokens == frozenset(range(TOKENS)), 'all is back')
    backend.inner.close()


def test_an_eviction_is_a_loss(store: Store) -> None:
    """A node whose record was replaced behind its back is told that everything is lost, and then what it gets as a new run."""
    heard = Heard()
    with store.job('a', **heard.functions):
        wait_until(lambda: len(heard.tokens) == TOKENS, 'all is assigned')
        store.evict('a')
        wait_until(lambda: 'lost' in heard.names(), 'the loss is told')
        wait_until(lambda: len(heard.tokens) == TOKENS, 'it has begun anew')
    assert heard.names() == ['assign', 'lost', 'assign', 'revoke']


def test_leaving_waits_for_on_revoke(store: Store) -> None:
    """At the end of the block it is called with all tokens, and they are another's only after it has returned."""
    finish = threading.Event()
    asked: list[frozenset[int]] = []

    def on_revoke(tokens: frozenset[int], deadline: float) -> None:
        asked.append(tokens)
        finish.wait(120)

    with store.job('b') as b:
        a = store.job('a', on_revoke=on_revoke)
        a.__enter__()
        mine = a.my_tokens
        leaving = threading.Thread(target=a.__exit__, args=(None, None, None))
        leaving.start()
        wait_until(lambda: asked == [mine], 'it is told')
        assert not a.my_tokens
        assert not b.my_tokens & mine
        finish.set()
        leaving.join(120)
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b has all')


@pytest.mark.parametrize('name', ['on_assign', 'on_revoke', 'on_rebalance'])
def test_a_function_that_leaves_does_not_wait_for_itself(store: Store, name: str) -> None:
    """It may call ``__exit__``, which returns before the node has left: leaving waits for ``on_revoke``."""
    calls, entered = list[str](), threading.Event()

    def leave(*_: object) -> None:
        assert entered.wait(120)
        a.__exit__(None, None, None)
        calls.append(name)

    config = {'shutdown_timeout_sec': 3600, 'handover_timeout_sec': 3600}
    functions = {'on_revoke': lambda tokens, deadline: None, name: leave}
    with store.job('b') as b, (a := store.job('a', config=config, **functions)):
        entered.set()
        if name == 'on_revoke':
            a.set_weight(0)
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b has all')
        assert list(a.claim(range(100))) == []
    assert calls


def test_leaving_waits_no_longer_than_the_shutdown_timeout(store: Store) -> None:
    """A callback that hangs holds the end of the block up for ``shutdown_timeout_sec``."""
    hang = threading.Event()
    with store.job('b') as b:
        with store.job('a', config={'shutdown_timeout_sec': 0.5}, on_revoke=lambda tokens, deadline: hang.wait(120)) as a:
            assert a.my_tokens
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b has all')
    hang.set()


def test_leaving_waits_for_other_threads_tasks(store: Store) -> None:
    """A task that another thread is at work on keeps its own token here until it is complete, and only that one."""
    begun, finish = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        with job.task(next(task for task in range(1000) if job.can_claim_task(task))):
            begun.set()
            finish.wait(120)

    with store.job('b') as b:
        a = store.job('a')
        a.__enter__()
        worker = threading.Thread(target=work, args=(a,))
        worker.start()
        wait_until(begun.is_set, 'it is at work')
        leaving = threading.Thread(target=a.__exit__, args=(None, None, None))
        leaving.start()
        wait_until(lambda: len(b.my_tokens) == TOKENS - 1, 'b has all but one')
        assert leaving.is_alive()
        finish.set()
        worker.join(120)
        leaving.join(120)
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b has all')
        assert len(store.audits) == 1


def test_the_lease_is_judged_by_the_agent_alone() -> None:
    """A heartbeat that succeeds at the very moment at which the lease seems over has saved it: no loss is told."""
    heard, looks = Heard(), itertools.count()
    mine = Ownership(mine=bytes([1] * TOKENS), pins={})
    looked = threading.Event()

    def look() -> None:
        if next(looks) > 2:
            looked.set()

    functions = Functions(on_assign=heard.on_assign, on_revoke=heard.on_revoke, on_lost=heard.on_lost)
    calls = Callbacks('a', functions, 30, lease_end=lambda: now() - 1, check_lease=look, release=lambda tokens: None)
    calls.start()
    calls.put(OwnershipChanged(Ownership.nothing(TOKENS), mine))
    assert looked.wait(120)
    calls.close()
    assert calls.wait_until_finished(30)
    assert heard.names() == ['assign']


class ScarceLock:
    """A lock that once, when ``is_scarce``, cannot be taken for want of memory."""

    def __init__(self) -> None:
        self._lock, self.is_scarce = threading.Lock(), False

    def __enter__(self) -> None:
        if self.is_scarce:
            self.is_scarce = False
            raise MemoryError
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_call_ends_though_there_was_no_memory_for_its_end() -> None:
    """It must not count as hung: another thread would begin, and two functions would be called at once."""
    lock, assigned, released = ScarceLock(), list[frozenset[int]](), list[frozenset[int]]()
    both, one, none = (Ownership(mine=bytes(of), pins={}) for of in ([1, 1], [1, 0], [0, 0]))

    def revoke(tokens: frozenset[int], _: float) -> None:
        lock.is_scarce = True

    functions = Functions(on_assign=assigned.append, on_revoke=revoke)
    calls = Callbacks('a', functions, 1, lease_end=lambda: now() + 60, check_lease=lambda: None, release=released.append)
    vars(calls)['_lock'] = lock
    calls.start()
    calls.put(OwnershipChanged(none, both))
    calls.put(OwnershipChanged(both, one, asked=frozenset({1}), deadline=now() + 600))
    wait_until(lambda: bool(released) and calls._under_way is None, 'the call has ended')
    calls.put(OwnershipChanged(one, both))
    wait_until(lambda: len(assigned) == 2, 'the next call')
    calls.close()
    assert calls.wait_until_finished(30)
    assert (released, assigned) == ([frozenset({1})], [frozenset({0, 1}), frozenset({1})])


class ScarceCalls(deque[Any]):
    """Pending calls of which once, when ``is_scarce``, none can be taken for want of memory."""

    is_scarce = False

    def popleft(self) -> Any:
        """Take the first, if there is memory."""
        if self.is_scarce:
            self.is_scarce = False
            raise MemoryError
        return super().popleft()


def test_a_call_is_made_though_there_was_no_memory_to_take_it() -> None:
    """It is due still, and until it has been made the tokens that it holds stay."""
    pending, revoked = ScarceCalls(), list[frozenset[int]]()
    released = list[tuple[frozenset[int], int]]()
    one, none = (Ownership(mine=bytes(of), pins={}) for of in ([1, 0], [0, 0]))
    functions = Functions(on_revoke=lambda tokens, _: revoked.append(tokens))
    calls = Callbacks(
        'a',
        functions,
        1,
        lease_end=lambda: now() + 600,
        check_lease=lambda: None,
        release=lambda tokens: released.append((tokens, len(revoked))),
    )
    vars(calls)['_pending'] = pending
    calls.start()
    calls.put(OwnershipChanged(none, one))
    pending.is_scarce = True
    calls.put(OwnershipChanged(one, none, asked=frozenset({0}), deadline=now() + 600))
    wait_until(lambda: bool(released), 'the call has ended')
    calls.close()
    assert calls.wait_until_finished(30)
    assert (revoked, released) == ([frozenset({0})], [(frozenset({0}), 1)])
