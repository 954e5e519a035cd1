"""Watching a node that is registered under the name one wants (rule R6)."""

from __future__ import annotations

from jobsync.core.model import Node
from jobsync.errors import NodeNameInUse

__all__ = ['NameWatch']


class NameWatch:
    """Tells whether the other process is alive: its heartbeat moves, or stands still for its whole timeout."""

    def __init__(self, record: Node, now: float, blind_after_sec: float) -> None:
        """Begin to watch ``record``, read at ``now``. After ``blind_after_sec`` without a reading the watch starts again."""
        self.record = record
        self._since = self._read_at = now
        self._blind_after_sec = blind_after_sec

    @property
    def over_at(self) -> float:
        """When the other is proved dead, if it does not stir."""
        return self._since + self.record.timeout_sec

    def is_over(self, now: float) -> bool:
        """Whether the other is proved dead. What was not watched, during an outage say, proves nothing."""
        return now >= self.over_at and now - self._read_at <= self._blind_after_sec

    @property
    def announcement(self) -> str:
        """What is going on, for people."""
        return (
            f'node name {self.record.name!r} is registered by pid {self.record.pid} on {self.record.host}; '
            f'taking it over unless that process stirs within {self.record.timeout_sec:g} s'
        )

    def has_stirred(self, record: Node, now: float) -> bool:
        """Take another reading; say whether somebody is alive under the name."""
        if record.beat != self.record.beat:
            return True
        if now - self._read_at > self._blind_after_sec:
            self._since = now
        self._read_at = now
        return False

    @staticmethod
    def in_use(record: Node) -> NodeNameInUse:
        """The error that says so."""
        return NodeNameInUse(
            f'node name {record.name!r} is in use by a live process (pid {record.pid} on {record.host}); '
            'give this worker another name, or stop the other one',
            record.name,
            record.host,
            record.pid,
        )
