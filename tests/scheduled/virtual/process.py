"""One virtual process: a clock, a main thread and the threads that it starts, and the signals that reach the main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.scheduled.virtual.threads import VirtualThread

if TYPE_CHECKING:
    from tests.scheduled.virtual.host import VirtualHost

__all__ = ['VirtualProcess']


class VirtualProcess:
    """A process of a ``VirtualHost``.

    Args:
        host: The host that runs it.
        name: A name for people.
        ahead: The clock of this process at time 0 of the host.
        rate: How many seconds this clock counts in one second of the host.
        is_disturbed: Whether steps of its threads may be disturbed (see ``VirtualHost.step``).
    """

    def __init__(self, host: VirtualHost, name: str, ahead: float = 0.0, rate: float = 1.0, *, is_disturbed: bool = True) -> None:
        self.host, self.name, self.ahead, self.rate, self.is_disturbed = host, name, ahead, rate, is_disturbed
        self.main: VirtualThread | None = None
        self.is_killed = False
        self.held_until = 0.0
        self._signals: list[Callable[[], object]] = []
        self.things: dict[object, object] = {}
        """What there is once in each process: the event log, the handler of signals."""

    def start(self, main: Callable[[], object]) -> VirtualThread:
        """Run a function in the main thread of this process."""
        self.main = VirtualThread(self.host, target=main, name='main', process=self)
        self.main.start()
        return self.main

    def now(self) -> float:
        """Return what the clock of this process shows."""
        return self.ahead + self.rate * self.host.now

    @property
    def is_running(self) -> bool:
        """Return whether the main thread has begun and not ended, and the process is not killed."""
        return self.main is not None and self.main.is_alive() and not self.is_killed

    def kill(self) -> None:
        """Let no thread of this process make another step."""
        self.is_killed = True

    def hold(self, seconds: float) -> None:
        """Let no thread of this process make a step for some seconds of the host, as if the process were stopped."""
        self.held_until = max(self.held_until, self.host.now + seconds)

    def let_go(self) -> None:
        """End a hold before its time, for all threads at once, as SIGCONT does."""
        if self.host.now < self.held_until:
            self.host.resume_held(self)
            self.held_until = self.host.now

    def interrupt(self, handler: Callable[[], object]) -> None:
        """Have the main thread call a function at one of its next steps, also while it waits, as the handler of a signal."""
        self._signals.append(handler)
        if self.main is not None:
            self.host.interrupt(self.main)

    def take_signals(self) -> None:
        """Call the handlers that are due. To be called in the main thread."""
        while self._signals:
            self._signals.pop(0)()
