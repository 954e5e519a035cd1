"""What an agent's events become: log lines, and calls of the user's ``on_rebalance``."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any

import attrs

from jobsync.core.agent import Change, Note

__all__ = ['RebalanceEvent', 'Reporter']

_logger = logging.getLogger('jobsync.node')
_LEVELS = {'info': logging.INFO, 'warning': logging.WARNING, 'error': logging.ERROR}


@attrs.frozen
class RebalanceEvent:
    """What changed in the tokens that a node may claim."""

    node_name: str
    gained: frozenset[int]
    lost: frozenset[int]
    """Given up, or lost with the incarnation."""
    token_count: int
    """How many there are now."""


class Reporter:
    """Logs each structural change once, a repeated failure at a falling rate, and calls back on a thread of its own.

    What happens is first noted, which takes no lock and cannot block, and told later by whoever can afford to wait for a log.
    """

    def __init__(self, node_name: str, on_rebalance: Callable[..., object] | None) -> None:
        self._node_name = node_name
        self._failures: dict[str, int] = {}
        self._notes: SimpleQueue[Note] = SimpleQueue()
        self._telling = threading.Lock()
        self._changes: SimpleQueue[Change | None] = SimpleQueue()
        self._callback = None if on_rebalance is None else _with_event(on_rebalance)
        self._thread = threading.Thread(target=self._call_back, name=f'jobsync-callbacks-{node_name}', daemon=True)

    def start(self) -> None:
        """Begin to call back, if there is anything to call."""
        if self._callback is not None:
            self._thread.start()

    def note(self, events: Iterable[Change | Note], call: str) -> None:
        """What happened in a step; ``call`` is the call that it took the answer of, if any. Not for two threads at once."""
        for event in events:
            if isinstance(event, Change):
                if self._callback is not None:
                    self._changes.put(event)
            elif event.level == 'retry':
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
        if not self._telling.acquire(blocking=False):
            return
        try:
            while True:
                note = self._notes.get_nowait()
                _logger.log(_LEVELS[note.level], '%s', note.text)
        except Empty:
            pass
        finally:
            self._telling.release()

    def close(self) -> None:
        """Tell the rest; no more calls after those that wait."""
        self._changes.put(None)
        self.tell()

    def _call_back(self) -> None:
        assert self._callback is not None
        while (change := self._changes.get()) is not None:
            before, after = change.before.tokens, change.after.tokens
            event = RebalanceEvent(self._node_name, after - before, before - after, len(after))
            if event.gained or event.lost:
                try:
                    self._callback(event)
                except Exception:
                    _logger.exception('node %r: on_rebalance raised', self._node_name)


def _with_event(callback: Callable[..., Any]) -> Callable[[RebalanceEvent], Any]:
    """The callback as a function of the event, if it takes one, or of nothing."""
    try:
        inspect.signature(callback).bind(None)
    except TypeError:
        return lambda _: callback()
    except ValueError:  # a built-in without a signature
        return callback
    return callback
