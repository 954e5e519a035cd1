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

*Leaving* takes as long as the node is busy, ``shutdown_timeout_sec`` at most. Meanwhile it claims nothing and weighs nothing, so
its other tokens pass on at once (unless they are to be kept for its return); and if it leads, it goes on leading.

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
from jobsync.core.agentconfig import AgentConfig, check_settings
from jobsync.core.calls import Lane
from jobsync.core.history import History, WentBackError
from jobsync.core.inflight import InFlight
from jobsync.core.leader import Memory, Policy, Situation
from jobsync.core.lookout import STEP, Lookout
from jobsync.core.model import (
    INITIAL,
    Leadership,
    NodeRef,
    NodeState,
    Opened,
    Pulse,
    Registration,
    Revision,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.core.namewatch import NameWatch
from jobsync.core.ownership import Ownership
from jobsync.core.shown import shown
from jobsync.core.tokens import Assignment
from jobsync.errors import (
    BackendUnavailable,
    Conflict,
    Evicted,
    Fenced,
    JobsyncError,
    NameTaken,
    SchemaMismatch,
    TimelineChanged,
)

__all__ = ['Agent', 'Change', 'Note', 'Phase']

_INITIAL_SEC = 300.0
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
class Change:
    """The set of tokens that may be claimed has changed."""

    before: Ownership
    after: Ownership
    asked: frozenset[int] = frozenset()
    """Those of the tokens that go which this node was asked for, if it ``announces``; they are held until they are released. The
    others are lost: the lease or the incarnation is over, or their rows are gone."""
    deadline: float = _NEVER
    """Until when they are held at the longest."""

    @property
    def gained(self) -> frozenset[int]:
        """The tokens that come."""
        return self.after.tokens - self.before.tokens

    @property
    def lost(self) -> frozenset[int]:
        """The tokens that go and were not asked for."""
        return self.before.tokens - self.after.tokens - self.asked


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


class Agent:
    """One node. Not thread-safe, but for what stands under "what any thread may ask", ``ownership`` and ``deadline``."""

    def __init__(self, config: AgentConfig, token_of: Callable[[str], int], new_id: Callable[[], str], now: float) -> None:
        self.config = config
        self._token_of, self._new_id = token_of, new_id
        self._nothing = Ownership.nothing(config.settings.total_tokens)
        self._blank = Assignment.empty(config.settings.total_tokens)
        self.phase = Phase.OPENING
        self.failure: JobsyncError | None = None
        self.events: list[Change | Note] = []
        """What happened since somebody last emptied this list."""
        self._tasks = InFlight(token_of, config.handover_timeout_sec)
        self.started_at = now
        self.ownership = self._nothing
        self.deadline = _NEVER
        self.last_heartbeat_sent = _NEVER
        self._past: set[str] = set()
        self._history = History()
        self._timelines: set[str] = set()
        self._under_way: dict[Lane, _Issued] = {}
        self._session = 0
        self._work_at = now
        self.leave_by: float | None = None
        """When it leaves at the latest, once it wants to: what is in flight then is in flight no more."""
        self._leaver: int | None = None
        self._weight = config.weight
        self._renewing: Timeline | None = None
        self._begin_session(now)

    def _begin_session(self, now: float) -> None:
        """Become a new incarnation that knows nothing and owns nothing."""
        self._session += 1
        self.ref = NodeRef(self.config.name, self._new_id())
        self._past.add(self.ref.incarnation)
        self.assignment = self._blank
        self.acknowledged: Revision | None = None
        """The last version that a successful heartbeat has acknowledged; None before the first."""
        self._awaiting_ack: Ownership | None = None
        self._tasks.begin_session()
        self._history.begin_session()
        self._beat_at, self._beat_not_before = now, now
        self._urgent = False
        self._lookout = Lookout(self.config, self.ref, now)
        self._version = INITIAL
        self._version_at = now
        self._weight_in_force = self._weight
        self._weigh_at = _FOREVER
        """When to give the weight again: a call that was given up may be carried out late, over one that came after it."""
        self._watch: NameWatch | None = None
        self._locks: tuple[TaskLock, ...] | None = None
        self._locks_revision, self._locks_at = -1, now
        self.epoch: int | None = None
        """The term in which this node leads; None while it does not."""
        self._memory = Memory(timeline_read_at=now)
        self._propose_at: float | None = now
        self._expired = False
        self._unplaced: frozenset[str] = frozenset()
        """The tasks of which this node, as leader, has told that no live node matches their locks."""

    # --- what any thread may ask --------------------------------------------------------------------------------------------

    def may_claim(self, key: str, token: int, now: float) -> bool:
        """Whether the task with this key, whose hash token is ``token``, is this node's at ``now``."""
        return now < self.deadline and self.ownership.claims(key, token)

    def begin(self, key: str, token: int, now: float, thread: int = 0) -> bool:
        """Mark a task as in flight, in this thread, if it is this node's; say whether it is.

        The order of the two steps matters.
        """
        fresh = key not in self.in_flight
        self.in_flight[key] = thread
        if self.may_claim(key, token, now):
            return True
        if fresh:
            self.in_flight.pop(key, None)
        return False

    def finish(self, keys: Iterable[str]) -> None:
        """These tasks are no longer in flight."""
        for key in keys:
            self.in_flight.pop(key, None)

    def fence(self, key: str, token: int, now: float) -> int | None:
        """The fence of a task that this node may claim or has in flight; None if it is not this node's."""
        if now >= self.deadline:
            return None
        fence = self.assignment.fence(self.ref, key, token)
        return fence if self.ownership.claims(key, token) or key in self.in_flight else None

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over, or leaving, may be waiting for tasks in flight."""
        return self._tasks.is_asked or self.phase is Phase.LEAVING

    def beat_soon(self) -> None:
        """Send a heartbeat now: somebody has cause to doubt that this node is still registered."""
        self._urgent = True

    @property
    def in_flight(self) -> dict[str, int]:
        """Keys of tasks begun and not finished, with the thread that began each."""
        return self._tasks.keys

    @property
    def snapshot(self) -> Snapshot | None:
        """The last reading of the nodes; None before the first."""
        return self._lookout.snapshot

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

    def release(self, tokens: Iterable[int]) -> None:
        """Whoever had to be told that these tokens go is ready (see ``Change.asked``)."""
        self._tasks.release(tokens)

    @property
    def weight(self) -> float:
        """The weight it wants."""
        return self._weight

    def weigh(self, weight: float) -> None:
        """Want this weight from now on."""
        if self.phase is not Phase.LEAVING:
            self._weight = weight

    # --- the lanes ----------------------------------------------------------------------------------------------------------

    def hint(self, revision: int, now: float) -> None:
        """The store's revision is said to have risen."""
        if revision > self._history.top.number and self.phase in (Phase.MEMBER, Phase.LEAVING):
            if self.epoch is None:
                self._urgent = True
            else:
                self._lookout.hint(now)

    def leave(self, now: float, at_once: bool = False, thread: int | None = None) -> None:
        """Stop claiming, finish what is in hand, and deregister.

        Waits for tasks in flight and for whoever is told that tokens go, ``shutdown_timeout_sec`` at most or not at all; never
        for the tasks of ``thread``, which is the one that waits. May be called again, to change how.
        """
        if self.phase is Phase.LEAVING:
            assert self.leave_by is not None
            self._leaver = thread if self._leaver is None else self._leaver
            if at_once and now < self.leave_by:
                self.leave_by = self._work_at = now
        if self.phase in (Phase.LEAVING, Phase.LEFT, Phase.FAILED):
            return
        may_be_registered = self.phase in (Phase.MEMBER, Phase.REGISTERING)
        self.leave_by, self._leaver = now + (0 if at_once else self.config.shutdown_timeout_sec), thread
        self._awaiting_ack = None
        if self.config.announces:
            self._announce(self.ownership.tokens, self._nothing, now, self.leave_by)
        else:
            self._set_ownership(self._nothing)
        if not self.config.rejoin_grace_sec:
            self._weight = 0.0
        self.phase = Phase.LEAVING if may_be_registered else Phase.LEFT
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
            self._history.writes += 1
        elif isinstance(answer, calls.TakeSnapshot):
            self._lookout.begin_look()
        self._under_way[lane] = _Issued(answer, now, self._session, self._history.top, self._history.heartbeat)
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
        except WentBackError as sign:
            self._went_back(now, str(sign))
        except (Conflict, Fenced):
            self._lookout.look(now)
            if isinstance(answer, Fenced):
                self.epoch = None
        except NameTaken as taken:
            self._name_taken(taken, now)
        except SchemaMismatch as error:
            self._schema_gone(lane, issued, error, now)
        except JobsyncError as error:
            self._fail(error)

    def _next_beat(self, now: float) -> calls.Heartbeat | float | None:
        if self.phase not in (Phase.MEMBER, Phase.LEAVING):
            return None
        if self.phase is Phase.LEAVING and not self.is_staying(now):
            return None
        due = now if self._urgent else min(self._beat_at, self._tasks.due(self.assignment, self.ref, now))
        due = max(due, self._beat_not_before)
        if now < due:
            return due
        self._urgent = False
        return calls.Heartbeat(self.ref, self.assignment.version, self._tasks.holding(self.assignment, self.ref, now))

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
                return calls.Renew(self._renewing, self._history.top.number)
            case Phase.LEAVING:
                return self._next_leaving(now)
            case _:
                return self._next_member(now)

    def _next_register(self, now: float) -> calls.Register:
        assert self._history.timeline is not None
        replacing, watch = None, self._watch
        if watch is not None and (watch.record.incarnation in self._past or watch.is_over(now)):
            replacing = watch.record.beat
        config = self.config
        self._weight_in_force = self._weight
        node = Registration(
            ref=self.ref,
            timeout_sec=config.heartbeat_timeout_sec,
            weight=self._weight,
            replaces=frozenset(self._past - {self.ref.incarnation}),
            host=config.host,
            pid=config.pid,
        )
        return calls.Register(node, self._history.timeline, self._history.top.number, replacing)

    def is_staying(self, now: float) -> bool:
        """Whether a leaving node has reason to wait."""
        assert self.leave_by is not None
        return now < self.leave_by and now < self.deadline and self._tasks.is_busy(self._leaver)

    def _next_leaving(self, now: float) -> calls.Call | float:
        assert self.leave_by is not None
        if not self.is_staying(now):
            return calls.Deregister(self.ref)
        call = self._next_member(now)
        return min(call, self.leave_by) if isinstance(call, (int, float)) else call

    def _next_member(self, now: float) -> calls.Call | float:
        if self._weight != self._weight_in_force or now >= self._weigh_at:
            return calls.Weigh(self.ref, self._weight)
        if self._version != self.assignment.version or now >= self._refresh_at(now):
            return calls.Read(self.ref, self.assignment)
        look_at, snapshot = self._lookout.due, self._lookout.snapshot
        if now >= look_at:
            return calls.TakeSnapshot()
        wake = min(look_at, self._refresh_at(now), self._weigh_at)
        if snapshot is None or now >= self.deadline or not self._lookout.is_first_in_line(now):
            return wake
        if snapshot.leadership.node != self.ref or self.epoch != snapshot.leadership.epoch:
            return calls.Acquire(self.ref, snapshot.leadership.epoch)
        if self._locks is None or self._locks_revision != snapshot.locks_revision or now >= self._locks_at:
            return calls.ReadLocks()
        if self._expired:
            self._expired = False
            return calls.DropExpiredLocks()
        if snapshot.version != self.assignment.version:
            return calls.TakeSnapshot()
        if self._propose_at is None or now < self._propose_at:
            return wake if self._propose_at is None else min(wake, self._propose_at)
        self._propose_at = None
        return calls.Propose(self._situation(snapshot, now), self._memory, self._policy())

    def _refresh_at(self, now: float) -> float:
        """When the version must be looked up, hints or not. Never sooner than the heartbeat that is due and tells it as well."""
        interval, initial = self.config.heartbeat_interval_sec, now - self.started_at < _INITIAL_SEC
        refresh = self.config.refresh_initial_sec if initial else self.config.refresh_sec
        return self._version_at + (refresh if refresh < interval else max(refresh, 2 * interval))

    def _situation(self, snapshot: Snapshot, now: float) -> Situation:
        return Situation(
            me=self.ref,
            snapshot=snapshot,
            assignment=self.assignment,
            locks=self._locks or (),
            suspects=self._lookout.suspects(now),
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
            rejoin_grace_sec=config.rejoin_grace_sec,
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
                self._lookout.look(now)
                if leadership.node == self.ref:
                    self.epoch = leadership.epoch
                    self._memory = Memory(timeline_read_at=self._memory.timeline_read_at)
                    self._locks = None
                    self._note('info', f'node {self.config.name!r} leads in epoch {leadership.epoch}')
                    self._unplaced = frozenset()
                    self._note_unplaced()
            case calls.ReadLocks(), tuple() as locks:
                seen = self._lookout.snapshot
                self._locks, self._locks_revision = locks, -1 if seen is None else seen.locks_revision
                self._locks_at, self._propose_at = now + self.config.relock_sec, now
            case calls.DropExpiredLocks(), _:
                self._lookout.look(now)
            case calls.Open(), Opened() as opened:
                self._take_opened(opened, now)
            case calls.Register(), None:
                self._registered(now)
            case calls.Weigh(_, weight), None:
                self._weight_in_force = weight
                self._weigh_at = _FOREVER if self._weigh_at == _FOREVER else now + self.config.refresh_sec
                self._lookout.look(now)
            case calls.Renew(), None:
                self._restart(now, 'a new timeline was begun')
            case calls.Deregister(), None:
                self.phase, self.deadline = Phase.LEFT, _NEVER
                self._note('info', f'node {self.config.name!r} left')
            case _:
                raise TypeError(f'{issued.call!r} cannot be answered by {answer!r}')

    def _take_opened(self, opened: Opened, now: float) -> None:
        check_settings(self.config.name, self.config.settings, opened.settings)
        self._history.timeline = opened.timeline
        self._timelines.add(opened.timeline.id)
        self._memory = Memory(timeline_read_at=now)
        self.phase = Phase.REGISTERING
        self._work_at = now

    def _registered(self, now: float) -> None:
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.MEMBER
            self._note('info', f'node {self.config.name!r} registered')
        self._beat_at = self._beat_not_before = self._work_at = now
        self._lookout.look(now)

    def _name_taken(self, taken: NameTaken, now: float) -> None:
        record = taken.record
        if record.incarnation == self.ref.incarnation:  # our own registration, whose answer was lost
            self._registered(now)
            return
        if self._watch is None or record.incarnation in self._past:
            pause = 0.0 if record.incarnation in self._past else self.config.retry_sec
            self._watch = NameWatch(record, now, 2 * self.config.heartbeat_interval_sec + self.config.retry_sec)
            if pause:
                self._note('info', self._watch.announcement)
        else:
            pause = self.config.retry_sec
            if self._watch.has_stirred(record, now):
                self._fail(self._watch.in_use(record))
                return
        self._work_at = min(now + pause, max(now, self._watch.over_at))

    def _take_pulse(self, issued: _Issued, call: calls.Heartbeat, pulse: Pulse, now: float) -> None:
        self._history.check(
            pulse.timeline, pulse.store, pulse.revision, pulse.heartbeat, issued.top, least_heartbeat=issued.heartbeat + 1
        )
        if self.deadline == _NEVER or now >= self.deadline:
            self._note('info', f'node {self.config.name!r} has a lease')
            if not self.ownership.is_empty:
                self.events.append(Change(self._nothing, self.ownership))
        self.deadline = max(self.deadline, issued.at + self.config.lease_sec)
        self.last_heartbeat_sent = issued.at
        if call.seen == self.assignment.version:
            self.acknowledged = call.seen
            self._tasks.reported = call.holding
            if self._awaiting_ack is not None:
                self._set_ownership(self._awaiting_ack)
                self._awaiting_ack = None
        self._schedule_beat(issued.at, pulse.leader_age_sec)
        if self.epoch is not None and pulse.leadership != Leadership(self.epoch, self.ref):
            self.epoch = None
        self._lookout.take_pulse(pulse, self.epoch is not None, now)
        self._note_version(pulse.version, now)

    def _schedule_beat(self, sent: float, leader_age: float | None) -> None:
        """One interval after the last, a little sooner or later where that brings this node in step with the leader."""
        interval = self.config.heartbeat_interval_sec
        self._beat_at, self._beat_not_before = sent + interval, _NEVER
        if self.epoch is not None:
            self._lookout.own_heartbeat(sent)
        elif leader_age is not None and (1 + 2 * STEP) * interval < self.config.lease_sec:
            late = (leader_age - STEP * interval) % interval
            late = late if late < interval / 2 else late - interval
            self._beat_at -= min(STEP * interval, max(-STEP * interval, late))

    def _take_snapshot(self, issued: _Issued, snapshot: Snapshot, now: float) -> None:
        mine = next((node for node in snapshot.nodes if node.name == self.config.name), None)
        if snapshot.timeline == self._history.timeline and (
            mine is None or mine.state is not NodeState.JOINED or mine.ref != self.ref
        ):
            raise Evicted(f'node {self.config.name!r} is no longer registered')
        counter = 0 if mine is None else mine.heartbeat
        self._history.check(snapshot.timeline, snapshot.store, snapshot.revision, counter, issued.top, issued.heartbeat)
        self._note_version(snapshot.version, now)
        self._propose_at = now
        if self.epoch is not None and snapshot.leadership != Leadership(self.epoch, self.ref):
            self.epoch = None
        self._lookout.take_snapshot(snapshot, now)

    def _take_reading(self, reading: calls.Reading, now: float) -> None:
        """Apply a version: lose at once, gain after the acknowledgement."""
        self._note_version(reading.assignment.version, now)
        if reading.assignment.version == self.assignment.version:
            return
        pinned = {key: self._token_of(key) for key in {*self.ownership.pins, *reading.ownership.pins}}
        self.assignment = reading.assignment
        self._note_unplaced()
        if self.phase is not Phase.LEAVING:
            self._awaiting_ack = reading.ownership
            self._restrict(self.ownership.both(reading.ownership, pinned), now)
        self._urgent = True
        self._propose_at = now

    def _take_proposal(self, issued: _Issued, proposal: calls.Proposal, now: float) -> None:
        self._expired = proposal.expired
        self._propose_at = proposal.look_again_at
        if proposal.look_again_at is not None:
            self._lookout.look(max(proposal.look_again_at, now))
        if proposal.revision is None or proposal.plan is None:
            return
        self._history.heartbeat = max(self._history.heartbeat, issued.heartbeat + 1)
        self._history.note(proposal.revision)
        self._note_version(proposal.revision, now)
        self._lookout.look(now)
        plan = proposal.plan
        self._note(
            'info',
            f'{plan.reason}: {plan.moved} tokens moved, {sum(len(group.tokens) for group in plan.groups)} rows written, '
            f'{plan.nodes_after} nodes',
        )

    def _note_unplaced(self) -> None:
        """As leader, tell once of the tasks that nobody may do because of their locks (rule R7)."""
        unplaced = frozenset(pin.task_id for pin in self.assignment.unplaced)
        if self.epoch is None or unplaced == self._unplaced:
            return
        self._unplaced = unplaced
        if unplaced:
            count = f'{len(unplaced)} locked task' + ('s' if len(unplaced) > 1 else '')
            self._note('warning', f'no live node matches the locks of {count}, which nobody may do: {_listed(unplaced)}')
        else:
            self._note('info', 'every locked task has a node that matches it again')

    # --- R8, and what ends an incarnation -----------------------------------------------------------------------------------

    def _note_version(self, version: Revision, now: float) -> None:
        if version == self._version or version.number >= self._version.number:
            self._version = version
            self._version_at = now

    def _went_back(self, now: float, sign: str) -> None:
        self._note('warning', f'the store went back in time ({sign}): beginning a new timeline')
        timeline = self._history.timeline
        self._restart(now, sign)
        if self.phase is Phase.OPENING:
            self.phase, self._renewing = Phase.RENEWING, timeline

    def _restart(self, now: float, reason: str) -> None:
        """Answer False from now on, and begin again as a new incarnation."""
        if self.phase is Phase.LEAVING:
            self.phase = Phase.LEFT
            return
        self.deadline = _NEVER
        self._set_ownership(self._nothing)
        self._note('warning', f'node {self.config.name!r} starts over as a new incarnation: {reason}')
        self._begin_session(now)
        self.phase = Phase.OPENING
        self._work_at = now

    def _schema_gone(self, lane: Lane, issued: _Issued, error: SchemaMismatch, now: float) -> None:
        """Fatal at the start. Later somebody has taken the tables away: begin anew when they are back."""
        if not self._timelines:
            self._fail(error)
        elif self.phase is Phase.OPENING:
            self._failed(lane, issued, error, now)
        else:
            self._restart(now, str(error))

    def _fail(self, error: JobsyncError) -> None:
        self.deadline = _NEVER
        self._set_ownership(self._nothing)
        self.phase, self.failure = Phase.FAILED, error
        self._note('error', str(error))

    def _lease_over(self) -> None:
        self._note('warning', f'node {self.config.name!r}: the lease is over, no heartbeat got through in time')
        self.deadline = _NEVER

    def _failed(self, lane: Lane, issued: _Issued, error: JobsyncError, now: float) -> None:
        """The store did not answer: try again soon, and assume nothing."""
        again = now + self.config.retry_sec
        if lane is Lane.BEAT:
            self._beat_at = self._beat_not_before = again
        else:
            self._work_at = again
            if isinstance(issued.call, calls.Propose):
                self._lookout.look(now)
            elif isinstance(issued.call, calls.Weigh):
                self._weigh_at = again
        self._note('retry', f'{type(issued.call).__name__.lower()} failed, will be repeated: {error}')

    # --- odds and ends ------------------------------------------------------------------------------------------------------

    def _restrict(self, after: Ownership, now: float) -> None:
        """Own no more than this; what was asked for is held until whoever is to be told is ready."""
        if not self.config.announces:
            self._set_ownership(after)
            return
        going = self.ownership.tokens - after.tokens
        asked = frozenset(token for token in going if self.assignment.is_asked_for(token, self.config.name))
        self._announce(asked, after, now, now + self.config.handover_timeout_sec)

    def _announce(self, asked: frozenset[int], after: Ownership, now: float, deadline: float) -> None:
        self._tasks.announce(asked, now)
        self._set_ownership(after, asked, deadline)

    def _set_ownership(self, after: Ownership, asked: frozenset[int] = frozenset(), deadline: float = _NEVER) -> None:
        before, self.ownership = self.ownership, after
        if before.mine != after.mine or before.pin_ids != after.pin_ids:
            self.events.append(Change(before, after, asked, deadline))

    def _note(self, level: str, text: str) -> None:
        self.events.append(Note(level, text))


def _listed(keys: frozenset[str]) -> str:
    few = sorted(keys)[:3]
    return ', '.join(shown(key).removesuffix(' (str)') for key in few) + (f' and {len(keys) - 3} more' if len(keys) > 3 else '')
