"""The log of an agent: its messages become lines of the event log."""

from __future__ import annotations

import logging

from jobsync._core.agent.events import LogMessage
from jobsync._core.counting import counted
from jobsync._event_log import EventLogger

__all__ = ['AgentLog']

_logger = EventLogger('jobsync.node')
_LEVELS = {'info': logging.INFO, 'warning': logging.WARNING, 'error': logging.ERROR}


class AgentLog:
    """Logs structural changes once each, and a repeated failure at a falling rate. Not for two threads at once."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._failures: dict[str, int] = {}
        self._slow = 0

    def write(self, event: LogMessage, call: str) -> None:
        """Log a message of a step. ``call`` is the name of the call whose answer the step applied; empty for none."""
        if event.level == 'retry':
            count = self._failures[call] = self._failures.get(call, 0) + 1
            if count & (count - 1) == 0:
                _logger.warning('node %r: %s (failure %d in a row)', self._node_name, event.text, count)
        elif event.level == 'slow':
            self._slow += 1
            if self._slow & (self._slow - 1) == 0:
                _logger.warning(
                    'node %r: %s (%s so far). The store or the network is slow, this machine is overloaded, or this process '
                    'was stopped for a while; once a heartbeat takes as long as the lease, this node loses its tokens',
                    self._node_name,
                    event.text,
                    counted(self._slow, 'time'),
                )
        else:
            _logger.log(_LEVELS[event.level], '%s', event.text)

    def is_due(self, call: str) -> bool:
        """Return whether the next failure of a call is one that is logged."""
        before = self._failures.get(call, 0)
        return before & (before + 1) == 0

    def succeeded(self, call: str) -> None:
        """Log that a call succeeds again, if it had failed."""
        if self._failures and (count := self._failures.pop(call, 0)):
            _logger.info('node %r: %s succeeds again after %s', self._node_name, call, counted(count, 'failure'))
