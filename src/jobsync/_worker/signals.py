"""``handle_signals``: from SIGTERM and SIGINT to blocks that end in good order.

A process has one handler for each signal, and may have several jobs: nested, overlapping, or on one event loop. So one handler of
the process stands for all of them. The first job that is entered installs the handler, the last job that has left takes it away::

    enter A    the former handler is kept, jobs {A}
    enter B    jobs {A, B}
    SIGTERM    A and B are told to leave
    leave A    jobs {B}: the handler stays, and B still hears a second signal
    leave B    jobs {}: the former handler is back
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from jobsync._worker.session import Session
from jobsync.errors import JobsyncError

__all__ = ['Signals']

_CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What signals mean to one job, from its entering to its leaving.

    The first signal asks the node to leave and lets the program go on: its loop ends for want of tasks, and so does its block. If
    the block has not ended when ``shutdown_timeout_sec`` is over, or at a second signal, ``SystemExit`` is raised in it.
    """

    def __init__(self, member: Session, shutdown_timeout_sec: float) -> None:
        self._session, self._shutdown_timeout_sec = member, shutdown_timeout_sec
        self._timer: threading.Timer | None = None
        self._ending = threading.Lock()
        self.caught = False
        """Whether a signal has come."""
        self.is_leaving = False
        """Whether the block is being left: then there is nothing to interrupt."""

    def catch(self) -> None:
        """Handle the signals from now on. Only Python's main thread can begin to."""
        if threading.current_thread() is not threading.main_thread():
            raise JobsyncError(
                f'job {self._session.node_name!r}: handle_signals=True works in the main thread only; enter the job there, or '
                'handle signals yourself'
            )
        _process.add(self)

    def let_go(self) -> None:
        """Handle the signals no longer.

        In the main thread this raises ``SystemExit`` if a second signal came while this job was leaving, and found another job's
        block around this one that is to end too.
        """
        if self not in _process.jobs:
            return
        if self._timer is not None:
            self._timer.cancel()
        with self._ending:  # else the timer of a block that has ended could still send the signal, to the former handler
            _process.jobs.discard(self)
        _process.settle()

    def tell(self, number: int) -> None:
        """Ask the node to leave, and end its block when its time is over."""
        self.caught = True
        self._session.begin_to_leave()
        self._timer = threading.Timer(self._shutdown_timeout_sec, self._end, (number,))
        self._timer.daemon = True
        self._timer.start()

    def insist(self) -> None:
        """Ask the node to leave without waiting for anything in flight."""
        self._session.begin_to_leave(at_once=True)

    def _end(self, number: int) -> None:
        with self._ending:
            if self in _process.jobs:
                _process.is_late = True
                os.kill(os.getpid(), number)


class _Process:
    """The handler of this process, and the jobs that it stands for.

    The handler runs in the main thread between any two steps of what is written here, so it takes no lock, and each step may be
    made twice.
    """

    def __init__(self) -> None:
        self.jobs: set[Signals] = set()
        self.is_late = False
        """Whether the time of a job is over: then the exit is in good order."""
        self._former: dict[signal.Signals, _Disposition] = {}
        self._owed: int | None = None
        """The status of an exit that could not be raised, since a job was leaving."""

    def add(self, job: Signals) -> None:
        """Let a job be told of signals; at once, if the others have been."""
        if not self.jobs:
            self.restore()  # if the last one has left in another thread
        is_told = any(each.caught for each in self.jobs)
        self.jobs.add(job)
        for number in _CAUGHT:
            if number not in self._former:
                self._former[number] = _Disposition(number)
                signal.signal(number, _handle)
        if is_told and not job.caught:
            job.tell(signal.SIGTERM)

    def settle(self) -> None:
        """Do what is due when a job has gone: take the handler away after the last one, raise an exit that is owed."""
        if threading.current_thread() is not threading.main_thread():
            return
        if not self.jobs:
            self.restore()
        elif self._owed is not None and not any(each.is_leaving for each in self.jobs):
            status, self._owed = self._owed, None
            raise SystemExit(status)

    def restore(self) -> None:
        """Put back what was there before the first job."""
        for number in list(self._former):
            self._former[number].restore()
            self._former.pop(number, None)
        self.is_late, self._owed = False, None

    def handle(self, number: int) -> None:
        """Tell all jobs of a signal; at the next one end the block that the main thread is in."""
        jobs = tuple(self.jobs)
        if not jobs:  # the last one has left in another thread, which cannot take the handler away
            self.restore()
            signal.raise_signal(number)
            return
        untold = [job for job in jobs if not job.caught]
        for job in untold:
            job.tell(number)
        if untold:
            return
        for job in jobs:
            job.insist()
        status = 0 if self.is_late else 128 + number
        if not any(job.is_leaving for job in jobs):
            raise SystemExit(status)
        self._owed = status

    def after_fork(self) -> None:
        """Give a forked child the former handlers, for it is no part of any job here."""
        self.jobs.clear()
        self.restore()


class _Disposition:
    """What a signal did before the handler was there, in Python's books and in the system's.

    The two differ if C code has installed a handler: then Python names another one, or knows none and says None, which
    ``signal.signal`` refuses.
    """

    def __init__(self, number: signal.Signals) -> None:
        import ctypes  # only now: a process that handles its signals itself needs none of it

        self._number, self._libc = number, ctypes.CDLL(None)
        self._of_python = signal.getsignal(number)
        self._of_system = (ctypes.c_long * 64)()  # more than a struct sigaction takes anywhere
        self._libc.sigaction(number, None, self._of_system)

    def restore(self) -> None:
        """Put it back, unless the program has installed another handler meanwhile."""
        if signal.getsignal(self._number) is _handle:
            signal.signal(self._number, signal.SIG_DFL if self._of_python is None else self._of_python)
            self._libc.sigaction(self._number, self._of_system, None)


def _handle(number: int, _: FrameType | None) -> None:
    _process.handle(number)


_process = _Process()
os.register_at_fork(after_in_child=_process.after_fork)
