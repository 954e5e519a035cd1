"""``wait``: returns when the revision has changed."""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import pytest

from jobsync.backend import INITIAL, Backend, Hint, Plan, Revision, TokenGroup
from jobsync.errors import Conflict, Evicted, JobsyncError, NameTaken, SchemaMismatch
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC, race

__all__ = ['WaitTests', 'Waiting']

ROUNDS = 10
PROMPT_SEC = 0.5
"""A push typically takes less time than this, and a poll more."""
ATTEMPTS = 3
SHORT_SEC = 0.02
MANY_CHANGES = 20
"""As many as may come between two waits of a node."""


class Waiting:
    """A ``wait`` in a thread of its own."""

    def __init__(self, wait: Callable[[int, float], int], revision: int, timeout: float) -> None:
        self._answer: list[int] = []
        self._thread = threading.Thread(target=lambda: self._answer.append(wait(revision, timeout)), daemon=True)
        self._thread.start()

    def answer(self) -> int:
        """Return what ``wait`` returned; fail if it has not returned in time."""
        self._thread.join(DEADLINE_SEC)
        assert self._answer, f'wait has not returned after {DEADLINE_SEC} s'
        return self._answer[0]


def resources() -> tuple[int, int]:
    """Return how many threads and open files this process has; no files where the system does not list them."""
    files = Path('/dev/fd')
    return threading.active_count(), len(list(files.iterdir())) if files.is_dir() else 0


