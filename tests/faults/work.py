"""What the workers of a fault run do all the time: their kinds of work, and the traps that are set in them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from benchmarks.rolling_worker import Load, Order, work

from jobsync import Job
from jobsync.backend import Backend
from jobsync.errors import JobsyncError
from jobsync.testing.worker_log import LogWriter, now

__all__ = ['CHURN_SEC', 'WORK', 'FaultOrder', 'Trap', 'TrappedBackend', 'Traps', 'survive']

TASK = 'task'
"""The trap in the middle of a task."""
CHURN_SEC = 0.05


@attrs.frozen(kw_only=True)
class FaultOrder(Order):
    """The order for a worker of a fault run."""

    watched: Sequence[str] = ()
    """Keys of tasks whose owner is logged: those that locks and items concern."""
    kind: str = 'claim'
    """The kind of work: a name of ``WORK``."""
    traced: bool = True
    """Whether the events of a trace are written."""
    answers_sec: float = 0.02
    """Seconds between two readings of ``can_claim_task`` for all tokens."""
    late_sec: float = 0.0
    """How many seconds after its other threads the thread of these readings goes on once the process was stopped."""


@attrs.frozen
class Trap:
    """A signal that the worker sends to itself at one of its calls to the store."""

    call: str
    """A method of ``Backend``, or ``task``: the middle of a task."""
    when: str = 'before'
    """``before`` or ``after`` the call."""
    signal: int = signal.SIGKILL
    skip: int = 0
    """How many such calls pass first."""
    holds: bool = False
    """Whether every call to the store waits, from before the signal until the trap is removed, as if those threads got the
    processor last. The signal then waits until no call is under way."""
    name: str = ''
    """In the lines of the log that say that the trap is set (``set NAME``) and sprung (``trapped NAME``)."""


class Traps:
    """The trap that is set, if any."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self.trap: Trap | None = None
        self._change = threading.Condition()
        self._is_held = False
        self._under_way = 0

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a call to the store as under way, once no trap holds calls."""
        with self._change:
            self._change.wait_for(lambda: not self._is_held)
            self._under_way += 1
        try:
            yield
        finally:
            with self._change:
                self._under_way -= 1
                self._change.notify_all()

    def disarm(self) -> None:
        """Remove the trap, and let calls go on that it holds."""
        with self._change:
            self.trap, self._is_held = None, False
            self._change.notify_all()

    def spring(self, call: str, when: str) -> None:
        """Send the signal if the trap is for this call."""
        trap = self.trap
        if trap is None or trap.call != call or trap.when != when:
            return
        if trap.skip:
            self.trap = attrs.evolve(trap, skip=trap.skip - 1)
            return
        self.trap = None
        if trap.holds:
            with self._change:
                self._is_held = True
                self._change.wait_for(lambda: not (self._is_held and self._under_way))
                if not self._is_held:
                    return
        self._log.write(f'trapped {trap.name}', call=call, when=when)
        # t=0    os.kill() sends SIGSTOP to the process, and the kernel chooses another thread, which sleeps, to take it
        # t=0.6  ms: this thread has made the call that it was to be stopped before
        # t=1    ms: the other thread has the processor, and all threads are stopped
        # So this thread takes it.
        signal.pthread_kill(threading.get_ident(), trap.signal)


class TrappedBackend:
    """A backend whose calls may be trapped."""

    def __init__(self, inner: Backend, traps: Traps) -> None:
        self._inner, self._traps = inner, traps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith('_'):
            return found

        def call(*args: Any, **rest: Any) -> Any:
            self._traps.spring(name, 'before')
            with contextlib.nullcontext() if name == 'wait' else self._traps.under_way():
                result = found(*args, **rest)
            self._traps.spring(name, 'after')
            return result

        return call


class TrappedLoad(Load):
    """Tasks in whose middle the worker may be trapped."""

    traps: Traps

    def finish(self, task: str) -> None:
        """See ``Load``."""
        self.traps.spring(TASK, 'before')
        super().finish(task)


def claim(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Work through the tasks of each second with ``job.claim``."""
    load = TrappedLoad(order)
    load.traps = traps
    while not job.is_leaving:
        with survive(log):
            work(job, load, log)


