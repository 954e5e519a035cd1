"""Several workers at one task, each in a thread that may be stopped between any two lines, where what must hold is checked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import FrameType
from typing import Any

import attrs
import pytest
from tests.job.stores import Store, kinds
from tests.job.test_two_at_one_task import FILES, holders
from tests.job.waiting import DEADLINE_SEC

from jobsync import Job
from jobsync._core.agent.in_flight import TaskStart
from jobsync._worker import claim_loop, completions
from jobsync._worker.store_calls import acting_for
from jobsync._worker.task_starts import new_start
from jobsync.errors import NotOwned

_FILES = (*FILES, claim_loop.__file__, completions.__file__)
_CALLS = 4
"""How many calls each worker makes."""


class BodyError(Exception):
    """The body of a block has failed."""


@attrs.define(eq=False)
class Hold:
    """A worker's hold on the task, from the beginning of its call."""

    worker: int
    is_alone: bool
    """Whether no other worker may have the task in a block or a loop."""
    before: int
    """The number of the last start before."""
    start: TaskStart | None = None
    """Its start, once it has been seen."""
    opened: int = sys.maxsize
    """The moment at which its start was seen to be open."""
    begun: int = sys.maxsize
    """The moment at which its start was seen."""
    is_returned: bool = False
    is_certain: bool = True
    """Whether no call may have ended it by now."""


