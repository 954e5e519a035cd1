"""Virtual time: threads of which one runs at a time, and a clock that moves when all of them wait.

A thread here is a real one, so the code of a job and of its user runs as it is. But a thread runs only while it has the turn,
and it gives the turn away wherever it waits: in ``time.sleep``, for a queue, for a change of the store. The thread of the test
then wakes the thread whose waiting ends first, and the clock jumps to that moment. So the order of events depends on nothing but
the program, and no test waits for a clock.

::

    test thread     advance(10) ........ wakes b ............... wakes a ............... goes on: 10 s have passed
    thread a        sleep(7) ........................ t=7 ....... runs, sleep(60)
    thread b        queue.get(timeout=3) .. t=3, Empty, sleep(60)
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

from jobsync._runtime import clock, threads

__all__ = ['Process', 'ProcessState', 'VirtualCondition', 'VirtualQueue', 'VirtualTime', 'Waiter']

_real_now = clock.now
_MOST_TURNS = 100_000
"""How many threads may run one after the other without the clock moving: more means that they run in circles."""


class ProcessState(enum.Enum):
    """Whether the threads of a process run."""

    RUNNING = 'running'
    PAUSED = 'paused'
    """Each stands still where it waits, as after SIGSTOP."""
    KILLED = 'killed'
    """None will ever run again, as after SIGKILL."""


class Process:
    """Threads that live and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = ProcessState.RUNNING
        self.due: list[Waiter] = []
        """The threads whose waiting has ended while the process was paused."""


class _EndOfTime(BaseException):
    """Raised in a thread that is to end with the virtual time."""


class Waiter:
    """A thread as the schedule sees it: when it is due."""

    def __init__(self, process: Process | None) -> None:
        self.process = process
        self.ticket = 0
        """Which of its entries in the schedule counts: the last one."""


class _Thread(Waiter):
    """A thread that runs only while it has the turn."""

    def __init__(self, process: Process | None, *, has_user_code: bool) -> None:
        super().__init__(process)
        self.turn = threading.Semaphore(0)
        self.is_over = False
        self.has_passed_end = False
        """Whether the thread has waited once after the end of the virtual time."""
        self.has_user_code = has_user_code
        self.error: BaseException | None = None

    def is_alive(self) -> bool:
        """Return whether the thread has not ended."""
        return not self.is_over and (self.process is None or self.process.state is not ProcessState.KILLED)


