"""The life of a node as one state machine: rules R1 to R8 seen from one process.

**Theory of operation.** An agent never acts. It is asked, for each of two lanes, what to do next (``next``): it answers with a
call to be made on the backend, or with the time at which to ask again. Whoever made the call brings back the answer (``done``).
Time comes in as an argument, on a clock that never goes back and counts suspended time. One lane carries heartbeats and
nothing else; the other carries everything else, one call after another.

::

    OPENING ──► REGISTERING ──► MEMBER ──► LEAVING ──► LEFT
       ▲              │            │
       ├──────────────┴────────────┤  evicted, or another timeline (a new incarnation)
       └────── RENEWING ◄──────────┘  the store went back in time (R8)
                                     any ──► FAILED  what no retry can mend (another cluster's settings, name in use)

*The lease (R1)* is one number, ``deadline``: what may be claimed is ``ownership``, while now < ``deadline``. Both may be
read by any thread at any time. *Losing* takes effect in ``ownership`` as soon as a version is read; *gaining* waits until
a heartbeat that acknowledges that version has succeeded (R3). Between the two the node claims only what both the old and
the new version allow.

*Tasks in flight.* ``begin`` marks a task first and looks at ``ownership`` afterwards; the agent restricts ``ownership`` first
and looks at the marks afterwards. Whichever comes first, no task is begun on a token that an acknowledgement has given up, and
neither side takes a lock.

*Late answers.* Each call is remembered with the session (incarnation) and the highest revision known when it was issued. An
answer to another session is dropped; an acknowledgement counts only for the version it was issued under.

*The store went back (R8)* if its own identity is not the timeline's, if a revision is below one that was known when the call was
issued or equal to it with another stamp, or if the node's own counter is below what it was known to be, or above what could have
been.

*Rhythm.* Nothing of this is needed for safety. The nodes beat in step: the leader first, the others a tenth of an interval
later (each pulse tells how long ago the leader's heartbeat was, and the next one comes a little sooner or later), and the
leader looks at all of them after another tenth. So the last heartbeat of a node that dies is read a tenth of an interval after
it was sent, rather than up to a whole one, with one look for each interval.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

import attrs

from jobsync.core import calls
from jobsync.core.calls import Lane
from jobsync.core.leader import Memory, Policy, Situation
from jobsync.core.liveness import Observer
from jobsync.core.model import (
    INITIAL,
    Leadership,
    NodeRef,
    NodeState,
    Opened,
    Pulse,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.core.ownership import Ownership
from jobsync.core.tokens import Assignment
from jobsync.errors import (
    BackendUnavailable,
    ConfigMismatch,
    Conflict,
    Evicted,
    Fenced,
    JobsyncError,
    NameTaken,
    NodeNameInUse,
    TimelineChanged,
)

__all__ = ['Agent', 'AgentConfig', 'Change', 'Note', 'Phase', 'check_settings']

_RETRY_SEC = 1.0
"""A failed call is repeated after this long, or a fifth of the heartbeat interval if that is less."""
_INITIAL_SEC = 300.0
_STEP = 0.1
"""The part of an interval between the leader's heartbeat, the others', and the leader's look."""
_NEVER, _FOREVER = float('-inf'), float('inf')


class Phase(enum.Enum):
    """Where in its life the node is."""

    OPENING = 'opening'
    REGISTERING = 'registering'
    MEMBER = 'member'
    RENEWING = 'renewing'
    LEAVING = 'leaving'
    LEFT = 'left'
    FAILED = 'failed'