def batch(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Work through one batch for each second, each after the one before."""
    for number in range(100_000):
        if job.is_leaving:
            return
        with survive(log):
            for task in job.batch([f'{number}-{task}' for task in range(order.tasks)]):
                do(task, traps, log)


def items(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Work on the items of this node again and again: no item may be on two nodes at one time."""
    with survive(log):
        job.declare_items('things', order.watched)
    while not job.is_leaving:
        with survive(log):
            for task in job.claim(job.items('things')):
                do(task, traps, log)
        time.sleep(CHURN_SEC)


def singleton(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Hold a singleton whenever it is this node's turn."""
    while not job.is_leaving:
        with survive(log):
            for turn in job.singleton('feed'):
                while turn and not job.is_leaving:
                    do('turn', traps, log)
                    time.sleep(CHURN_SEC)


def every(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Run a function every second, on one node."""

    @job.every(1.0)
    def tick() -> None:
        do('tick', traps, log)

    while not job.is_leaving:
        with survive(log):
            job.run_scheduled()


BATCH_SEC = 10.0
"""How long the nodes have for a batch before they turn to the next one."""
OPEN_ROUNDS = 30
"""How many rounds of tasks are offered at a time: after a death and its takeover none is too old."""


def everything(job: Job, order: FaultOrder, traps: Traps, log: LogWriter) -> None:
    """Do all kinds of work at once, each on a thread of its own, and read what can be read."""
    one = threading.Lock()  # the judgement takes the lines of a log for those of one task after the other

    def attempt(task: str) -> None:
        with one:
            if job.can_claim_task(task):
                do(task, traps, log)

    def rounds() -> None:
        last = int(now() - order.origin)
        for task in job.claim([f'{number}-{task}' for number in range(last - OPEN_ROUNDS, last) for task in range(3)], once=True):
            attempt(task)

    def batches() -> None:
        number = int((now() - order.origin) / BATCH_SEC)
        for task in job.batch([f'batch {number}-{task}' for task in range(20)]):
            attempt(task)
            if now() - order.origin > (number + 2) * BATCH_SEC:
                break

    def things() -> None:
        job.declare_items('things', order.watched)
        for task in job.claim(job.items('things')):
            attempt(task)

    def turns() -> None:
        with job.singleton('feed') as turn:
            if turn:
                attempt('singleton:feed')

    def by_hand() -> None:
        for number in range(5):
            task = f'single {int(now())}-{number}'
            if job.can_claim_task(task) and job.add_task(task):
                attempt(task)
                job.complete(task)

    def read() -> None:
        job.get_incomplete_tasks(60.0)
        for reading in (job.list_locks, job.list_items, job.get_active_nodes, job.get_coordination_status, job.get_audit):
            reading()
        job.owner_of('x')

    def lock() -> None:
        job.register_task_lock(order.watched[0], [f'{job.node_name}%', '%'], reason='churn', expires_in_days=0.0005)
        time.sleep(2.0)
        job.clear_locks_by_creator(job.node_name)

    job.every(1.0, 'run', name='tick')(lambda: attempt('every:tick'))
    threads = [
        threading.Thread(target=_repeat, args=(job, log, action), daemon=True)
        for action in (batches, things, turns, by_hand, read, lock)
    ]
    for thread in threads:
        thread.start()
    _repeat(job, log, rounds)
    for thread in threads:
        thread.join(60.0)


def _repeat(job: Job, log: LogWriter, action: Callable[[], None]) -> None:
    while not job.is_leaving:
        with survive(log):
            action()
        time.sleep(0.5)


WORK: Mapping[str, Callable[[Job, FaultOrder, Traps, LogWriter], None]] = {
    each.__name__: each for each in (claim, batch, items, singleton, every, everything)
}


def do(task: str, traps: Traps, log: LogWriter) -> None:
    """Do one task."""
    log.write('begin', task=task)
    time.sleep(0.004)
    traps.spring(TASK, 'before')
    log.write('end', task=task)


@contextlib.contextmanager
def survive(log: LogWriter) -> Iterator[None]:
    """Log an error of the store and go on after a moment, as a program that serves for ever does."""
    try:
        yield
    except JobsyncError as error:
        log.write('error', error=type(error).__name__, text=str(error)[:200])
        time.sleep(0.1)
