"""What an agent's events become: log lines, and calls of the user's ``on_rebalance``."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
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
    """Logs each structural change once, a repeated failure at a falling rate, and calls back on a thread of its own."""

    def __init__(self, node_name: str, on_rebalance: Callable[..., object] | None) -> None:
        self._node_name = node_name
        self._failures = 0
        self._callback = None if on_rebalance is None else _with_event(on_rebalance)
        self._changes: SimpleQueue[Change | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        if self._callback is not None:
            self._thread = threading.Thread(target=self._call_back, name=f'jobsync-callbacks-{node_name}', daemon=True)
            self._thread.start()

    def report(self, events: Iterable[Change | Note]) -> None:
        """Tell people and the user's code. Must be called without a lock: logging may block."""
        for event in events:
            if isinstance(event, Change):
                if self._thread is not None:
                    self._changes.put(event)
            elif event.level == 'retry':
                self._failures += 1
                if self._failures & (self._failures - 1) == 0:
                    _logger.warning('node %r: %s (failure %d in a row)', self._node_name, event.text, self._failures)
            else:
                _logger.log(_LEVELS[event.level], '%s', event.text)

    def succeeded(self) -> None:
        """A heartbeat got through."""
        if self._failures:
            _logger.info('node %r: the store answers again after %d failures', self._node_name, self._failures)
            self._failures = 0

    def close(self) -> None:
        """No more calls after those that wait."""
        self._changes.put(None)

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