@attrs.frozen
class AgentConfig:
    """What an agent must know of its node; times in seconds."""

    name: str
    settings: Settings
    create: bool = True
    weight: float = 1.0
    host: str = ''
    pid: int = 0
    heartbeat_interval_sec: float = 5.0
    heartbeat_timeout_sec: float = 15.0
    lease_margin: float = 0.1
    rebalance_delay_sec: float = 0.5
    handover_timeout_sec: float = 30.0
    shutdown_timeout_sec: float = 0.0
    """How long a leaving node waits for its tasks in flight."""
    form_sec: float = 120.0
    """How long, from the agent's start, a first distribution is put off while a cluster forms."""
    minimum_nodes: int | None = None
    """Given: the first distribution waits for this many nodes, and for nothing else."""
    look_sec: float = 10.0
    """How often a leader looks at the heartbeats at least; it does so after each heartbeat of its own."""
    refresh_initial_sec: float = 5.0
    """How often the version is looked up at least in the first five minutes; heartbeats count."""
    refresh_sec: float = 30.0
    """The same after the first five minutes."""
    relock_sec: float = 30.0
    """How often a leader reads the task locks at least."""
    durable: bool = True
    """What the backend declares."""
    locks_enabled: bool = True

    @property
    def lease_sec(self) -> float:
        """How long a heartbeat is good for, from before it was sent."""
        return self.heartbeat_timeout_sec * (1 - self.lease_margin)

    @property
    def retry_sec(self) -> float:
        """How long after a failure the next attempt comes."""
        return min(_RETRY_SEC, self.heartbeat_interval_sec / 5)


@attrs.frozen
class Change:
    """The set of tokens that may be claimed has changed."""

    before: Ownership
    after: Ownership
    lost: bool = False
    """The tokens were not given up but lost: the lease or the incarnation is over."""


@attrs.frozen
class Note:
    """Something worth a log line: once for each structural change, never for a heartbeat."""

    level: str
    text: str


@attrs.frozen
class _Issued:
    """A call under way, with what was known when it went out."""

    call: calls.Call
    at: float
    session: int
    top: Revision
    heartbeat: int


def check_settings(name: str, ours: Settings, cluster: Settings) -> None:
    """Raise ``ConfigMismatch`` if this node's settings are not the cluster's."""
    here = attrs.asdict(ours)
    differing = [
        f'{field} is {value!r} in the cluster and {here[field]!r} here'
        for field, value in attrs.asdict(cluster).items()
        if value != here[field]
    ]
    if differing:
        raise ConfigMismatch(
            f'node {name!r} cannot join: {"; ".join(differing)}. Every node of a cluster must have the same; '
            'to change them, stop all nodes first'
        )


