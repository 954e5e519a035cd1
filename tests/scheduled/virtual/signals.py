"""Signals of virtual processes: handlers that their main threads call at some later step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.scheduled.virtual.host import VirtualHost
    from tests.scheduled.virtual.process import VirtualProcess

__all__ = ['VirtualSignals']


class VirtualSignals:
    """What jobsync uses of the modules ``signal`` and ``os`` for signals."""

    SIGTERM, SIGINT, Signals = signal.SIGTERM, signal.SIGINT, signal.Signals
    SIG_DFL, SIG_IGN = signal.SIG_DFL, signal.SIG_IGN

    def __init__(self, host: VirtualHost) -> None:
        self._host = host

    def signal(self, number: int, handler: Any) -> Any:
        """Install a handler in this process, and return the one before it."""
        before = self.getsignal(number)
        self._host.process.things['signal', number] = handler
        return before

    def getsignal(self, number: int) -> Any:
        """Return the handler of this process."""
        return self._handler(self._host.process, number)

    def raise_signal(self, number: int) -> None:
        """Send a signal to this process."""
        self.send(self._host.process, number)

    def kill(self, _: int, number: int) -> None:
        """Send a signal to this process: jobsync sends none to others."""
        self.send(self._host.process, number)

    def getpid(self) -> int:
        """Return the number of every process here: people alone read it."""
        return 0

    def send(self, process: VirtualProcess, number: int) -> None:
        """Have the process handle a signal, or end it if it has no handler."""
        handler: Any = self._handler(process, number)
        process.interrupt(process.kill if handler is signal.SIG_DFL else _call(handler, number))

    def _handler(self, process: VirtualProcess, number: int) -> Any:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        return process.things.get(('signal', number), default)


def _call(handler: Callable[[int, None], object], number: int) -> Callable[[], object]:
    return lambda: handler(number, None)
