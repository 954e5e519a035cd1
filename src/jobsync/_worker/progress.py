"""How far a batch is: a bar where ``rich`` is installed (the extra ``cli``), otherwise lines of the log."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from jobsync._event_log import EventLogger
from jobsync._runtime import clock

__all__ = ['ProgressBar']

_logger = EventLogger('jobsync.job')

_LOG_SEC = 10.0
"""How often a line is logged where there is no bar."""


class ProgressBar:
    """The number of complete tasks of a batch, wherever they were done."""

    def __init__(self, node_name: str, total: int) -> None:
        self._node_name, self._total = node_name, total
        self.shown_at = -math.inf
        """When the number was shown last, by the clock of this process."""
        self._logged_at = -math.inf
        self._bar: Any = None
        try:
            from rich.progress import Progress  # only now: it is in an extra, and takes long to import
        except ImportError:
            return
        self._bar = Progress()
        self._row = self._bar.add_task(f'tasks of {node_name}', total=total)

    def show(self, complete: int) -> None:
        """Show that so many tasks are complete."""
        self.shown_at = clock.now()
        if self._bar is not None:
            # Older versions of rich show one bar at a time, and the program may have one; and its output may be closed.
            try:
                if not self._bar.live.is_started:
                    self._bar.start()
                self._bar.update(self._row, completed=complete)
            except Exception as error:  # noqa: BLE001 - what cannot be shown must not end the user's loop
                _logger.info('node %r: no bar can be shown, so its numbers are logged: %s', self._node_name, error)
                self.close()
                self._bar = None
        if self._bar is None and (self.shown_at >= self._logged_at + _LOG_SEC or complete == self._total):
            self._logged_at = self.shown_at
            _logger.info('node %r: tasks of a batch that are complete: %d of %d', self._node_name, complete, self._total)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            with suppress(Exception):
                self._bar.stop()
