"""How a node comes by its name, when another process or an earlier run of its own is registered under it (rule R6)."""

from __future__ import annotations

from jobsync._core.config import NodeConfig
from jobsync._core.records import Node
from jobsync.errors import NodeNameInUse

__all__ = ['NameRegistration']


class _NameWatch:
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

    def blinded(self) -> None:
        """Start again with the next reading, because a call of the watcher failed."""
        self._read_at = float('-inf')

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


class NameRegistration:
    """One node's name, through all its incarnations."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._past: set[str] = set()
        """Its incarnations, the present one included."""
        self.watch: _NameWatch | None = None

    def begin_session(self, incarnation: str) -> None:
        """This incarnation wants the name now."""
        self._incarnation, self.watch = incarnation, None
        self._past.add(incarnation)

    def registration(self, now: float) -> tuple[frozenset[str], tuple[str, int] | None]:
        """What a registration may say is over (incarnations), and the record it may replace (incarnation, heartbeat)."""
        watch, replacing = self.watch, None
        if watch is not None and (watch.record.incarnation in self._past or watch.is_over(now)):
            replacing = watch.record.beat
        return frozenset(self._past - {self._incarnation}), replacing

    def blinded(self) -> None:
        """Forget how long the name's present owner has not stirred, because a call of this node failed (rule R2)."""
        if self.watch is not None:
            self.watch.blinded()

    def taken(self, record: Node, now: float) -> tuple[float, str | None]:
        """The name is registered, as this record says: when to try again, and what there is to tell people.

        Raises ``NodeNameInUse`` if whoever has it is alive.
        """
        watch, is_past, told = self.watch, record.incarnation in self._past, None
        pause = 0.0 if is_past else self._config.retry_sec
        if watch is None or is_past:
            watch = self.watch = _NameWatch(record, now, self._config.blind_after_sec)
            told = None if is_past else watch.announcement
        elif watch.has_stirred(record, now):
            raise watch.in_use(record)
        return min(now + pause, max(now, watch.over_at)), told
