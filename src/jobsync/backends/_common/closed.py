"""Whether a handle is closed, for the threads that wait with it."""

from __future__ import annotations

from queue import Empty, SimpleQueue

__all__ = ['Closed']


class Closed:
    """A flag that is set once, and ends the waits for it. A ``threading.Event`` has a lock, which it takes in several steps.

    t=0  a handle is closed: ``Event.set`` takes its lock
    t=1  an exception from outside (KeyboardInterrupt) comes before the block that would release it
    t=2  the handle is closed once more, as whatever leaves a job does after an error: it would wait for the lock for ever
    """

    def __init__(self) -> None:
        self._is_set = False
        self._bell: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, and end all waits."""
        self._is_set = True
        self._bell.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait until the flag is set, at most so many seconds; return whether it is."""
        try:
            self._bell.get(timeout=timeout)
            self._bell.put(None)  # for the next thread that waits
        except Empty:
            pass
        return self._is_set