class WaitTests:
    """``wait``, on which the speed of a hand-over rests (P2)."""

    def test_wait_returns_what_is_there(self, namespace: Namespace) -> None:
        """If the revision is already above the argument, ``wait`` returns its number at once."""
        namespace.join('a')
        assert Waiting(namespace.backend.wait, 0, 2 * DEADLINE_SEC).answer() == namespace.revision.number

    def test_wait_ends_with_its_timeout(self, namespace: Namespace) -> None:
        """Without a change ``wait`` returns the present revision after its timeout."""
        namespace.join('a')
        number = namespace.revision.number
        assert namespace.backend.wait(number, 0.0) == number
        assert namespace.backend.wait(number, 0.05) == number
        assert namespace.backend.wait(number + 5, 0.05) <= number + 5

    def test_wait_of_large_revisions(self, namespace: Namespace, harness: Harness) -> None:
        """A revision may have any number that a plan or a timeline brings it to: none is cut to 31 bits."""
        waiter = Namespace(harness.connect()).backend
        for at_least in (2**31 - 2, 2**40):
            namespace.renew_timeline(at_least)
            number = namespace.revision.number
            assert number > at_least
            for backend in (waiter, namespace.backend):
                assert Waiting(backend.wait, number - 1, 2 * DEADLINE_SEC).answer() == number
                assert backend.wait(number, SHORT_SEC) == number
            waiting = Waiting(waiter.wait, number, 2 * DEADLINE_SEC)
            namespace.join('a')
            assert waiting.answer() == number + 1

    def test_wait_wakes_on_a_change(self, namespace: Namespace, harness: Harness) -> None:
        """Each structural change by another handle ends every ``wait``, with a revision above the argument."""
        waiter = Namespace(harness.connect()).backend
        ref = namespace.join('a')
        for change in (
            lambda: namespace.join('b'),
            lambda: namespace.backend.set_weight(ref, 2.0),
            lambda: namespace.lock('x'),
            lambda: namespace.backend.deregister(ref),
        ):
            number = namespace.revision.number
            waits = [Waiting(waiter.wait, number, 2 * DEADLINE_SEC) for _ in range(2)]
            change()
            for waiting in waits:
                assert waiting.answer() > number

    def test_push_is_prompt(self, namespace: Namespace, harness: Harness) -> None:
        """A backend with push ends a ``wait`` sooner than a poll would; a backend without push ends it too."""
        waiter = Namespace(harness.connect()).backend
        changed, ready, is_over = threading.Event(), threading.Event(), threading.Event()

        def follow() -> None:
            number = namespace.revision.number
            ready.set()
            while not is_over.is_set():
                if (found := waiter.wait(number, DEADLINE_SEC)) > number:
                    number = found
                    changed.set()

        def typical(attempt: int) -> float:
            """Return the median of the seconds that some hints took."""
            took = []
            for number in range(ROUNDS):
                changed.clear()
                namespace.join(f'n{attempt}-{number}')
                started = time.monotonic()
                assert changed.wait(DEADLINE_SEC), f'no hint of change {number} after {DEADLINE_SEC} s'
                took.append(time.monotonic() - started)
            return statistics.median(took)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert ready.wait(DEADLINE_SEC)
        # A machine may be busy for a while. A backend that polls is slow in every attempt.
        took = [typical(0)]
        while namespace.backend.info.push and took[-1] >= PROMPT_SEC and len(took) < ATTEMPTS:
            took.append(typical(len(took)))
        is_over.set()
        namespace.join('last')
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()
        assert min(took) < PROMPT_SEC or not namespace.backend.info.push, f'a hint took {min(took):.1f} s, which is no push'

    def test_hints_name_every_node_concerned(self, namespace: Namespace, harness: Harness) -> None:
        """A hint that names nodes names all that a commit affects, and a change that may concern any node names none.

        A node that is concerned and not named would wait for its next heartbeat to lose or gain a token.
        """
        waiter = Namespace(harness.connect()).backend
        leader = namespace.leader()
        other = namespace.join('b')
        known = Waiting(waiter.wait, 0, 2 * DEADLINE_SEC).answer()

        def named(backend: Backend = waiter) -> frozenset[str] | None:
            """Return the nodes that hints named since the last call; None for all nodes."""
            nonlocal known
            names: frozenset[str] | None = frozenset()
            while known < namespace.revision.number:
                found = Waiting(backend.wait, known, 2 * DEADLINE_SEC).answer()
                concerned = found.nodes if isinstance(found, Hint) else None
                names = None if names is None or concerned is None else names | concerned
                known = found
            return names

        named()
        for affected in (frozenset({'b', 'Zoë "1"'}), frozenset(f'node-{number:04}' for number in range(2000))):
            namespace.commit(leader, TokenGroup([0], 'b'), affected=affected)
            found = named()
            assert found is None or found >= affected
        namespace.commit(leader, TokenGroup([0], 'a'), affected=frozenset({'a'}))
        namespace.commit(leader, TokenGroup([0], 'b'), affected=frozenset({'b'}))
        for weight in range(MANY_CHANGES):
            namespace.backend.set_weight(other, 2.0 + weight)
        found = named()
        assert found is None or found >= {'a', 'b'}, 'a hint that has forgotten earlier names must name none'
        before = known
        namespace.commit(leader, TokenGroup([0], 'a'), affected=frozenset({'a'}))
        late = Namespace(harness.connect()).backend
        namespace.commit(leader, TokenGroup([0], 'b'), affected=frozenset({'b'}))
        # Several nodes may share a handle, and one may have read a revision of before the handle was opened.
        for backend in (waiter, late, waiter, late):
            known = before
            found = named(backend)
            assert found is None or found >= {'a', 'b'}, 'each wait names all nodes since its revision, or none'
        for change in (
            lambda: namespace.commit(leader, TokenGroup([1], 'b')),
            lambda: namespace.backend.remove_node(other),
            lambda: namespace.backend.deregister(leader),
            lambda: namespace.lead(namespace.join('c')),
            namespace.renew_timeline,
            lambda: namespace.backend.open(attrs.evolve(SETTINGS, hash_function='md5'), create=True),
        ):
            change()
            assert named() is None

    def test_a_wait_holds_up_no_other_call(self, harness: Harness, namespace: Namespace) -> None:
        """While some threads wait, others call the same handle: a node waits for changes and sends heartbeats meanwhile."""
        ref, backend = namespace.join('a'), Namespace(harness.connect()).backend
        number = namespace.revision.number
        waits = [Waiting(backend.wait, number, DEADLINE_SEC / 4) for _ in range(2)]
        for count in range(1, 4):
            assert backend.heartbeat(ref, INITIAL, frozenset()).heartbeat == count
            backend.append_claims(ref, [f'item {count}'], DAY)
        backend.deregister(ref)
        for waiting in waits:
            assert waiting.answer() > number, 'each call of the handle came only after its waits had ended'

    def test_a_wait_waits_for_no_other(self, harness: Harness, namespace: Namespace) -> None:
        """While a thread waits that knows more, others of its handle learn at once what is there: several nodes may share it."""
        backend = Namespace(harness.connect()).backend
        namespace.join('a')
        number = namespace.revision.number
        ahead = Waiting(backend.wait, number, 2 * DEADLINE_SEC)
        for _ in range(ROUNDS):
            assert Waiting(backend.wait, number - 1, 2 * DEADLINE_SEC).answer() == number
            time.sleep(SHORT_SEC)
        namespace.join('b')
        assert ahead.answer() > number

    def test_a_wait_without_a_change_lasts(self, namespace: Namespace) -> None:
        """A wait may end early or late, but not every one: a node would send requests without a pause, or its heartbeats late."""
        namespace.join('a')
        number, times = namespace.revision.number, [time.monotonic()]
        for _ in range(ROUNDS):
            assert namespace.backend.wait(number, SHORT_SEC) == number
            times.append(time.monotonic())
        assert times[-1] - times[0] >= SHORT_SEC, f'{ROUNDS} waits of {SHORT_SEC} s have ended at once'
        shortest = min(after - before for before, after in itertools.pairwise(times))
        assert shortest < PROMPT_SEC, f'of {ROUNDS} waits of {SHORT_SEC} s the shortest took {shortest:.1f} s'

    def test_calls_leave_nothing_open(self, harness: Harness, namespace: Namespace) -> None:
        """Calls that are answered, refused or wait for what is there leave no thread, connection or file to an open handle.

        Each comes from a thread of its own, which ends after it, as the threads of a program do that works on many requests.
        """
        leader, gone, absent = namespace.leader(), namespace.ref('a'), harness.connect(namespace='absent_')

        def use() -> None:
            namespace.beat(leader)
            namespace.backend.read_locks()
            for timeout in (0.0, 2 * DEADLINE_SEC):  # both return at once
                namespace.backend.wait(0, timeout)
            for error, call in (
                (Evicted, partial(namespace.beat, gone)),
                (NameTaken, partial(namespace.join, 'leader')),
                (Conflict, partial(namespace.backend.commit, leader, Plan('test'), namespace.guard(version=Revision(7, 7)))),
                (SchemaMismatch, absent.snapshot),
            ):
                with pytest.raises(error):
                    call()

        def use_in_a_thread() -> None:
            (ended,) = race([use])
            assert ended is None, ended

        use_in_a_thread()
        before = resources()
        for _ in range(ROUNDS):
            use_in_a_thread()  # a connection that belongs to its thread stays when the thread has ended
        after = resources()
        assert all(now < was + ROUNDS for now, was in zip(after, before, strict=True)), (
            f'{ROUNDS} times the same calls: threads, open files {before} before, {after} after'
        )

    def test_close_releases_everything(self, harness: Harness, namespace: Namespace) -> None:
        """A handle that is closed leaves no thread and no connection or file behind."""

        def use(threads: int) -> None:
            backend = Namespace(harness.connect()).backend
            number = backend.snapshot().revision.number
            backend.read_assignment()
            waits = [Waiting(backend.wait, number, 2 * DEADLINE_SEC) for _ in range(threads)]
            backend.close()
            for waiting in waits:
                waiting.answer()
            with contextlib.suppress(JobsyncError):  # a thread of the program may come late
                backend.snapshot()

        namespace.join('a')
        for threads in (2, 0):  # what a process needs once, it may keep
            use(threads)
        before = resources()
        for _ in range(ROUNDS):
            use(2)
            use(0)  # all connections are idle when the handle is closed
        deadline = time.monotonic() + DEADLINE_SEC / 4
        while any(now >= was + ROUNDS for now, was in zip(resources(), before, strict=True)):
            assert time.monotonic() < deadline, (
                f'{ROUNDS} closed handles: threads, open files {before} before, {resources()} after'
            )
            gc.collect()
            time.sleep(0.01)

    def test_close_wakes_every_wait(self, harness: Harness, namespace: Namespace) -> None:
        """``close`` ends every ``wait`` of its handle, and later ones return at once."""
        backend = Namespace(harness.connect()).backend
        number = namespace.revision.number
        waits = [Waiting(backend.wait, number, 2 * DEADLINE_SEC) for _ in range(3)]
        backend.close()
        for waiting in waits:
            waiting.answer()
        Waiting(backend.wait, number, 2 * DEADLINE_SEC).answer()

    def test_close_of_one_handle_leaves_the_others(self, harness: Harness, namespace: Namespace) -> None:
        """``close`` of one handle leaves other handles open."""
        backend = Namespace(harness.connect()).backend
        backend.close()
        number = namespace.revision.number
        assert namespace.backend.wait(number, 0.05) == number
        namespace.join('a')
        assert namespace.backend.wait(number, DEADLINE_SEC) > number