class Many:
    """Threads of which one runs at a time, and another goes on at lines that the seed chooses."""

    def __init__(self, job: Job, seed: int, workers: int) -> None:
        self._job, self._random, self._count = job, Random(seed), workers
        self._turns = [threading.Semaphore(0) for _ in range(workers)]
        self._alive = list(range(workers))
        self._often = self._random.choice([0.02, 0.1, 0.4])
        self._moment = 0
        self.holds, self.ending = list[Hold](), list[Hold | None]()
        """The holds, and the calls under way that complete the task."""
        self.errors, self.trace = list[BaseException](), list[str]()

    def run(self) -> None:
        """Run all to their end."""
        threads = [threading.Thread(target=self._be, args=(number,)) for number in range(self._count)]
        for thread in threads:
            thread.start()
        self._turns[0].release()
        for thread in threads:
            thread.join(DEADLINE_SEC)
        if self.errors:
            raise self.errors[0]

    def _be(self, number: int) -> None:
        assert self._turns[number].acquire(timeout=DEADLINE_SEC)
        random = Random(self._random.random())
        try:
            sys.settrace(self._begin_trace(number))
            with acting_for(-1 - number):
                for _ in range(_CALLS):
                    random.choice([self._add, self._add, self._complete, self._block, self._block, self._loop, self._cancel])(
                        -1 - number, random
                    )
        except BaseException as error:  # noqa: BLE001 - raised by ``run``
            self.errors.append(error)
        finally:
            sys.settrace(None)
            self._alive.remove(number)
            if self._alive:
                self._turns[self._random.choice(self._alive)].release()

    def _begin_trace(self, number: int) -> Callable[..., Any]:
        def trace(frame: FrameType, event: str, _: object) -> Any:
            if frame.f_code.co_filename not in _FILES:
                return None
            if event == 'line':
                self._moment += 1
                self.check()
                if self._random.random() < self._often and not self.errors:
                    other = self._random.choice(self._alive)
                    if other != number:
                        self.trace.append(f'{number} -> {other} at {frame.f_code.co_name}:{frame.f_lineno}')
                        self._turns[other].release()
                        assert self._turns[number].acquire(timeout=DEADLINE_SEC)
            return trace

        return trace

    # --- what holds ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the task at this moment."""
        runtime, log = self._job._session.runtime, self._job._task_log
        assert runtime is not None
        in_flight, opened = list(runtime.lease.in_flight), log._open.of('x')
        for hold in self.holds:
            if hold.start is None:
                hold.start = next((each for each in in_flight if each.worker == hold.worker and each.number > hold.before), None)
                hold.begun = sys.maxsize if hold.start is None else self._moment
            if hold.start in opened and hold.opened == sys.maxsize:
                hold.opened = self._moment
        # A call of ``complete`` may end all that is open, and the end of a body what has been open beside it.
        if any(own is None or own.start in opened for own in self.ending):
            for hold in self.holds:
                if hold.opened < sys.maxsize:
                    hold.is_certain = False
        certain = [hold for hold in self.holds if hold.is_returned and hold.is_certain]
        for hold in certain:
            assert any(each.worker == hold.worker for each in in_flight), ('not in flight', hold, self.trace[-12:])
        alone = [hold for hold in certain if hold.is_alone]
        assert len(alone) < 2, ('two have it', alone, self.trace[-12:])

    def _hold(self, worker: int, *, is_alone: bool) -> Hold:
        hold = Hold(worker, is_alone, new_start('x', worker).number)
        self.holds.append(hold)
        return hold

    def _completing(self, own: Hold | None, call: Callable[[], object]) -> None:
        """Make a call that completes the task; ``own`` is the hold of the body that ends by it, if one does."""
        self.ending.append(own)
        try:
            call()
        finally:
            self.ending.remove(own)

    def _failing(self, own: Hold) -> None:
        """Note that a body is about to fail: that ends what its worker has, and what others had open before it began."""
        for hold in self.holds:
            if hold.worker == own.worker or hold.opened < own.begun:
                hold.is_certain = False

    # --- the calls ----------------------------------------------------------------------------------------------------------

    def _add(self, worker: int, random: Random) -> None:
        hold = self._hold(worker, is_alone=False)
        assert self._job.add_task('x')
        hold.is_returned = True
        if random.random() < 0.5:
            self._pause()
            self._complete(worker, random)

    def _cancel(self, worker: int, random: Random) -> None:
        start = self._job._start('x')
        assert start is not None
        self._job._task_log.take_back(start)

    def _complete(self, worker: int, random: Random) -> None:
        if random.random() < 0.3:
            self._completing(None, self._job.write_audit)
        elif self._job._task_log.is_open('x'):
            self._completing(None, lambda: self._job.complete('x'))

    def _block(self, worker: int, random: Random) -> None:
        hold, block = self._hold(worker, is_alone=True), self._job.task('x')
        try:
            block.__enter__()
        except NotOwned:
            return
        hold.is_returned = True
        self._pause()
        if random.random() < 0.5:
            self._completing(hold, lambda: block.__exit__(None, None, None))
        else:
            self._failing(hold)
            with suppress(BodyError):
                block.__exit__(BodyError, BodyError(), None)

    def _loop(self, worker: int, random: Random) -> None:
        hold, loop = self._hold(worker, is_alone=True), self._job.claim(['x'])
        if next(loop, None) is None:
            return
        hold.is_returned = True
        self._pause()
        if random.random() < 0.5:
            self._completing(hold, lambda: next(loop, None))
        else:
            self._failing(hold)
            loop.close()

    def _pause(self) -> None:
        """Be at work for some lines."""
        for _ in range(5):
            self._job._task_log.is_open('x')


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('first', range(0, 60, 20))
def test_what_a_worker_has_begun_is_in_flight_until_it_ends(store: Store, first: int) -> None:
    """Also where others begin, complete and give up the task amid that; and nothing is left once all have ended."""
    with store.job('a') as job:
        job._task_log.completions._alarm.set = lambda: None  # type: ignore[method-assign]
        lease = job._session.lease
        assert lease is not None
        assert job.add_task('x')
        job.complete('x')
        for seed in range(first, first + 20):
            Many(job, seed, 2 + seed % 2).run()
            job.write_audit()
            job._task_log.completions.flush()
            assert holders(job) == ([], []), seed
            assert not job._task_log._checked_out.keys(), seed
            assert not lease.unrecorded, seed