class Agent:
    """One node. Not thread-safe, but for ``begin``, ``finish``, ``may_claim``, ``beat_soon``, ``ownership`` and ``deadline``."""

    def __init__(self, config: AgentConfig, token_of: Callable[[str], int], new_id: Callable[[], str], now: float) -> None:
        self.config = config
        self._token_of, self._new_id = token_of, new_id
        self._nothing = Ownership.nothing(config.settings.total_tokens)
        self._blank = Assignment.empty(config.settings.total_tokens)
        self.phase = Phase.OPENING
        self.failure: JobsyncError | None = None
        self.events: list[Change | Note] = []
        """What happened since somebody last emptied this list."""
        self.in_flight: dict[str, None] = {}
        """Keys of tasks begun and not finished."""
        self.started_at = now
        self.ownership = self._nothing
        self.deadline = _NEVER
        self.last_heartbeat_sent = _NEVER
        self._past: set[str] = set()
        self._top = INITIAL
        self._timelines: set[str] = set()
        self._under_way: dict[Lane, _Issued] = {}
        self._session = 0
        self._work_at = now
        self._leave_by: float | None = None
        self._renewing: Timeline | None = None
        self.observer = Observer(config.heartbeat_interval_sec)
        self._begin_session(now)

    def _begin_session(self, now: float) -> None:
        """Become a new incarnation that knows nothing and owns nothing."""
        self._session += 1
        self.ref = NodeRef(self.config.name, self._new_id())
        self._past.add(self.ref.incarnation)
        self.timeline: Timeline | None = None
        self.assignment = self._blank
        self.acknowledged: Revision | None = None
        """The last version that a successful heartbeat has acknowledged; None before the first."""
        self._awaiting_ack: Ownership | None = None
        self._asked_at: dict[int, float] = {}
        self._held: frozenset[int] = frozenset()
        self._heartbeat, self._writes = 0, 0
        self._beat_at, self._beat_not_before = now, now
        self._urgent = False
        self.snapshot: Snapshot | None = None
        self.pulse: Pulse | None = None
        self._version = INITIAL
        self._version_at = now
        self._look_at, self._suspect_at, self._last_look = now, _FOREVER, _NEVER
        """When to look at the others: as a leader or for want of one; when the leader becomes suspect; and the last time."""
        self._hinted_at = self._watched_at = _NEVER
        self._watched: tuple[tuple[str, int], float, float] | None = None
        self._locks: tuple[TaskLock, ...] | None = None
        self._locks_revision, self._locks_at = -1, now
        self.epoch: int | None = None
        """The term in which this node leads; None while it does not."""
        self._memory = Memory(timeline_read_at=now)
        self._propose_at: float | None = now
        self._expired = False
        self.observer.clear()

    # --- what any thread may ask --------------------------------------------------------------------------------------------

    def may_claim(self, key: str, token: int, now: float) -> bool:
        """Whether the task with this key, whose hash token is ``token``, is this node's at ``now``."""
        return now < self.deadline and self.ownership.claims(key, token)

    def begin(self, key: str, token: int, now: float) -> bool:
        """Mark a task as in flight if it is this node's; say whether it is. The order of the two steps matters."""
        fresh = key not in self.in_flight
        self.in_flight[key] = None
        if self.may_claim(key, token, now):
            return True
        if fresh:
            self.in_flight.pop(key, None)
        return False

    def finish(self, keys: Iterable[str]) -> None:
        """These tasks are no longer in flight."""
        for key in keys:
            self.in_flight.pop(key, None)

    def beat_soon(self) -> None:
        """Send a heartbeat now: somebody has cause to doubt that this node is still registered."""
        self._urgent = True

    @property
    def is_settled(self) -> bool:
        """Whether this node is part of the plan and owns its whole share of it."""
        member = self.assignment.members.get(self.config.name)
        return (
            self.phase is Phase.MEMBER
            and member is not None
            and member.incarnation == self.ref.incarnation
            and self.acknowledged == self.assignment.version
            and self.config.name not in self.assignment.targets.values()
            and all(pin.target != self.config.name for pin in self.assignment.pins.values())
        )

    @property
    def is_planned(self) -> bool:
        """Whether this node is part of the plan, with or without tokens."""
        member = self.assignment.members.get(self.config.name)
        return self.phase is Phase.MEMBER and member is not None and member.incarnation == self.ref.incarnation

    # --- the lanes ----------------------------------------------------------------------------------------------------------

    def hint(self, revision: int, now: float) -> None:
        """The store's revision is said to have risen."""
        if revision > self._top.number and self.phase in (Phase.MEMBER, Phase.LEAVING):
            if self.epoch is None:
                self._urgent = True
            else:
                self._look_at = self._hinted_at = now

    def leave(self, now: float) -> None:
        """Stop claiming, let tasks in flight finish within ``shutdown_timeout_sec``, and deregister."""
        if self.phase in (Phase.LEAVING, Phase.LEFT, Phase.FAILED):
            return
        may_be_registered = self.phase in (Phase.MEMBER, Phase.REGISTERING)
        self._set_ownership(self._nothing)
        self._awaiting_ack = None
        self.epoch = None
        self.phase = Phase.LEAVING if may_be_registered else Phase.LEFT
        self._leave_by = now + self.config.shutdown_timeout_sec
        self._work_at = now

    def next(self, lane: Lane, now: float) -> calls.Call | float | None:
        """The call to make in this lane now, or when to ask again, or None: not before something happens."""
        if lane in self._under_way or self.phase in (Phase.LEFT, Phase.FAILED):
            return None
        if now >= self.deadline and not self.ownership.is_empty and self.deadline != _NEVER:
            self._lease_over()
        answer = self._next_beat(now) if lane is Lane.BEAT else self._next_work(now)
        if answer is None or isinstance(answer, (int, float)):
            return answer
        if isinstance(answer, (calls.Heartbeat, calls.Propose)):
            self._writes += 1
        self._under_way[lane] = _Issued(answer, now, self._session, self._top, self._heartbeat)
        return answer

    def done(self, lane: Lane, answer: calls.Answer, now: float) -> None:
        """The lane's call has come back with an answer, or with the error it raised."""
        issued = self._under_way.pop(lane)
        if issued.session != self._session or self.phase in (Phase.LEFT, Phase.FAILED):
            return
        try:
            if isinstance(answer, Exception):
                raise answer
            self._take(issued, answer, now)
        except BackendUnavailable as error:
            self._failed(lane, issued, error, now)
        except (Evicted, TimelineChanged) as reason:
            self._restart(now, str(reason))
        except _WentBackError as sign:
            self._went_back(now, str(sign))
        except (Conflict, Fenced):
            self._look_at = now
            if isinstance(answer, Fenced):
                self.epoch = None
        except NameTaken as taken:
            self._name_taken(taken, now)
        except JobsyncError as error:
            self._fail(error)

    def _next_beat(self, now: float) -> calls.Heartbeat | float | None:
        if self.phase not in (Phase.MEMBER, Phase.LEAVING):
            return None
        if self.phase is Phase.LEAVING and not self._urgent and self._work_at <= now and not self.in_flight:
            return None
        due = self._beat_at
        if self._urgent:
            due = now
        elif self._held:
            holding = self._holding(now)
            if holding != self._held:
                due = now
            else:
                due = min(due, min(self._asked_at[token] for token in holding) + self.config.handover_timeout_sec)
        due = max(due, self._beat_not_before)
        if now < due:
            return due
        self._urgent = False
        return calls.Heartbeat(self.ref, self.assignment.version, self._holding(now))

    def _next_work(self, now: float) -> calls.Call | float | None:
        if now < self._work_at:
            return self._work_at
        match self.phase:
            case Phase.OPENING:
                return calls.Open(self.config.settings, self.config.create)
            case Phase.REGISTERING:
                return self._next_register(now)
            case Phase.RENEWING:
                assert self._renewing is not None
                return calls.Renew(self._renewing, self._top.number)
            case Phase.LEAVING:
                return self._next_leaving(now)
            case _:
                return self._next_member(now)

    def _next_register(self, now: float) -> calls.Register:
        assert self.timeline is not None
        replacing = None
        if self._watched is not None:
            beat, since, timeout = self._watched
            if beat[0] in self._past or now - since >= timeout:
                replacing = beat
        config = self.config
        node = Registration(
            ref=self.ref,
            timeout_sec=config.heartbeat_timeout_sec,
            weight=config.weight,
            replaces=frozenset(self._past - {self.ref.incarnation}),
            host=config.host,
            pid=config.pid,
        )
        return calls.Register(node, self.timeline, self._top.number, replacing)

    def _next_leaving(self, now: float) -> calls.Deregister | float:
        assert self._leave_by is not None
        if self.in_flight and now < self._leave_by:
            return self._leave_by
        return calls.Deregister(self.ref)

    def _next_member(self, now: float) -> calls.Call | float:
        if self._version != self.assignment.version or now >= self._refresh_at(now):
            return calls.Read(self.ref, self.assignment)
        look_at = min(self._look_at, self._suspect_at)
        if now >= look_at:
            return calls.TakeSnapshot()
        wake = min(look_at, self._refresh_at(now))
        if now >= self.deadline or not self._is_first_in_line(now):
            return wake
        assert self.snapshot is not None
        if self.snapshot.leadership.node != self.ref or self.epoch != self.snapshot.leadership.epoch:
            return calls.Acquire(self.ref, self.snapshot.leadership.epoch)
        if self._locks is None or self._locks_revision != self.snapshot.locks_revision or now >= self._locks_at:
            return calls.ReadLocks()
        if self._expired:
            self._expired = False
            return calls.DropExpiredLocks()
        if self.snapshot.version != self.assignment.version:
            return calls.TakeSnapshot()
        if self._propose_at is None or now < self._propose_at:
            return wake if self._propose_at is None else min(wake, self._propose_at)
        self._propose_at = None
        return calls.Propose(self._situation(now), self._memory, self._policy())

    def _refresh_at(self, now: float) -> float:
        """When the version must be looked up, hints or not. Never sooner than the heartbeat that is due and tells it as well."""
        interval, initial = self.config.heartbeat_interval_sec, now - self.started_at < _INITIAL_SEC
        refresh = self.config.refresh_initial_sec if initial else self.config.refresh_sec
        return self._version_at + (refresh if refresh < interval else max(refresh, 2 * interval))

    def _situation(self, now: float) -> Situation:
        assert self.snapshot is not None
        return Situation(
            me=self.ref,
            snapshot=self.snapshot,
            assignment=self.assignment,
            locks=self._locks or (),
            suspects=self._suspects(now),
            now=now,
        )

    def _policy(self) -> Policy:
        config = self.config
        return Policy(
            timeout_sec=config.heartbeat_timeout_sec,
            rebalance_delay_sec=config.rebalance_delay_sec,
            form_at=self.started_at + config.form_sec,
            minimum_nodes=config.minimum_nodes,
            trust_first_timeline=config.durable and len(self._timelines) == 1,
            locks_enabled=config.locks_enabled,
        )

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def _take(self, issued: _Issued, answer: calls.Answer, now: float) -> None:
        match issued.call, answer:
            case calls.Heartbeat() as call, Pulse() as pulse:
                self._take_pulse(issued, call, pulse, now)
            case calls.TakeSnapshot(), Snapshot() as snapshot:
                self._take_snapshot(issued, snapshot, now)
            case calls.Read() as call, calls.Reading() as reading:
                if call.base.version == self.assignment.version:
                    self._take_reading(reading, now)
            case calls.Propose(), calls.Proposal() as proposal:
                self._take_proposal(issued, proposal, now)
            case calls.Acquire(), Leadership() as leadership:
                self._look_at = now
                if leadership.node == self.ref:
                    self.epoch = leadership.epoch
                    self._memory = Memory(timeline_read_at=self._memory.timeline_read_at)
                    self._locks = None
                    self._note('info', f'node {self.config.name!r} leads in epoch {leadership.epoch}')
            case calls.ReadLocks(), tuple() as locks:
                assert self.snapshot is not None
                self._locks, self._locks_revision = locks, self.snapshot.locks_revision
                self._locks_at, self._propose_at = now + self.config.relock_sec, now
            case calls.DropExpiredLocks(), _:
                self._look_at = now
            case calls.Open(), Opened() as opened:
                self._take_opened(opened, now)
            case calls.Register(), None:
                self._registered(now)
            case calls.Renew(), None:
                self._restart(now, 'a new timeline was begun')
            case calls.Deregister(), None:
                self.phase, self.deadline = Phase.LEFT, _NEVER
                self._note('info', f'node {self.config.name!r} left')
            case _:
                raise TypeError(f'{issued.call!r} cannot be answered by {answer!r}')

    def _take_opened(self, opened: Opened, now: float) -> None:
        check_settings(self.config.name, self.config.settings, opened.settings)
        self.timeline = opened.timeline
        self._timelines.add(opened.timeline.id)
        self._memory = Memory(timeline_read_at=now)
        self.phase = Phase.REGISTERING
        self._work_at = now

    def _registered(self, now: float) -> None:
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.MEMBER
            self._note('info', f'node {self.config.name!r} registered')
        self._beat_at = self._beat_not_before = self._look_at = self._work_at = now

    def _name_taken(self, taken: NameTaken, now: float) -> None:
        record = taken.record
        if record.incarnation == self.ref.incarnation:
            self._registered(now)
            return
        self.observer.note_reading(now)
        if self._watched is None or record.incarnation in self._past:
            self._watched = (record.beat, now, record.timeout_sec)
            if record.incarnation not in self._past:
                self._note(
                    'info',
                    f'node name {record.name!r} is registered by pid {record.pid} on {record.host}; '
                    f'taking it over unless that process stirs within {record.timeout_sec:g} s',
                )
        elif self._watched[0] != record.beat:
            self._fail(
                NodeNameInUse(
                    f'node name {record.name!r} is in use by a live process (pid {record.pid} on {record.host}); '
                    'give this worker another name, or stop the other one',
                    record.name,
                    record.host,
                    record.pid,
                )
            )
            return
        elif self._watch_was_blind(now):
            self._watched = (record.beat, now, record.timeout_sec)
        self._watched_at = now
        beat, since, timeout = self._watched
        pause = 0.0 if beat[0] in self._past else self.config.retry_sec
        self._work_at = now + min(pause, max(0.0, since + timeout - now))

    def _watch_was_blind(self, now: float) -> bool:
        return now - self._watched_at > 2 * self.config.heartbeat_interval_sec + _RETRY_SEC

    def _take_pulse(self, issued: _Issued, call: calls.Heartbeat, pulse: Pulse, now: float) -> None:
        self._check_timeline(pulse.timeline)
        self._check_history(issued, pulse.store, pulse.revision)
        self._check_counter(issued.heartbeat + 1, pulse.heartbeat)
        self._heartbeat = max(self._heartbeat, pulse.heartbeat)
        self._note_revision(pulse.revision)
        if self.phase is not Phase.LEAVING:
            if self.deadline == _NEVER or now >= self.deadline:
                self._note('info', f'node {self.config.name!r} has a lease')
            self.deadline = max(self.deadline, issued.at + self.config.lease_sec)
        self.last_heartbeat_sent = issued.at
        self.observer.note_reading(now)
        if call.seen == self.assignment.version:
            self.acknowledged = call.seen
            self._held = call.holding
            if self._awaiting_ack is not None:
                self._set_ownership(self._awaiting_ack)
                self._awaiting_ack = None
        self._schedule_beat(issued.at, pulse.leader_age_sec)
        self._hear_of_leader(pulse, now)
        self._note_version(pulse.version, now)
        self.pulse = pulse

    def _schedule_beat(self, sent: float, leader_age: float | None) -> None:
        """One interval after the last, a little sooner or later where that brings this node in step with the leader."""
        interval = self.config.heartbeat_interval_sec
        self._beat_at, self._beat_not_before = sent + interval, _NEVER
        if self.epoch is not None:
            self._look_at = min(self._look_at, max(sent + 2 * _STEP * interval, self._last_look + _STEP * interval))
        elif leader_age is not None and (1 + 2 * _STEP) * interval < self.config.lease_sec:
            late = (leader_age - _STEP * interval) % interval
            late = late if late < interval / 2 else late - interval
            self._beat_at -= min(_STEP * interval, max(-_STEP * interval, late))

    def _hear_of_leader(self, pulse: Pulse, now: float) -> None:
        """Look closer if the leadership has changed, or the leader is gone or silent."""
        leader = pulse.leadership.node
        if leader is not None and pulse.leader_heartbeat is not None:
            self.observer.note(leader.name, (leader.incarnation, pulse.leader_heartbeat), now)
        if self.epoch is not None and pulse.leadership != Leadership(self.epoch, self.ref):
            self.epoch = None
            self._look_at = now
        known = self.snapshot
        if leader is None or pulse.leader_heartbeat is None or known is None or known.leadership != pulse.leadership:
            self._look_at = min(self._look_at, now)
        elif self.epoch is None:
            due = self.observer.next_suspicion({leader.name: self._timeout_of(leader.name)})
            self._suspect_at = _FOREVER if due is None else due
        if self.epoch is not None and pulse.revision != (known.revision if known else None):
            self._look_at = min(self._look_at, now)

    def _timeout_of(self, name: str) -> float:
        nodes = self.snapshot.nodes if self.snapshot is not None else ()
        found = [node.timeout_sec for node in nodes if node.name == name]
        return max([self.config.heartbeat_timeout_sec, *found])

    def _take_snapshot(self, issued: _Issued, snapshot: Snapshot, now: float) -> None:
        self._check_timeline(snapshot.timeline)
        mine = next((node for node in snapshot.nodes if node.name == self.config.name), None)
        if mine is None or mine.incarnation != self.ref.incarnation or mine.state is not NodeState.JOINED:
            raise Evicted(f'node {self.config.name!r} is no longer registered')
        self._check_history(issued, snapshot.store, snapshot.revision)
        self._check_counter(issued.heartbeat, mine.heartbeat)
        self._note_revision(snapshot.revision)
        self.observer.note_all(snapshot.nodes, now)
        self.snapshot = snapshot
        self._note_version(snapshot.version, now)
        self._last_look = now
        self._propose_at = now
        if self.epoch is not None and snapshot.leadership != Leadership(self.epoch, self.ref):
            self.epoch = None
        self._schedule_looks(snapshot, now)
        if issued.at <= self._hinted_at:
            self._look_at = now

    def _schedule_looks(self, snapshot: Snapshot, now: float) -> None:
        """When this node must look at the others again."""
        config, leader = self.config, snapshot.leadership.node
        timeouts = self._timeouts(snapshot)
        if self._is_first_in_line(now):
            regular = now + min(config.look_sec, (1 + 3 * _STEP) * config.heartbeat_interval_sec)
            suspicion = self.observer.next_suspicion(timeouts)
            self._look_at = regular if suspicion is None or suspicion <= now else min(regular, suspicion)
            self._suspect_at = _FOREVER
            return
        led = leader is not None and any(node.ref == leader and node.state is NodeState.JOINED for node in snapshot.nodes)
        if leader is None or not led or leader.name in self._suspects(now):
            self._look_at, self._suspect_at = now + config.retry_sec, _FOREVER
            return
        due = self.observer.next_suspicion({leader.name: timeouts[leader.name]}) if leader.name in timeouts else None
        self._look_at, self._suspect_at = _FOREVER, _FOREVER if due is None else due

    def _timeouts(self, snapshot: Snapshot) -> dict[str, float]:
        own = self.config.heartbeat_timeout_sec
        return {
            node.name: max(own, node.timeout_sec)
            for node in snapshot.nodes
            if node.state is NodeState.JOINED and node.name != self.config.name
        }

    def _suspects(self, now: float) -> dict[str, tuple[str, int]]:
        assert self.snapshot is not None
        return self.observer.suspects(self._timeouts(self.snapshot), now)

    def _is_first_in_line(self, now: float) -> bool:
        """Rule R4: the oldest registered node that is not suspected leads."""
        if self.snapshot is None:
            return False
        suspects = self._suspects(now)
        for node in sorted(self.snapshot.nodes, key=lambda node: (node.created_on, node.name)):
            if node.state is NodeState.JOINED and suspects.get(node.name) != node.beat:
                return node.ref == self.ref
        return False

    def _take_reading(self, reading: calls.Reading, now: float) -> None:
        """Apply a version: lose at once, gain after the acknowledgement."""
        self._note_version(reading.assignment.version, now)
        if reading.assignment.version == self.assignment.version:
            return
        pinned = {key: self._token_of(key) for key in {*self.ownership.pins, *reading.ownership.pins}}
        self.assignment = reading.assignment
        if self.phase is not Phase.LEAVING:
            self._awaiting_ack = reading.ownership
            self._set_ownership(self.ownership.both(reading.ownership, pinned))
        self._urgent = True
        self._propose_at = now

    def _take_proposal(self, issued: _Issued, proposal: calls.Proposal, now: float) -> None:
        self._expired = proposal.expired
        self._propose_at = proposal.look_again_at
        if proposal.look_again_at is not None:
            self._look_at = min(self._look_at, max(proposal.look_again_at, now))
        if proposal.revision is None or proposal.plan is None:
            return
        self._heartbeat = max(self._heartbeat, issued.heartbeat + 1)
        self._note_revision(proposal.revision)
        self._note_version(proposal.revision, now)
        self._look_at = now
        plan = proposal.plan
        self._note(
            'info',
            f'{plan.reason}: {plan.moved} tokens moved, {sum(len(group.tokens) for group in plan.groups)} rows written, '
            f'{plan.nodes_after} nodes',
        )

    # --- R8, and what ends an incarnation -----------------------------------------------------------------------------------

    def _check_timeline(self, timeline: Timeline) -> None:
        if timeline != self.timeline:
            raise TimelineChanged(f'the namespace has passed from {self.timeline} to {timeline}')

    def _check_history(self, issued: _Issued, store: str, revision: Revision) -> None:
        assert self.timeline is not None
        if store != self.timeline.store:
            raise _WentBackError(f'store {store!r} answers in place of {self.timeline.store!r}')
        for known in (issued.top, self._top):
            if revision.number == known.number and revision.stamp != known.stamp and known != INITIAL:
                raise _WentBackError(f'revision {revision.number} is another than the one read before')
        if revision.number < issued.top.number:
            raise _WentBackError(f'revision {issued.top.number} was read before, now it is {revision.number}')

    def _check_counter(self, least: int, found: int) -> None:
        if not least <= found <= self._writes:
            raise _WentBackError(f'own heartbeat counter is {found}, expected {least} to {self._writes}')

    def _note_revision(self, revision: Revision) -> None:
        if revision.number > self._top.number:
            self._top = revision

    def _note_version(self, version: Revision, now: float) -> None:
        if version == self._version or version.number >= self._version.number:
            self._version = version
            self._version_at = now

    def _went_back(self, now: float, sign: str) -> None:
        self._note('warning', f'the store went back in time ({sign}): beginning a new timeline')
        timeline = self.timeline
        self._restart(now, sign)
        if self.phase is Phase.OPENING:
            self.phase, self._renewing = Phase.RENEWING, timeline

    def _restart(self, now: float, reason: str) -> None:
        """Answer False from now on, and begin again as a new incarnation."""
        if self.phase is Phase.LEAVING:
            self.phase = Phase.LEFT
            return
        self.deadline = _NEVER
        self._set_ownership(self._nothing, lost=True)
        self._note('warning', f'node {self.config.name!r} starts over as a new incarnation: {reason}')
        self._begin_session(now)
        self.phase = Phase.OPENING
        self._work_at = now

    def _fail(self, error: JobsyncError) -> None:
        self.deadline = _NEVER
        self._set_ownership(self._nothing, lost=True)
        self.phase, self.failure = Phase.FAILED, error
        self._note('error', str(error))

    def _lease_over(self) -> None:
        self._note('warning', f'node {self.config.name!r}: the lease is over, no heartbeat got through in time')
        self.deadline = _NEVER

    def _failed(self, lane: Lane, issued: _Issued, error: BackendUnavailable, now: float) -> None:
        """The store did not answer: try again soon, and assume nothing."""
        again = now + self.config.retry_sec
        if lane is Lane.BEAT:
            self._beat_at = self._beat_not_before = again
        else:
            self._work_at = again
            if isinstance(issued.call, calls.Propose):
                self._look_at = now
        self._note('retry', f'{type(issued.call).__name__.lower()} failed, will be repeated: {error}')

    # --- odds and ends ------------------------------------------------------------------------------------------------------

    def _set_ownership(self, after: Ownership, lost: bool = False) -> None:
        before, self.ownership = self.ownership, after
        if before.mine != after.mine or before.pin_ids != after.pin_ids:
            self.events.append(Change(before, after, lost))

    def _holding(self, now: float) -> frozenset[int]:
        """The tokens this node was asked to give up and has tasks in flight on, while it may still keep them."""
        assignment, name = self.assignment, self.config.name
        member = assignment.members.get(name)
        if not self.in_flight or member is None or member.incarnation != self.ref.incarnation:
            self._asked_at = {}
            return frozenset()
        asked = {pin.task_id: pin for pin in assignment.pins.values()}
        busy: dict[int, float] = {}
        for key in list(self.in_flight):
            pin = asked.get(key)
            if pin is not None:
                if pin.owner == name and pin.target is not None:
                    busy[pin.id] = self._asked_at.get(pin.id, now)
                continue
            token = self._token_of(key)
            if token in assignment.targets and assignment.row(token).owner == name:
                busy[token] = self._asked_at.get(token, now)
        self._asked_at = busy
        return frozenset(token for token, since in busy.items() if now - since < self.config.handover_timeout_sec)

    def _note(self, level: str, text: str) -> None:
        self.events.append(Note(level, text))


class _WentBackError(Exception):
    """A sign that the store went back in time (R8)."""
