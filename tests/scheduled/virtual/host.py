"""The host of virtual processes: one thread at a time makes steps, and time passes while all wait.

Each thread is a greenlet of one real thread. A thread goes on until it waits, or until a *step* is disturbed: steps are the
operations of the primitives in ``threads``, every reading of the clock, and whatever else calls ``step``. The function
``disturb`` decides what happens then: nothing, another thread's turn, a stall, a held process. With a seeded ``random`` and a
``disturb`` that draws from it alone, everything that happens follows from the seed.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from types import FrameType, SimpleNamespace

from greenlet import GreenletExit, getcurrent
from tests.scheduled.virtual.process import VirtualProcess
from tests.scheduled.virtual.threads import VirtualThread, Waiting

__all__ = ['VirtualHost']

_STEP_SEC = 1e-6
"""The time between two switches, and the shortest wait: what waits until a moment has come finds that time passes."""


class VirtualHost:
    """Runs the threads of virtual processes.

    Args:
        random: What decides which of the threads that could go on does.
        disturb: Called in a virtual thread at a step, once for every so many steps as it has returned before; None to let
            every thread go on until it waits.
    """

    def __init__(self, random: Random, disturb: Callable[[], int] | None = None) -> None:
        self.random, self.now = random, 0.0
        self.hub = getcurrent()
        self.thread: VirtualThread | None = None
        """The thread that makes a step now; None while the host itself, or what is outside of it, runs."""
        self.errors: list[tuple[VirtualThread, BaseException]] = []
        """What threads have raised and not caught."""
        self.switches = 0
        self._disturb, self.steps_left = disturb, 1 if disturb else -1
        self._numbers, self._ready, self._all = count(1), list[VirtualThread](), list[VirtualThread]()
        self._timers: list[tuple[float, int, VirtualThread, int]] = []
        self._first: VirtualThread | None = None
        self._atomic, self._is_closing = 0, False
        self._outside = VirtualProcess(self, 'outside', is_disturbed=False)
        self.outside_thread = SimpleNamespace(ident=0, name='outside')

    # --- for the code that runs the host ------------------------------------------------------------------------------------

    def run(self, until: float, *, most_switches: int = 10**9) -> bool:
        """Run until this time of the host; return whether any thread could go on or has a timer then."""
        last = self.switches + most_switches
        while self.switches < last:
            while self._timers and self._timers[0][0] <= self.now:
                _, _, thread, wait = heapq.heappop(self._timers)
                if thread.waits == wait and thread not in self._ready:
                    self._ready.append(thread)
            if self._ready:
                self._resume(self._choose())
            elif self._timers and self._timers[0][0] <= until:
                self.now = self._timers[0][0]
            else:
                is_alive = bool(self._timers)
                self.now = max(self.now, until)
                return is_alive
        raise RuntimeError(f'more than {most_switches} switches until {self.now:.3f}: threads go on and wait for nothing')

    def _choose(self) -> VirtualThread:
        first = self._first
        if first is not None and first in self._ready and self.now >= first.process.held_until:
            self._first = None
            self._ready.remove(first)
            return first
        return self._ready.pop(int(self.random.random() * len(self._ready)))

    def _resume(self, thread: VirtualThread) -> None:
        process = thread.process
        if process.is_killed:
            return
        if self.now < process.held_until:
            self._set_timer(process.held_until, thread)
            return
        self.switches += 1
        self.now += _STEP_SEC
        self.thread = thread
        try:
            thread.greenlet.switch()
        finally:
            self.thread = None

    def close(self) -> None:
        """End every thread where it is."""
        self._is_closing, self.steps_left = True, -1
        before, sys.unraisablehook = sys.unraisablehook, lambda _: None  # generators of the user's loops end as well
        for thread in self._all:
            if not thread.greenlet.dead:
                self.thread = thread
                thread.greenlet.throw(GreenletExit)
        self.thread, sys.unraisablehook = None, before
        # t=0  the run is over; a finalizer refers to a queue, which refers to this host and the threads that wait for it
        # t=1  these refer to all of the run, the object among it that the finalizer is for: none would ever be collected
        for thread in self._all:
            thread.forget()
        self._all.clear()
        self._ready.clear()
        self._timers.clear()
        self._first = self._disturb = None

    @property
    def process(self) -> VirtualProcess:
        """Return the process of the thread that makes a step now."""
        return self._outside if self.thread is None else self.thread.process

    # --- for virtual threads ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Be disturbed, if it is time to."""
        if self.steps_left > 0:
            self.steps_left -= 1
        elif self._is_closing and self.thread is not None:
            raise GreenletExit
        elif self._disturb is not None and self.thread is not None and not self._atomic and self.process.is_disturbed:
            self.steps_left = self._disturb()
            self._take_signals()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Let nothing disturb the steps within the block, which does not wait."""
        self._atomic += 1
        try:
            yield
        finally:
            self._atomic -= 1

    def read_clock(self) -> float:
        """Return what the clock of this process shows. Nothing comes between the reading and its use."""
        self.step()
        return self.process.now()

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds by the clock of this process."""
        self.step()
        self.wait_for(lambda: False, Waiting(), seconds)

    def reschedule(self, after: float = 0.0, *, is_first: bool = False) -> None:
        """Let other threads go on, for some seconds of the host, whatever this thread is in the middle of.

        With ``is_first``, this thread is the next one as soon as it and its process may go on.
        """
        thread = self._present()
        if is_first:
            self._first = thread
        if after > 0:
            self._set_timer(self.now + after, thread)
        else:
            self._ready.append(thread)
        self._switch(thread)

    def wait_for(self, predicate: Callable[[], bool], waiting: Waiting, timeout: float | None) -> bool:
        """Wait in a queue until the predicate is true, which each ``wake`` of the queue has read; return what it is."""
        until = None if timeout is None else self.now + (max(timeout, _STEP_SEC) / self.process.rate if timeout else 0.0)
        while not predicate():
            if until is not None and self.now >= until:
                return False
            self._block(waiting, until)
        return True

    def wait(self, waiting: Waiting, timeout: float | None) -> None:
        """Wait in a queue until it is woken."""
        thread = self._present()
        thread.is_woken = False
        self.wait_for(lambda: thread.is_woken, waiting, timeout)

    def wake(self, waiting: Waiting) -> None:
        """Have all threads in a queue look again. Each that is woken for nothing waits on."""
        while waiting:
            thread = waiting.popleft()
            thread.is_woken = True
            self._make_ready(thread)

    def interrupt(self, thread: VirtualThread) -> None:
        """Have a thread take its signals soon, also while it waits."""
        if thread.is_alive():
            self._make_ready(thread)
        self.steps_left = min(self.steps_left, self.random.randrange(50)) if self._disturb else -1

    def resume_held(self, process: VirtualProcess) -> None:
        """Let the threads go on whose turn came while their process is held (see ``_resume``)."""
        for at, _, thread, wait in self._timers:
            if thread.process is process and at == process.held_until and thread.waits == wait:
                self._make_ready(thread)

    def begins_function(self) -> bool:
        """Return whether the present thread is before the first statement of a function."""
        frame = self._frame()
        lines = () if frame is None else (line for *_, line in frame.f_code.co_lines() if line)
        return frame is not None and next((line for line in lines if line != frame.f_code.co_firstlineno), 0) == frame.f_lineno

    def _frame(self) -> FrameType | None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and '/jobsync/' not in frame.f_code.co_filename:
            frame = frame.f_back
        return frame

    def place(self) -> str:
        """Return where the present thread is, as text."""
        frame = self._frame()
        return '?' if frame is None else f'{frame.f_code.co_qualname}, line {frame.f_lineno}'

    def places(self) -> str:
        """Return where each thread waits that has not ended, as text."""
        found = []
        for thread in self._all:
            frame = thread.greenlet.gr_frame
            while frame is not None and '/jobsync/' not in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None and not thread.process.is_killed:
                found.append(f'{thread}: {frame.f_code.co_qualname}, line {frame.f_lineno}')
        return '; '.join(found)

    def next_number(self) -> int:
        """Return a number that no thread has."""
        return next(self._numbers)

    def add(self, thread: VirtualThread) -> None:
        """Have a thread begin."""
        self._all.append(thread)
        self._ready.append(thread)

    # --- how threads wait ---------------------------------------------------------------------------------------------------

    def _present(self) -> VirtualThread:
        if self._is_closing:
            raise GreenletExit
        if self.thread is None:
            raise RuntimeError('only a virtual thread can wait')
        return self.thread

    def _block(self, waiting: Waiting, until: float | None) -> None:
        thread = self._present()
        if self._atomic:
            raise RuntimeError('a thread waits in an atomic block')
        waiting.append(thread)
        if until is not None:
            self._set_timer(until, thread)
        self._switch(thread)
        if thread in waiting:
            waiting.remove(thread)
        self._take_signals()

    def _set_timer(self, at: float, thread: VirtualThread) -> None:
        heapq.heappush(self._timers, (at, next(self._numbers), thread, thread.waits))

    def _make_ready(self, thread: VirtualThread) -> None:
        if thread not in self._ready and thread is not self.thread:
            self._ready.append(thread)

    def _switch(self, thread: VirtualThread) -> None:
        self.hub.switch()
        thread.waits += 1
        if self._is_closing:
            raise GreenletExit

    def _take_signals(self) -> None:
        thread = self.thread
        if thread is not None and thread is thread.process.main:
            thread.process.take_signals()
