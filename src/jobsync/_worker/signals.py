"""``handle_signals``: from SIGTERM and SIGINT to blocks that end in good order.

A process has one handler for each signal, and may have several jobs: nested, overlapping, or on one event loop. So one handler of
the process stands for all of them. The first job that is entered installs the handler, the last job that has left removes it::

    enter A    the former handler is kept, jobs {A}
    enter B    jobs {A, B}
    SIGTERM    A and B stop
    leave A    jobs {B}: the handler stays, and a second signal reaches B
    leave B    jobs {}: the former handler is back
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

from jobsync._core.counting import counted
from jobsync._core.redact import cut_repr, listed
from jobsync._event_log import EventLogger
from jobsync._threads import start
from jobsync._worker.session import Session
from jobsync._worker.stages import SessionEvent, Stage
from jobsync._worker.task_log import TaskLog
from jobsync.errors import JobsyncError

__all__ = ['Signals']

_logger = EventLogger('jobsync.job')
_HANDLED = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The signals of one job, from its entering to its leaving.

    The first signal stops the node and lets the program go on: its loop ends for want of tasks, and so does its block. A second
    signal raises ``SystemExit`` in the block, as does the end of ``shutdown_timeout_sec`` if the block still runs then.
    """

    def __init__(self, session: Session, task_log: TaskLog) -> None:
        self.session, self._task_log, self._shutdown_timeout_sec = session, task_log, session.config.shutdown_timeout_sec
        self._timer: threading.Timer | None = None
        self._is_sending = threading.Lock()

    @property
    def have_come(self) -> bool:
        """Return whether a signal has come."""
        return self.session.stages.has_seen(SessionEvent.SIGNAL)

    @property
    def has_ended_block(self) -> bool:
        """Return whether the block is being left or was left: then there is nothing to interrupt."""
        return self.session.stages.stage in (Stage.LEAVING, Stage.LEFT)

    def catch(self) -> None:
        """Handle signals from now on. Raise ``JobsyncError`` outside the main thread, where Python allows no handler."""
        if threading.current_thread() is not threading.main_thread():
            raise JobsyncError(
                f'job {self.session.node_name!r}: handle_signals=True works in the main thread only; enter the job there, or '
                'handle signals yourself'
            )
        _process.add(self)

    def release(self) -> None:
        """Handle signals no longer.

        In the main thread this raises ``SystemExit`` if a second signal came while this job was leaving, and another job's block
        around this one is to end too.
        """
        if self not in _process.jobs:
            return
        if self._timer is not None:
            self._timer.cancel()
        # t=0  timer thread: shutdown_timeout_sec is over, the job is in ``jobs``, a signal is to be sent
        # t=1  main thread: the block ends, and the former handler comes back
        # t=2  timer thread: sends the signal, and the former handler ends the program
        # The lock closes this: the signal is sent before t=1, or the timer finds the job gone.
        with self._is_sending:
            _process.jobs.pop(self, None)
        _process.settle()

    def stop(self, number: int) -> None:
        """Have the node stop, and send the signal again when the block's time is over."""
        self.session.stop(SessionEvent.SIGNAL)
        self._log(
            logging.INFO,
            f'{_name(number)} has come: no further task is started, and the block has {self._shutdown_timeout_sec:g} s to end',
        )
        timer = self._timer = threading.Timer(self._shutdown_timeout_sec, self._end_block, (number,))
        timer.daemon = True
        start(lambda: timer)

    def hurry(self, number: int) -> None:
        """Have the node leave without waiting for tasks in flight."""
        stages = self.session.stages
        if not stages.has_seen(SessionEvent.HURRY):
            is_late = stages.has_seen(SessionEvent.TIMEOUT)
            late = f'{self._shutdown_timeout_sec:g} s after the signal the block goes on'
            why = late if is_late else f'{_name(number)} has come again'
            self._log(logging.WARNING, f'{why}: the block is left at once, and no task in flight is waited for')
        self.session.stop(SessionEvent.HURRY)

    def _log(self, level: int, text: str) -> None:
        """Log a line with the tasks that are open and the turns that go on."""
        count = self._task_log.open_tasks
        open_tasks = (
            f'{counted(count, "task is", "tasks are")} open: {self._task_log.open_names()}' if count else 'no task is open'
        )
        turns = self._task_log.turns()
        held = f', {counted(len(turns), "turn goes", "turns go")} on: {listed(map(cut_repr, turns))}' if turns else ''
        _logger.log(level, 'node %r: %s; %s%s', self.session.node_name, text, open_tasks, held)

    def _end_block(self, number: int) -> None:
        with self._is_sending:
            if self in _process.jobs:
                self.session.stages.record(SessionEvent.TIMEOUT)
                os.kill(os.getpid(), number)


