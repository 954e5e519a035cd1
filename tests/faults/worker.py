"""One worker of a fault run: ``python -m tests.faults.worker``. It reads its orders from stdin, one JSON object a line.

The first line is a ``FaultOrder``. Every further line is a command: ``{"do": "trap", …}`` (a ``Trap``), ``{"do": "locks"}``,
``{"do": "log"}``, ``{"do": "weigh", "weight": 2.0}``. The end of stdin changes nothing; SIGTERM ends the worker.

The log is that of ``jobsync.testing.worker_log``, with the lines of ``tests.faults.grants``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from benchmarks.rolling_worker import Load, Order, work
from tests.faults.breaks import BREAK, BREAKS
from tests.faults.grants import log_answers, record_grants

from jobsync import CoordinationConfig, Job
from jobsync._core.hashing import tokenizer
from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable, ClusterTimeout, JobsyncError
from jobsync.testing.worker_log import LogWriter

__all__ = ['FaultOrder', 'Trap']

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
    late_sec: float = 0.0
    """How long the call waits after the signal, as that of a thread that gets the processor last."""
    name: str = ''
    """In the lines of the log that say that the trap is set (``set NAME``) and sprung (``trapped NAME``)."""


class Traps:
    """The trap that is set, if any."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self.trap: Trap | None = None

    def spring(self, call: str, when: str) -> None:
        """Send the signal if the trap is for this call."""
        trap = self.trap
        if trap is None or trap.call != call or trap.when != when:
            return
        if trap.skip:
            self.trap = attrs.evolve(trap, skip=trap.skip - 1)
            return
        self.trap = None
        self._log.write(f'trapped {trap.name}', call=call, when=when)
        os.kill(os.getpid(), trap.signal)
        time.sleep(trap.late_sec)


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


WORK: Mapping[str, Callable[[Job, FaultOrder, Traps, LogWriter], None]] = {
    each.__name__: each for each in (claim, batch, items, singleton, every)
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


class Commands(threading.Thread):
    """Carries out the commands that come by stdin."""

    def __init__(self, job: Job, traps: Traps, log: LogWriter, watched: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._job, self._traps, self._log, self._watched = job, traps, log, watched

    def run(self) -> None:
        """See ``Thread``."""
        for line in sys.stdin:
            command = json.loads(line)
            with survive(self._log):
                getattr(self, f'do_{command.pop("do")}')(**command)

    def do_trap(self, **fields: Any) -> None:
        """Set a trap, in the place of one that was not sprung."""
        self._traps.trap = Trap(**fields)
        self._log.write(f'set {fields["name"]}')

    def do_disarm(self) -> None:
        """Remove the trap."""
        self._traps.trap = None

    def do_locks(self, seconds: float) -> None:
        """Register and clear task locks in a loop."""
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end and not self._job.is_leaving:
            with survive(self._log):
                number += 1
                task, node = self._watched[number % len(self._watched)], f'w{number % 5}%'
                self._job.register_task_lock(task, [node, '%'], reason='churn')
                if number % 7 == 0:
                    self._job.clear_locks_by_creator(self._job.node_name)
            time.sleep(CHURN_SEC)
        with survive(self._log):
            self._job.clear_locks_by_creator(self._job.node_name)

    def do_log(self) -> None:
        """Write more into stderr than a pipe holds, without end."""

        def write() -> None:
            while True:
                logging.getLogger('jobsync.noise').warning('x' * 4000)

        threading.Thread(target=write, daemon=True).start()

    def do_weigh(self, weight: float) -> None:
        """Change the weight."""
        self._job.set_weight(weight)


def serve(order: FaultOrder, log: LogWriter) -> bool:
    """Run one job; return False if the store did not let it enter, as a supervisor would notice."""
    config, traps, over = CoordinationConfig(**order.settings), Traps(log), threading.Event()
    job = Job(order.node, coordination_config=config, wait_on_enter=60, handle_signals=True)
    job._session.instrument = lambda backend: TrappedBackend(backend, traps)
    answers = (job, tokenizer(config.hash_function, config.total_tokens), config.total_tokens, log, over)
    threading.Thread(target=log_answers, args=answers, daemon=True).start()
    has_entered = False
    try:
        with job:
            has_entered = True
            Commands(job, traps, log, order.watched).start()
            log.write('entered')
            WORK[order.kind](job, order, traps, log)
    except (BackendUnavailable, ClusterTimeout) as error:
        if has_entered:
            raise
        log.write('error', error=type(error).__name__, text=str(error)[:200])
    finally:
        over.set()
    return has_entered


def main() -> None:
    order = FaultOrder(**json.loads(sys.stdin.readline()))
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(name)s %(message)s')
    log = LogWriter(Path(order.folder, f'{order.run}.log'))
    log.write('start', node=order.node, pid=os.getpid())
    with contextlib.ExitStack() as stack:
        if name := os.environ.get(BREAK):
            stack.enter_context(BREAKS[name]())
        record_grants(log, order.watched)
        while not serve(order, log):
            time.sleep(0.1)
    log.write('left')


if __name__ == '__main__':
    main()
