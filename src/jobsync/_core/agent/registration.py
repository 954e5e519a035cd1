"""How a node takes a name under which another process, or an earlier run of its own, is registered (rule R6).

::

t=0   the newcomer reads the record of its name: heartbeat 41
t=15  the record still has heartbeat 41: the other process is dead, by its own timeout; the newcomer replaces (run, 41)
or
t=3   the record has heartbeat 42: the other process is alive, and the newcomer raises ``NodeNameInUse``
"""

from __future__ import annotations

from jobsync._core.config import NodeConfig
from jobsync._core.records import Node
from jobsync.errors import NodeNameInUse

__all__ = ['NameRegistration']


class _NameWatch:
    """A watch over the other process: alive if its heartbeat moves, dead if it does not for its whole timeout."""

    def __init__(self, record: Node, now: float, blind_after_sec: float) -> None:
        """Begin to watch ``record``, read at ``now``. After ``blind_after_sec`` without a reading the watch starts again."""
        self.record = record
        self._since = self._read_at = now
        self._blind_after_sec = blind_after_sec

    @property
    def over_at(self) -> float:
        """When the other process is proved dead, if its heartbeat does not move."""
        return self._since + self.record.timeout_sec

    def is_over(self, now: float) -> bool:
        """Return whether the other process is proved dead. A time without readings, such as an outage, proves nothing."""
        return now >= self.over_at and now - self._read_at <= self._blind_after_sec

    @property
    def announcement(self) -> str:
        """What the node waits for, for the log."""
        return (
            f'node name {self.record.name!r} is registered by pid {self.record.pid} on {self.record.host}; '
            f'taking it over unless that process sends a heartbeat within {self.record.timeout_sec:g} s'
        )

    def has_stirred(self, record: Node, now: float) -> bool:
        """Take another reading; return whether the other process is alive."""
        if record.beat != self.record.beat:
            return True
        if now - self._read_at > self._blind_after_sec:
            self._since = now
        self._read_at = now
        return False

    def blinded(self) -> None:
        """Start again with the next reading, because a call of this node failed."""
        self._read_at = float('-inf')

    @staticmethod
    def in_use(record: Node) -> NodeNameInUse:
        """Return the error for a name whose process is alive."""
        return NodeNameInUse(
            f'node name {record.name!r} is in use by a live process (pid {record.pid} on {record.host}); '
            'give this worker another name, or stop the other one',
            record.name,
            record.host,
            record.pid,
        )


class NameRegistration:
    """The name of one node, through all its incarnations."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._past: set[str] = set()
        """The node's incarnations, the present one included."""
        self.watch: _NameWatch | None = None

    def begin_session(self, incarnation: str) -> None:
        """Begin to take the name for a new incarnation."""
        self._incarnation, self.watch = incarnation, None
        self._past.add(incarnation)

    def registration(self, now: float) -> tuple[frozenset[str], tuple[str, int] | None]:
        """Return the incarnations that a registration declares over, and the (incarnation, heartbeat) it may replace, if any."""
        watch, replacing = self.watch, None
        if watch is not None and (watch.record.incarnation in self._past or watch.is_over(now)):
            replacing = watch.record.beat
        return frozenset(self._past - {self._incarnation}), replacing

    def blinded(self) -> None:
        """Count the other process's silence anew, because a call of this node failed (rule R2)."""
        if self.watch is not None:
            self.watch.blinded()

    def taken(self, record: Node, now: float) -> tuple[float, str | None]:
        """Return when to register again, given the record that has the name, and what to log, if anything.

        Raises ``NodeNameInUse`` if the process of that record is alive.
        """
        watch, is_past, told = self.watch, record.incarnation in self._past, None
        pause = 0.0 if is_past else self._config.retry_sec
        if watch is None or is_past:
            watch = self.watch = _NameWatch(record, now, self._config.blind_after_sec)
            told = None if is_past else watch.announcement
        elif watch.has_stirred(record, now):
            raise watch.in_use(record)
        return min(now + pause, max(now, watch.over_at)), told
