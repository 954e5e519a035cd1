"""How a node comes to be registered: it opens the store with the cluster's settings, and takes its name (rule R6)."""

from __future__ import annotations

from collections.abc import Callable

from jobsync._core.agent import commands
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.known_deaths import KnownDeaths
from jobsync._core.agent.registration import NameRegistration
from jobsync._core.agent.rollback import RollbackDetector, StoreRolledBack
from jobsync._core.agent.schedule import WeightSync
from jobsync._core.agent.settings_watch import SettingsWatch
from jobsync._core.config import NodeConfig
from jobsync._core.records import Node, NodeRef, NodeState, Opened, Registration, Snapshot
from jobsync.errors import Evicted

__all__ = ['Entry']


class Entry:
    """One node's way into its cluster, through all its incarnations."""

    def __init__(
        self,
        config: NodeConfig,
        rollback: RollbackDetector,
        weight_sync: WeightSync,
        deaths: KnownDeaths,
        emit: Callable[[Event], object],
    ) -> None:
        self._config, self._rollback, self._weight_sync, self._emit = config, rollback, weight_sync, emit
        self._registration = NameRegistration(config, deaths)
        self._timelines: tuple[str, ...] = ()
        """The id of each timeline that this node has opened, the latest one last."""

    def begin_session(self, ref: NodeRef) -> None:
        """Begin as a new incarnation, which watches nothing yet."""
        self._ref = ref
        self._registration.begin_session(ref.incarnation)
        self._settings_watch: SettingsWatch | None = None

    @property
    def has_opened(self) -> bool:
        """Whether this node has ever opened the namespace."""
        return bool(self._timelines)

    @property
    def is_first_timeline(self) -> bool:
        """Whether this node has seen one timeline and no other."""
        return len(self._timelines) == 1

    def next_opening(self, now: float) -> commands.Command | float:
        """Return the call that opens the store, or that watches a cluster with other settings, or when to call again."""
        watch, settings, create = self._settings_watch, self._config.settings, self._config.create
        if watch is None:
            # A node of weight 0 may be an administrator's shell, whose settings no worker has.
            return commands.Open(settings, create) if self._config.weight else commands.Open(settings, create, None)
        if watch.dead is not None:
            return commands.Open(settings, create, watch.dead)
        return commands.TakeSnapshot() if now >= watch.poll_at else watch.poll_at

    def take_opened(self, opened: Opened, now: float) -> bool:
        """Take what was found at the opening; return whether the settings in force are this node's, so that it may register.

        Raises ``StoreRolledBack`` if the timeline is one that this node has seen another one follow.
        """
        timeline = opened.timeline
        # t=0  the store is moved away: the nodes make it anew, and in that timeline b registers, and owns half of the tokens
        # t=1  it is moved back: its owner is a, and nothing in it knows b
        # t=2  a finds in that timeline all that it has read of it, and registers: it would own all tokens, and b as well
        # The same if a backup is restored in place, and then a newer one.
        is_over = timeline.id in self._timelines[:-1]
        self._timelines = (*(known for known in self._timelines if known != timeline.id), timeline.id)
        if opened.settings != self._config.settings:
            if self._settings_watch is not None:
                self._settings_watch.refuse()
            self._settings_watch = SettingsWatch(self._config, opened, now)
            if not self._config.weight:
                self._settings_watch.refuse()
            return False
        if self._settings_watch is not None:
            self._settings_watch = None
            self._log(f'node {self._config.name!r}: the settings of the cluster are its own now')
        self._rollback.timeline = timeline
        if is_over:
            raise StoreRolledBack(f'timeline {timeline.id} was over, now it is the present one')
        return True

    def take_snapshot(self, snapshot: Snapshot, now: float) -> None:
        """Take a reading of the nodes of a cluster with other settings."""
        assert self._settings_watch is not None
        self._log(self._settings_watch.take(snapshot, now))

    def next_register(self, now: float) -> commands.Register:
        """Return the call that registers this incarnation."""
        config, rollback = self._config, self._rollback
        assert rollback.timeline is not None
        self._weight_sync.begin_session()
        over, replacing = self._registration.registration(now)
        node = Registration(
            ref=self._ref,
            timeout_sec=config.heartbeat_timeout_sec,
            weight=self._weight_sync.wanted,
            replaces=over,
            host=config.host,
            pid=config.pid,
            longest_timeout_sec=rollback.longest_timeout_sec,
            settings=config.published_settings,
        )
        return commands.Register(node, rollback.timeline, rollback.top.number, replacing)

    def take_name_taken(self, record: Node, now: float) -> float:
        """Return when to go on, given the record that has the name. Raises ``NodeNameInUse``, or ``Evicted`` of one that left."""
        if record.incarnation == self._ref.incarnation:  # this incarnation has registered, and the answer was lost
            if record.state is NodeState.LEFT:
                raise Evicted(f'node {record.name!r} was deregistered')
            self._weight_sync.found(record.weight, record.stalled)
            return now
        again_at, announcement = self._registration.taken(record, now)
        self._log(announcement)
        return again_at

    def note_failure(self, now: float) -> None:
        """Note that a call of this node failed (rule R2)."""
        self._registration.note_failure(now)
        if self._settings_watch is not None:
            self._settings_watch.note_failure(now)

    def forget_settings(self) -> None:
        """Open the store again without a watch, because the namespace has gone."""
        self._settings_watch = None

    def _log(self, text: str | None) -> None:
        if text:
            self._emit(LogMessage('info', text))
