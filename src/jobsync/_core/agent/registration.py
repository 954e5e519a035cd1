"""How a node takes a name under which another process, or an earlier run of its own, is registered (rule R6).

::

    t=0   the newcomer reads the record of its name: heartbeat 41
    t=15  the record still has heartbeat 41: the other process is dead, by its own timeout; the newcomer replaces (run, 41)
    or
    t=3   the record has heartbeat 42, which a process that is over may have left under way: the newcomer counts anew
    t=8   the record has heartbeat 43: the other process is alive, and the newcomer raises ``NodeNameInUse``
    or
    t=0   the host has proven that the other process is over: the newcomer replaces (run, 41) at once
"""

from __future__ import annotations

from jobsync._core.agent.failure_detector import FailureDetector
from jobsync._core.agent.known_deaths import KnownDeaths
from jobsync._core.config import NodeConfig
from jobsync._core.records import Node
from jobsync.errors import NodeNameInUse

__all__ = ['NameRegistration']

_REMEMBERED = 100
"""How many of its incarnations a node remembers. Each is in its record, which the store writes with each heartbeat, and which
others read: that of a node that starts over each second, for a day, would be too large for some stores. A call that the store
carries out late is of one of the last; and tokens of a run that is forgotten wait for a timeout."""


class NameRegistration:
    """The name of one node, through all its incarnations."""

    def __init__(self, config: NodeConfig, deaths: KnownDeaths) -> None:
        self._config, self._deaths = config, deaths
        self._detector = FailureDetector(config.blind_after_sec, 0.0)
        self._past: tuple[str, ...] = ()
        """The node's last incarnations, the present one last."""

    def begin_session(self, incarnation: str) -> None:
        """Begin to take the name for a new incarnation."""
        self._past = (*self._past, incarnation)[-_REMEMBERED:]
        self._holder: Node | None = None
        """The record that has the name, as last read."""
        self._is_replacing = False
        """Whether the last registration that was returned may replace that record."""
        self._detector.clear()
        self._changes = 0
        """How often the record was seen to change. A process that is over may have left one heartbeat under way."""

    def registration(self, now: float) -> tuple[frozenset[str], tuple[str, int] | None]:
        """Return the incarnations that a registration declares over, and the (incarnation, heartbeat) it may replace, if any."""
        holder, replacing = self._holder, None
        if holder is not None and (holder.incarnation in self._past or self._is_dead(holder, now)):
            replacing = holder.beat
        self._is_replacing = replacing is not None
        return frozenset(self._past[:-1]), replacing

    def _is_dead(self, holder: Node, now: float) -> bool:
        """Return whether the other process is proved dead. A time without readings, such as an outage, proves nothing."""
        if holder.ref in self._deaths:
            return True
        return self._detector.is_fresh(now) and bool(self._detector.suspects({holder.name: holder.timeout_sec}, now))

    def note_failure(self, now: float) -> None:
        """Note that a call of this node failed: until its next reading it is blind (rule R2)."""
        self._detector.note_failure(now, of_replacing=self._is_replacing)

    def taken(self, record: Node, now: float) -> tuple[float, str | None]:
        """Return when to register again, given the record that has the name, and what to log, if anything.

        Raises ``NodeNameInUse`` if the process of that record is alive.
        """
        before, self._holder = self._holder, record
        self._detector.note_all([record], now)
        if record.incarnation in self._past:
            return now, None
        if record.ref in self._deaths:
            text = f'node name {record.name!r} is registered by pid {record.pid} on {record.host}, which is over: taking it over'
            return now, text
        if before is not None and before.beat != record.beat:
            self._changes += 1
        if self._changes == 2:
            is_own = (record.host, record.pid) == (self._config.host, self._config.pid)
            raise NodeNameInUse(
                f'node name {record.name!r} is in use by a live process (pid {record.pid} on {record.host}'
                + (
                    '), which is this one, unless two containers share a host name: a Job of that name has not left. Leave it '
                    '(the end of its block, or its __exit__), restart the process, or give this Job another name'
                    if is_own
                    else '); give this worker another name, or stop the other one'
                ),
                record.name,
                record.host,
                record.pid,
            )
        announcement = (
            f'node name {record.name!r} is registered by pid {record.pid} on {record.host}; '
            f'taking it over unless that process sends heartbeats within {record.timeout_sec:g} s'
        )
        over_at = self._detector.next_suspicion({record.name: record.timeout_sec}) or now
        return min(now + self._config.retry_sec, max(now, over_at)), announcement if before is None else None
