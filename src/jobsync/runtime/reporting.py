"""What an agent's notes become: log lines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue

from jobsync.core.events import Note

__all__ = ['Reporter']

_logger = logging.getLogger('jobsync.node')
_LEVELS = {'info': logging.INFO, 'warning': logging.WARNING, 'error': logging.ERROR}


class Reporter:
    """Logs each structural change once, and a repeated failure at a falling rate.

    What happens is first noted, which takes no lock and cannot block, and told later by whoever can afford to wait for a log.
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._failures: dict[str, int] = {}
        self._notes: SimpleQueue[Note] = SimpleQueue()
        self._telling = threading.Lock()

    def note(self, events: Iterable[Note], call: str) -> None:
        """What happened in a step; ``call`` is the call that it took the answer of, if any. Not for two threads at once."""
        for event in events:
            if event.level == 'retry':
                count = self._failures[call] = self._failures.get(call, 0) + 1
                if count & (count - 1) == 0:
                    self._notes.put(Note('warning', f'node {self._node_name!r}: {event.text} (failure {count} in a row)'))
            else:
                self._notes.put(event)

    def succeeded(self, call: str) -> None:
        """A call got through. Not for two threads at once."""
        if self._failures and (count := self._failures.pop(call, 0)):
            self._notes.put(Note('info', f'node {self._node_name!r}: {call} succeeds again after {count} failures'))

    def tell(self) -> None:
        """Log what was noted, unless another thread is at it. Logging may block, on a lock or on a slow disk."""
        # Looked at again after each round: what is noted as a round ends is left to whoever is at it.
        while not self._notes.empty() and self._telling.acquire(blocking=False):
            try:
                while True:
                    note = self._notes.get_nowait()
                    _logger.log(_LEVELS[note.level], '%s', note.text)
            except Empty:
                pass
            finally:
                self._telling.release()