class _Process:
    """The handler of this process, and the jobs that it stands for.

    The handler runs in the main thread between any two steps of the code here, so it takes no lock, and each step may be made
    twice.
    """

    def __init__(self) -> None:
        self.jobs: dict[Signals, None] = {}
        """In the order of entering. A job may leave in any thread, so they are copied, in one step, before they are read."""
        self._former: dict[signal.Signals, _Disposition] = {}
        self._pending_status: int | None = None
        """The status of an exit that could not be raised yet, since a job was leaving."""

    def add(self, job: Signals) -> None:
        """Let signals stop a job; at once, if a signal has stopped the others."""
        if not self.jobs:
            self.restore()  # if the last one has left in another thread
        self.jobs[job] = None
        for number in _HANDLED:
            # A shell starts what it runs in the background with SIGINT ignored, so that Ctrl-C at its terminal ends nothing else.
            is_not_meant = number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN
            if number not in self._former and not is_not_meant:
                # The former handler is stored before ours is installed: a signal in between can be passed on to it.
                former = self._former[number] = _Disposition(number)
                signal.signal(number, former.handle)
        # Read when the job is in ``jobs``: an earlier signal has stopped the others, and a later one stops this one too.
        if not job.have_come and any(each.have_come for each in tuple(self.jobs)):
            job.stop(signal.SIGTERM)

    def settle(self) -> None:
        """Remove the handler after the last job has gone, or raise an exit that was waiting for this one."""
        if threading.current_thread() is not threading.main_thread():
            return
        if not self.jobs:
            self.restore()
        elif self._pending_status is not None and not any(job.has_ended_block for job in tuple(self.jobs)):
            status, self._pending_status = self._pending_status, None
            raise SystemExit(status)

    def restore(self) -> None:
        """Put the handlers of before the first job back."""
        for number, former in list(self._former.items()):
            # Restored first, then forgotten: restored once more by a handler in between, which forgets all, nothing changes.
            former.restore()
            self._former.pop(number, None)
        self._pending_status = None

    def handle(self, number: int) -> None:
        """Stop all jobs; at the next signal end the block that the main thread is in."""
        jobs = tuple(self.jobs)
        if not jobs:  # the last one has left in another thread, which cannot remove the handler
            self.restore()
            signal.raise_signal(number)
            return
        # t=0  the first of two signals: this stops A, and is about to stop B
        # t=1  the second one: runs this again in between, finds that a signal has come to A, and hurries A and B
        # Counted for each job by itself, B would take the second signal for its first one, and only a third one would hurry it.
        if not any(job.have_come for job in jobs):
            for job in jobs:
                job.stop(number)
            return
        for job in jobs:
            job.hurry(number)
        is_timeout = any(job.session.stages.has_seen(SessionEvent.TIMEOUT) for job in jobs)
        status = 0 if is_timeout else 128 + number
        # t=0  main thread: leaves the inner of two blocks; its tokens are being given back
        # t=1  a second signal: SystemExit here would cut that short, and the inner node's tokens would wait for its lease
        # t=2  the inner job has left: ``settle`` raises the exit in the outer block
        if not any(job.has_ended_block for job in jobs):
            raise SystemExit(status)
        self._pending_status = status

    def forget_others(self) -> None:
        """Remove the jobs of the process that this one is a fork of."""
        for job in tuple(self.jobs):
            if not job.session.is_same_process:
                self.jobs.pop(job, None)
                if not self.jobs:
                    self.restore()

    def after_fork(self) -> None:
        """Give a forked child the former handlers: no job here is the child's."""
        self.jobs.clear()
        self.restore()


class _Disposition:
    """What a signal did before the handler was installed, for Python and for the operating system; and that handler.

    The two differ if C code has installed a handler: then Python returns another one, or None, which ``signal.signal`` refuses.
    """

    def __init__(self, number: signal.Signals) -> None:
        import ctypes  # only now: a process that handles its signals itself needs none of it

        self._number, self._libc = number, ctypes.CDLL(None)
        self._of_python = signal.getsignal(number)
        self._of_system = (ctypes.c_long * 64)()  # more than a struct sigaction takes anywhere
        self._libc.sigaction(number, None, self._of_system)

    def restore(self) -> None:
        """Put it back, unless the program has installed another handler meanwhile."""
        if signal.getsignal(self._number) == self.handle:
            self._put_back()

    def _put_back(self) -> None:
        signal.signal(self._number, signal.SIG_DFL if self._of_python is None else self._of_python)
        self._libc.sigaction(self._number, self._of_system, None)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Be the handler."""
        # t=0  a child is forked, and a signal comes to it before Python calls ``after_fork`` there, or C code forked it
        # t=1  the jobs are the parent's: the signal would stop them in the child, where nothing ends by that
        _process.forget_others()
        # t=0  in the block, the program installs a handler that calls the one before it, which is this one
        # t=1  the last job has left; a signal comes, and the program's handler calls this one
        # Sent once more the signal would come back here, and again, until Python allows no deeper calls.
        if _process.jobs or signal.getsignal(number) == self.handle:
            _process.handle(number)
        elif callable(self._of_python):
            self._of_python(number, frame)
        elif self._of_python != signal.SIG_IGN:
            self._put_back()
            signal.raise_signal(number)


def _name(number: int) -> str:
    return signal.Signals(number).name


_process = _Process()
os.register_at_fork(after_in_child=_process.after_fork)