class VirtualTime:
    """A clock, and the threads that wait by it. Takes the place of real time within the ``with`` block."""

    def __init__(self, max_sec: float) -> None:
        """Begin at 0. More than ``max_sec`` means that the test waits for an event that never comes."""
        self.now, self._max_sec = 0.0, max_sec
        self._schedule: list[tuple[float, int, Waiter, int]] = []
        self._order = itertools.count()
        self._test = Waiter(None)
        self._by_ident: dict[int, Waiter] = {}
        self._threads: list[_Thread] = []
        self._handed_back = threading.Semaphore(0)
        self.is_over = False
        self.process_of: Callable[[str], Process | None] = lambda _: None
        """Returns the process in which a node's threads start."""
        self._undo: list[Callable[[], None]] = []

    # --- in place of real time ----------------------------------------------------------------------------------------------

    def __enter__(self) -> VirtualTime:
        """Replace the clock, the threads and the queues of every job, and ``time.sleep`` and ``time.monotonic``."""
        if clock.now != _real_now:
            raise RuntimeError('virtual time is in use already: one cluster at a time')
        self._by_ident[threading.get_ident()] = self._test
        self.replace(clock, 'now', lambda: self.now)
        self.replace(threads, 'start', self.start)
        self.replace(threads, 'new_queue', lambda: VirtualQueue(self))
        self.replace(threads, 'is_interruptible', lambda: False)
        sleep, monotonic = time.sleep, time.monotonic
        self.replace(time, 'sleep', lambda seconds: self.sleep(seconds) if self._is_virtual else sleep(seconds))
        self.replace(time, 'monotonic', lambda: self.now if self._is_virtual else monotonic())
        return self

    def replace(self, module: Any, name: str, value: object) -> None:
        """Put a value in place of a name of a module, within the block."""
        before = getattr(module, name)
        self._undo.append(lambda: setattr(module, name, before))
        setattr(module, name, value)

    def __exit__(self, *_: object) -> None:
        """End every thread, and put real time back."""
        self.is_over = True
        for thread in list(self._threads):
            self._give_turn(thread)
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    @property
    def _is_virtual(self) -> bool:
        return threading.get_ident() in self._by_ident

    # --- threads ------------------------------------------------------------------------------------------------------------

    def start(self, node_name: str, what: str, target: Callable[[], object]) -> _Thread:
        """Start a thread of a node (see ``_runtime.threads``)."""
        return self.start_in(self.process_of(node_name), f'jobsync-{what}-{node_name}', target)

    def start_in(
        self, process: Process | None, name: str, target: Callable[[], object], *, has_user_code: bool = False
    ) -> _Thread:
        """Start a thread in a process. It first runs when the present thread waits."""
        self.present()
        if self.is_over:
            raise RuntimeError('virtual time is over')
        thread = _Thread(process, has_user_code=has_user_code)

        def run() -> None:
            self._by_ident[threading.get_ident()] = thread
            thread.turn.acquire()
            try:
                if not self.is_over:
                    target()
            except _EndOfTime:
                pass
            except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
                thread.error = error
            finally:
                thread.is_over = True
                del self._by_ident[threading.get_ident()]
                self._handed_back.release()

        threading.Thread(target=run, name=name, daemon=True).start()
        self._threads.append(thread)
        self._wake(thread, self.now)
        return thread

    def _give_turn(self, thread: _Thread) -> None:
        thread.turn.release()
        self._handed_back.acquire()
        if thread.is_over:
            self._threads.remove(thread)
        if thread.error is not None and not self.is_over:
            raise thread.error

    def resume(self, process: Process) -> None:
        """Let the threads of a paused process go on where they stand."""
        process.state, due = ProcessState.RUNNING, process.due
        process.due = []
        # t=0  a thread waits until 5 at the latest; its process is paused
        # t=5  its waiting ends, and then once more, because the test has the process stop
        # t=6  the process goes on: with two turns, the thread would be given the second one after its end
        for waiter in due:
            self.wake(waiter)  # only the last one counts

    # --- waiting ------------------------------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.wait(self.now + max(0.0, seconds))

    def wait(self, until: float) -> None:
        """Give the turn away until a moment, or until another thread calls ``wake`` for this one."""
        waiter = self.present()
        waiter.ticket += 1
        self._wake(waiter, until)
        if not isinstance(waiter, _Thread):
            self._run_others()
            return
        if self.is_over:
            # t=0  the block ends: every node is closed, and its listener's wait for a change returns
            # t=1  the listener pauses, and would then find its node closed, and end
            # Raised in that pause, the end would be logged as an unexpected error, with a traceback, at the end of each test.
            if waiter.has_user_code or waiter.has_passed_end:
                raise _EndOfTime
            waiter.has_passed_end = True
            return
        self._handed_back.release()
        waiter.turn.acquire()
        if self.is_over and waiter.has_user_code:
            raise _EndOfTime

    def present(self) -> Waiter:
        """Return the thread that runs now."""
        waiter = self._by_ident.get(threading.get_ident())
        if waiter is None:
            raise RuntimeError('a thread that virtual time does not know is to wait for a job: start it with cluster.start')
        return waiter

    def stop_if_killed(self) -> None:
        """Run the present thread no more, if its process was killed."""
        process = self.present().process
        if process is not None and process.state is ProcessState.KILLED:
            self.wait(math.inf)

    def wake(self, waiter: Waiter) -> None:
        """End the waiting of a thread."""
        waiter.ticket += 1
        self._wake(waiter, self.now)

    def _wake(self, waiter: Waiter, at: float) -> None:
        heapq.heappush(self._schedule, (at, next(self._order), waiter, waiter.ticket))

    def _run_others(self) -> None:
        """Run one thread after the other, until the thread of the test is due."""
        turns = 0
        while True:
            at, _, waiter, ticket = heapq.heappop(self._schedule)
            if ticket != waiter.ticket:
                continue
            if waiter.process is not None and waiter.process.state is not ProcessState.RUNNING:
                waiter.process.due.append(waiter)
                continue
            turns = turns + 1 if at <= self.now else 0
            if at > self._max_sec or turns > _MOST_TURNS:
                raise TimeoutError(
                    f'what this test waits for does not come: {self.now:g} virtual seconds have passed, of {self._max_sec:g} '
                    f'that may (max_sec), and {turns} threads have run since the clock moved'
                )
            self.now = max(self.now, at)
            if waiter is self._test:
                return
            assert isinstance(waiter, _Thread)
            self._give_turn(waiter)


class VirtualQueue:
    """A queue on which threads of virtual time wait."""

    def __init__(self, virtual: VirtualTime) -> None:
        self._virtual = virtual
        self._items: deque[Any] = deque()
        self._waiting: deque[Waiter] = deque()

    def put(self, item: Any) -> None:
        """Append an item, and wake a thread that waits for one."""
        self._items.append(item)
        if self._waiting:
            self._virtual.wake(self._waiting.popleft())

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove and return the first item. Raise ``Empty`` if there is none within ``timeout`` virtual seconds."""
        virtual = self._virtual
        until = math.inf if timeout is None else virtual.now + timeout
        while not self._items:
            if not block or virtual.now >= until:
                raise Empty
            present = virtual.present()
            self._waiting.append(present)
            try:
                virtual.wait(until)
            finally:
                if present in self._waiting:
                    self._waiting.remove(present)
            if virtual.is_over and not self._items:
                raise Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        """Remove and return the first item. Raise ``Empty`` if there is none."""
        return self.get(block=False)


class VirtualCondition:
    """A condition whose lock is always free, since one thread runs at a time."""

    def __init__(self, virtual: VirtualTime) -> None:
        self._virtual = virtual
        self._waiting: list[Waiter] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass

    def notify_all(self) -> None:
        """Wake every thread that waits."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            self._virtual.wake(waiter)

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait at most ``timeout`` virtual seconds until the predicate is true; return whether it is."""
        until = self._virtual.now + timeout
        while not predicate() and self._virtual.now < until and not self._virtual.is_over:
            present = self._virtual.present()
            self._waiting.append(present)
            self._virtual.wait(until)
            if present in self._waiting:
                self._waiting.remove(present)
        return predicate()
