"""A signal at a moment that a test chooses, in the very process of the test."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

DEADLINE_SEC = 120


@contextlib.contextmanager
def a_signal_comes(after: Callable[[], object], handler: Callable[..., object]) -> Iterator[None]:
    """Once ``after`` has returned, in another thread, the main thread, which this block is in, is interrupted by ``handler``."""

    def send() -> None:
        after()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(DEADLINE_SEC)
        signal.signal(signal.SIGUSR1, before)
