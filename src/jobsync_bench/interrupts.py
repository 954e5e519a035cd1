"""Ctrl-C and SIGTERM as an exception: a run ends its processes and keeps its measurements."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ['AwaitedThread', 'Interrupted', 'interruptible', 'run_interruptible']

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SEC = 0.5
_AGAIN_SEC = 0.05


class Interrupted(KeyboardInterrupt):
    """A signal was received. ``except Exception`` does not catch this."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def status(self) -> int:
        """The exit status after this signal."""
        return 128 + self.signal


def run_interruptible(action: Callable[[], object]) -> NoReturn:
    """Run an action as a whole program, and exit. After a signal the exit status is that of the signal."""
    try:
        with interruptible():
            action()
    except Interrupted as stopped:
        sys.exit(stopped.status)
    sys.exit(0)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make the first signal raise ``Interrupted`` in the main thread. Later signals are ignored during the clean-up."""
    senders, over, hook = list[threading.Thread](), threading.Event(), sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is send_again.__code__:
                return  # raised in there it would be dropped as well, and it is sent again
            frame = frame.f_back
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    def send(number: int) -> None:
        while not over.wait(_AGAIN_SEC):
            os.kill(os.getpid(), number)

    def send_again(dropped: sys.UnraisableHookArgs) -> None:
        # t=0  an object is freed, and Python calls its ``__del__``, or what a weak reference to it calls
        # t=1  the handler raises in there, where Python drops exceptions: the run would go on, and ignore each later signal
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)
            return
        for each in _SIGNALS:
            signal.signal(each, stop)
        senders.append(threading.Thread(target=send, args=(dropped.exc_value.signal,), daemon=True))
        senders[-1].start()

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        try:
            over.set()
            for sender in senders:
                sender.join()  # its signal would end the process once the handlers are put back
        finally:
            sys.unraisablehook = hook
            for each, handler in before.items():
                signal.signal(each, handler)


class AwaitedThread:
    """A thread, which runs from its construction on.

    ``Thread.join`` does not do here: after an exception of a signal handler in ``join``, CPython before 3.13 treats the thread
    as ended.
    """

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._over = threading.Event()
        self._action = action
        threading.Thread(target=self._run, name=f'jobsync-bench-{name}', daemon=True).start()

    def _run(self) -> None:
        try:
            self._action()
        finally:
            self._over.set()

    def wait(self) -> None:
        """Wait for the end of the action."""
        while not self._over.wait(_POLL_SEC):
            pass
