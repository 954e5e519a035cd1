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
                                     any ──► FAILED  what no retry can mend (another cluster's settings, name in use;
                                                     before it was ever a member, whatever the store refuses)

Each incarnation is a *session*, and each of these knows one thing of it:

- ``Lease``: what may be claimed and until when, and what is in flight (R1, R3). It is all that the user's threads ask.
- ``SettingsWatch``: whether the nodes of a cluster with other settings are dead.
- ``NameRegistration``: how the node comes by its name (R6).
- ``HeartbeatSchedule``: when it sends heartbeats. ``ClusterMonitor``: when it looks at the others, and whom it suspects (R2).
- ``AssignmentRefresh``: which version of the assignment there is to read.
- ``LeaderTerm``: what it does because it leads (R4). ``Candidacy``: whether it may.
- ``RollbackDetector``: what it has read and written, and thereby whether the store went back in time (R8).
- ``WeightSync``: whether the store has the weight that it is to have. ``UnreadableRecords``: what cannot be read (R9).

*Leaving* takes as long as the node is busy, ``shutdown_timeout_sec`` at most. Meanwhile it claims nothing and weighs nothing, so
its other tokens pass on at once (unless they are to be kept for its return); and if it leads, it goes on leading.

*Late answers.* Each call is remembered with the session and the highest revision known when it was issued. An answer to another
session is dropped; an acknowledgement counts only for the version it was issued under.

*The store went back (R8)* if its own identity is not the timeline's, if a revision is below one that was known when the call was
issued or equal to it with another stamp, likewise the assignment's version, if the store's position is below one that was known
in the same timeline, or if the node's own counter is below what it was known to be, or above what could have been.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from jobsync._core.agent import commands
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.leader_term import LeaderTerm
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.monitor import ClusterMonitor
from jobsync._core.agent.refresh import AssignmentRefresh
from jobsync._core.agent.registration import NameRegistration
from jobsync._core.agent.rollback import Known, RollbackDetector, StoreRolledBack
from jobsync._core.agent.schedule import HeartbeatSchedule
from jobsync._core.agent.settings_watch import SettingsWatch
from jobsync._core.agent.unreadable import UnreadableRecords
from jobsync._core.agent.weight import WeightSync
from jobsync._core.config import NodeConfig
from jobsync._core.records import (
    Leadership,
    LockReading,
    NodeRef,
    NodeState,
    Opened,
    Pulse,
    Registration,
    Snapshot,
    Timeline,
    Unreadable,
)
from jobsync.errors import (
    BackendUnavailable,
    ConfigMismatch,
    Conflict,
    Evicted,
    Fenced,
    JobsyncError,
    NameTaken,
    NodeNameInUse,
    SchemaMismatch,
    TimelineChanged,
)

__all__ = ['Agent', 'Phase']


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
class _Issued:
    """A call under way, with what was known when it went out."""

    call: commands.Command
    at: float
    session: int
    known: Known


class Agent:
    """One node. Not thread-safe, but for ``lease``, of which any thread may ask what stands there under that heading."""

    def __init__(self, config: NodeConfig, token_of: Callable[[str], int], new_id: Callable[[], str], now: float) -> None:
        self.config, self._new_id, self._started_at = config, new_id, now
        self.phase = Phase.OPENING
        self.failure: JobsyncError | None = None
        self.events: list[Event] = []
        """What happened since somebody last emptied this list."""
        self.lease = Lease(config, token_of, self._tell)
        self.leave_by: float | None = None
        """When it leaves at the latest, once it wants to: what is in flight then is in flight no more."""
        self._leaver: int | None = None
        self._registration, self._weight_sync = NameRegistration(config), WeightSync(config.weight)
        self._rollback = RollbackDetector(config.heartbeat_timeout_sec)
        self._candidacy = Candidacy(config.heartbeat_timeout_sec)
        self._spoilt = UnreadableRecords(self._tell)
        self._timelines: set[str] = set()
        self._has_been_member = False
        self._renewing: Timeline | None = None
        self._under_way: dict[Lane, _Issued] = {}
        self._work_at = now
        self._session_number = 0
        self._begin_session(now)

    def _begin_session(self, now: float) -> None:
        """Become a new incarnation that knows nothing and owns nothing."""
        self._session_number += 1
        self.ref = NodeRef(self.config.name, self._new_id())
        self.lease.begin_session(self.ref)
        self._registration.begin_session(self.ref.incarnation)
        self._rollback.begin_session()
        self._weight_sync.begin_session()
        self._candidacy.begin_session()
        self._settings_watch: SettingsWatch | None = None
        self._schedule = HeartbeatSchedule(self.config, now)
        self._monitor = ClusterMonitor(self.config, self.ref, self._candidacy, now)
        self._refresh = AssignmentRefresh(self.config, self._started_at, now)
        self._leader_term = LeaderTerm(self.config, self.ref, self._rollback, self._started_at, now, self._tell)

    def _tell(self, event: Event) -> None:
        self.events.append(event)

    def _note(self, level: str, text: str) -> None:
        self._tell(LogMessage(level, text))

    # --- how it stands ------------------------------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over, or leaving, may be waiting for tasks in flight."""
        return self.lease.is_asked or self.phase is Phase.LEAVING

    @property
    def snapshot(self) -> Snapshot | None:
        """The last reading of the nodes; None before the first."""
        return self._monitor.snapshot

    @property
    def epoch(self) -> int | None:
        """The term in which this node leads; None while it does not."""
        return self._leader_term.epoch

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The records that could not be read in full when this node last read them; those of task locks it reads as leader."""
        return self._spoilt.all

    @property
    def is_settled(self) -> bool:
        """Whether this node is part of the plan and owns its whole share of it."""
        return self.phase is Phase.MEMBER and self.lease.is_whole

    @property
    def is_planned(self) -> bool:
        """Whether this node is part of the plan and has what that gives it now: perhaps nothing yet."""
        return self.phase is Phase.MEMBER and self.lease.is_planned and self.lease.is_up_to_date

    @property
    def weight(self) -> float:
        """The weight it wants."""
        return self._weight_sync.wanted

    # --- what is wanted of it -----------------------------------------------------------------------------------------------

    def beat_soon(self) -> None:
        """Send a heartbeat now: somebody has cause to doubt that this node is still registered."""
        self._schedule.soon()

    def hint(self, revision: int, now: float) -> None:
        """The store's revision is said to have risen."""
        if revision > self._rollback.top.number and self.phase in (Phase.MEMBER, Phase.LEAVING):
            if self._leader_term.is_on:
                self._monitor.hint(now)
            else:
                self._schedule.soon()

    def weigh(self, weight: float) -> None:
        """Want this weight from now on."""
        if self.phase is not Phase.LEAVING:
            self._weight_sync.wanted = weight

    def leave(self, now: float, at_once: bool = False, worker: int | None = None) -> None:
        """Stop claiming, finish what is in hand, and deregister.

        Waits for tasks in flight and for whoever is told that tokens go, ``shutdown_timeout_sec`` at most or not at all; never
        for the tasks of ``worker``, which is the one that waits. May be called again, to change how.
        """
        if self.phase is Phase.LEAVING:
            assert self.leave_by is not None
            self._leaver = worker if self._leaver is None else self._leaver
            if at_once and now < self.leave_by:
                self.leave_by = self._work_at = now
        if self.phase in (Phase.LEAVING, Phase.LEFT, Phase.FAILED):
            return
        may_be_registered = self.phase in (Phase.MEMBER, Phase.REGISTERING)
        self.leave_by, self._leaver = now + (0 if at_once else self.config.shutdown_timeout_sec), worker
        self.lease.give_up(now, self.leave_by)
        if not self.config.rejoin_grace_sec:
            self._weight_sync.wanted = 0.0
        self.phase = Phase.LEAVING if may_be_registered else Phase.LEFT
        self._work_at = now

    def is_staying(self, now: float) -> bool:
        """Whether a leaving node has reason to wait."""
        assert self.leave_by is not None
        return now < self.leave_by and now < self.lease.deadline and self.lease.is_busy(self._leaver)

    # --- the lanes ----------------------------------------------------------------------------------------------------------

    def next(self, lane: Lane, now: float) -> commands.Command | float | None:
        """The call to make in this lane now, or when to ask again, or None: not before something happens."""
        if lane in self._under_way or self.phase in (Phase.LEFT, Phase.FAILED):
            return None
        self.lease.look_at_lease(now)
        answer = self._next_beat(now) if lane is Lane.HEARTBEAT else self._next_work(now)
        if answer is None or isinstance(answer, (int, float)):
            return answer
        if isinstance(answer, (commands.Heartbeat, commands.PlanAndCommit)):
            self._rollback.writes += 1
        elif isinstance(answer, commands.TakeSnapshot):
            self._monitor.begin_look(now)
        if lane is Lane.WORK and self.phase is Phase.MEMBER:
            self._candidacy.begin_work(now)
        self._under_way[lane] = _Issued(answer, now, self._session_number, self._rollback.known)
        return answer

    def done(self, lane: Lane, answer: commands.Reply, now: float) -> bool:
        """Take the answer of the lane's call, or the error it raised; return whether the store has answered."""
        issued = self._under_way.pop(lane)
        if issued.session != self._session_number or self.phase in (Phase.LEFT, Phase.FAILED):
            return not isinstance(answer, Exception)
        try:
            if isinstance(answer, Exception):
                raise answer
            self._take(issued, answer, now)
            if lane is Lane.WORK:
                self._succeeded(answer, now)
        except BackendUnavailable as error:
            self._failed(lane, issued, error, now)
            return False
        except (Evicted, TimelineChanged) as reason:
            self._restart(now, str(reason))
        except StoreRolledBack as sign:
            self._went_back(now, str(sign))
        except (Conflict, Fenced):
            self._monitor.look(now)
            self._work_at = now + self._leader_term.take_refusal()
            if isinstance(answer, Fenced):
                self._leader_term.end()
        except NameTaken as taken:
            self._name_taken(taken, now)
        except ConfigMismatch as error:
            self._fail(error)
        except JobsyncError as error:
            return self._refused(lane, issued, error, now)
        return True

    def _next_beat(self, now: float) -> commands.Heartbeat | float | None:
        if self.phase not in (Phase.MEMBER, Phase.LEAVING):
            return None
        if self.phase is Phase.LEAVING and not self.is_staying(now):
            return None
        if now >= self._candidacy.stuck_at:
            self._step_back(now)
        due = self._schedule.next(self.lease.holds_other_at(now), now)
        if now < due:
            return min(due, self._candidacy.stuck_at)
        self._schedule.send(now)
        return commands.Heartbeat(
            self.ref, self.lease.assignment.version, self.lease.holding(now), candidate=self._candidacy.is_wanted
        )

    def _step_back(self, now: float) -> None:
        """Be no candidate for the leadership for a while (rule R4)."""
        self._monitor.look_after(self._candidacy.step_back(now))
        self._schedule.soon()
        timeout = self.config.heartbeat_timeout_sec
        self._note(
            'warning', f'node {self.config.name!r} has got no work done for {timeout:g} s: another node is to lead, if any can'
        )

    def _succeeded(self, answer: commands.Reply, now: float) -> None:
        """Note that a call of the lane for work has succeeded: for whoever is to lead only a proposal is what counts."""
        proposal = answer if isinstance(answer, commands.CommitOutcome) else None
        if proposal is None and self._monitor.is_first_in_line(now):
            return
        if self._candidacy.note_success(now, committed=proposal is not None and proposal.revision is not None):
            self._schedule.soon()
            self._note('info', f'node {self.config.name!r} may lead again')

    def _next_work(self, now: float) -> commands.Command | float | None:
        if now < self._work_at:
            return self._work_at
        match self.phase:
            case Phase.OPENING:
                return self._next_opening(now)
            case Phase.REGISTERING:
                return self._next_register(now)
            case Phase.RENEWING:
                assert self._renewing is not None
                return commands.RenewTimeline(self._renewing, self._rollback.top.number, self._rollback.longest_timeout_sec)
            case Phase.LEAVING:
                return self._next_leaving(now)
            case _:
                return self._next_member(now)

    def _next_opening(self, now: float) -> commands.Command | float:
        watch = self._settings_watch
        if watch is None:
            return commands.Open(self.config.settings, self.config.create)
        if watch.dead is not None:
            return commands.Open(self.config.settings, self.config.create, watch.dead)
        return commands.TakeSnapshot() if now >= watch.look_at else watch.look_at

    def _next_register(self, now: float) -> commands.Register:
        config, history = self.config, self._rollback
        assert history.timeline is not None
        self._weight_sync.begin_session()
        over, replacing = self._registration.registration(now)
        node = Registration(
            ref=self.ref,
            timeout_sec=config.heartbeat_timeout_sec,
            weight=self._weight_sync.wanted,
            replaces=over,
            host=config.host,
            pid=config.pid,
            longest_timeout_sec=history.longest_timeout_sec,
        )
        return commands.Register(node, history.timeline, history.top.number, replacing)

    def _next_leaving(self, now: float) -> commands.Command | float:
        assert self.leave_by is not None
        if not self.is_staying(now):
            return commands.Deregister(self.ref)
        call = self._next_member(now)
        return min(call, self.leave_by) if isinstance(call, (int, float)) else call

    def _next_member(self, now: float) -> commands.Command | float:
        assignment, monitor = self.lease.assignment, self._monitor
        weigh_at, stale_at = self._weight_sync.due(now), self._refresh.stale_at(now)
        if now >= weigh_at:
            return self._weight_sync.call(self.ref)
        if self._refresh.version != assignment.version or now >= stale_at:
            return commands.ReadAssignment(self.ref, assignment)
        leads = now < self.lease.deadline and monitor.is_first_in_line(now)
        if now >= monitor.due and not (leads and self._leader_term.must_plan(now)):
            return commands.TakeSnapshot()
        wake = min(monitor.due, stale_at, weigh_at)
        if leads and monitor.snapshot is not None:
            call = self._leader_term.next(monitor.snapshot, assignment, monitor.suspects(now), now)
            if not isinstance(call, (int, float)):
                return call
            wake = min(wake, call)
        self._candidacy.rest()
        return wake

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def _take(self, issued: _Issued, answer: commands.Reply, now: float) -> None:
        match issued.call, answer:
            case commands.Heartbeat() as call, Pulse() as pulse:
                self._take_pulse(issued, call, pulse, now)
            case commands.TakeSnapshot(), Snapshot() as snapshot if self._settings_watch is not None:
                if told := self._settings_watch.take(snapshot, now):
                    self._note('info', told)
            case commands.TakeSnapshot(), Snapshot() as snapshot:
                self._take_snapshot(issued, snapshot, now)
            case commands.ReadAssignment() as call, commands.AssignmentReading() as reading:
                self._rollback.check_version(reading.assignment.version, issued.known)
                if call.base.version == self.lease.assignment.version:
                    self._take_reading(reading, now)
            case commands.PlanAndCommit(), commands.CommitOutcome() as proposal:
                self._take_proposal(issued, proposal, now)
            case commands.AcquireLeadership(), Leadership() as leadership:
                self._monitor.look(now)
                self._leader_term.take_leadership(leadership, self.lease.assignment)
            case commands.ReadLocks(), LockReading(locks, unreadable):
                self._spoilt.take('lock', unreadable, self._leader_term.is_on)
                seen = self._monitor.snapshot
                self._leader_term.take_locks(locks, -1 if seen is None else seen.locks_revision, now)
            case commands.DropExpiredLocks(), _:
                self._monitor.look(now)
            case commands.Open(), Opened() as opened:
                self._take_opened(opened, now)
            case commands.Register(), None:
                self._registered(now)
            case commands.SetWeight(_, weight), None:
                self._weight_sync.given(weight, now + self.config.token_refresh_steady_interval_sec)
                self._monitor.look(now)
            case commands.RenewTimeline(), None:
                self._restart(now, 'a new timeline was begun')
            case commands.Deregister(), None:
                self.phase, self.lease.deadline = Phase.LEFT, float('-inf')
                self._note('info', f'node {self.config.name!r} left')
            case _:
                raise TypeError(f'{issued.call!r} cannot be answered by {answer!r}')

    def _take_opened(self, opened: Opened, now: float) -> None:
        self._timelines.add(opened.timeline.id)
        if opened.settings != self.config.settings:
            if self._settings_watch is not None:
                self._settings_watch.refuse()
            self._settings_watch = SettingsWatch(self.config, opened, now)
            return
        if self._settings_watch is not None:
            self._settings_watch = None
            self._note('info', f'node {self.config.name!r}: the settings of the cluster are its own now')
        self._rollback.timeline = opened.timeline
        self._leader_term.begin_timeline(now, is_first=len(self._timelines) == 1)
        self.phase = Phase.REGISTERING
        self._work_at = now

    def _registered(self, now: float) -> None:
        self._has_been_member = True
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.MEMBER
            self._note('info', f'node {self.config.name!r} registered')
        self._schedule.begin(now)
        self._work_at = now
        self._monitor.look(now)

    def _name_taken(self, taken: NameTaken, now: float) -> None:
        if taken.record.incarnation == self.ref.incarnation:  # our own registration, whose answer was lost
            self._weight_sync.found(taken.record.weight)
            self._registered(now)
            return
        try:
            self._work_at, told = self._registration.taken(taken.record, now)
        except NodeNameInUse as error:
            self._fail(error)
            return
        if told:
            self._note('info', told)

    def _take_pulse(self, issued: _Issued, call: commands.Heartbeat, pulse: Pulse, now: float) -> None:
        self._rollback.check(pulse, pulse.heartbeat, issued.known, least_heartbeat=issued.known.heartbeat + 1)
        self._candidacy.note_told(call.candidate)
        # t=0   the row of this node is deleted by hand, and its heartbeats are refused (or do not get through to hear of it)
        # t=15  its lease is over, and its tokens are given to others
        # t=20  its row is put back by hand: the next heartbeat succeeds, and the version it goes by still says they are its own
        is_outdated = now >= self.lease.deadline and pulse.version != self.lease.assignment.version
        if not is_outdated and self.lease.extend(issued.at, now):  # else nothing can be gained, and nobody is to be told so
            self.lease.acknowledge(call.seen, call.holding)
        self._schedule.succeeded(issued.at, None if self._leader_term.is_on else pulse.leader_age_sec)
        if self._leader_term.is_on:
            self._monitor.own_heartbeat(issued.at)
        self._leader_term.compare(pulse.leadership)
        self._monitor.take_pulse(pulse, self._leader_term.is_on, now)
        self._refresh.note(pulse.version, now)

    def _take_snapshot(self, issued: _Issued, snapshot: Snapshot, now: float) -> None:
        mine = next((node for node in snapshot.nodes if node.name == self.config.name), None)
        if snapshot.timeline == self._rollback.timeline and (
            mine is None or mine.state is not NodeState.JOINED or mine.ref != self.ref
        ):
            raise Evicted(f'node {self.config.name!r} is no longer registered')
        counter = 0 if mine is None else mine.heartbeat
        self._rollback.check(snapshot, counter, issued.known, issued.known.heartbeat)
        self._rollback.note_timeouts([snapshot.longest_timeout_sec, *(node.timeout_sec for node in snapshot.nodes)])
        self._refresh.note(snapshot.version, now)
        self._leader_term.take_news(snapshot, now)
        self._leader_term.compare(snapshot.leadership)
        self._monitor.take_snapshot(snapshot, now)
        self._spoilt.take('node', snapshot.unreadable, self._leader_term.is_on)

    def _take_reading(self, reading: commands.AssignmentReading, now: float) -> None:
        self._refresh.note(reading.assignment.version, now)
        self._rollback.note_timeouts(member.timeout_sec for member in reading.assignment.members.values())
        if reading.assignment.version == self.lease.assignment.version:
            return
        self.lease.read(reading.assignment, reading.ownership, now, leaves=self.phase is Phase.LEAVING)
        self._monitor.read_version(reading.assignment.members, now)
        self._leader_term.note_unplaced(reading.assignment)
        self._leader_term.propose_again(now)
        self._schedule.soon()

    def _take_proposal(self, issued: _Issued, proposal: commands.CommitOutcome, now: float) -> None:
        self._leader_term.take_proposal(proposal)
        if proposal.look_again_at is not None:
            self._monitor.look(max(proposal.look_again_at, now))
        if proposal.revision is None or proposal.plan is None:
            return
        self._rollback.heartbeat = max(self._rollback.heartbeat, issued.known.heartbeat + 1)
        self._rollback.note_commit(proposal.revision)
        self._refresh.note(proposal.revision, now)
        self._monitor.look(now)
        plan = proposal.plan
        self._note(
            'info',
            f'{plan.reason}: {plan.moved} tokens moved, {sum(len(group.tokens) for group in plan.groups)} rows written, '
            f'{plan.nodes_after} nodes',
        )

    # --- what ends an incarnation, and what does not ------------------------------------------------------------------------

    def _went_back(self, now: float, sign: str) -> None:
        self._note('warning', f'the store went back in time ({sign}): beginning a new timeline')
        timeline = self._rollback.timeline
        self._restart(now, sign)
        if self.phase is Phase.OPENING:
            self.phase, self._renewing = Phase.RENEWING, timeline

    def _restart(self, now: float, reason: str) -> None:
        """Answer False from now on, and begin again as a new incarnation."""
        if self.phase is Phase.LEAVING:
            self.phase = Phase.LEFT
            return
        self.lease.drop()
        self._note('warning', f'node {self.config.name!r} starts over as a new incarnation: {reason}')
        self._begin_session(now)
        self.phase = Phase.OPENING
        self._work_at = now

    def _refused(self, lane: Lane, issued: _Issued, error: JobsyncError, now: float) -> bool:
        """Stop at the start; later try again (rule R9): what was granted once, rights or tables, may be granted again.

        Returns whether the store has answered. A heartbeat that finds no namespace has: the node begins anew when it is back.
        """
        gone = isinstance(error, SchemaMismatch)
        if not (self._timelines if gone else self._has_been_member):
            self._fail(error)
        elif gone and (lane is Lane.HEARTBEAT or self.phase not in (Phase.OPENING, Phase.MEMBER)):
            self._restart(now, str(error))
        else:
            self._failed(lane, issued, error, now)
            if gone:
                self._settings_watch = None
            return False
        return True

    def _fail(self, error: JobsyncError) -> None:
        self.lease.drop()
        self.phase, self.failure = Phase.FAILED, error
        self._note('error', str(error))

    def _failed(self, lane: Lane, issued: _Issued, error: JobsyncError, now: float) -> None:
        """The store did not answer: try again soon, and assume nothing."""
        self._monitor.blinded()
        self._registration.blinded()
        if self._settings_watch is not None:
            self._settings_watch.blinded()
        again = now + self.config.retry_sec
        if lane is Lane.HEARTBEAT:
            self._schedule.begin(again)
            self._candidacy.excuse(now)
        else:
            self._work_at = again
            if isinstance(issued.call, commands.TakeSnapshot):
                self._monitor.look(now)  # whatever it was for: what was observed is forgotten
            elif isinstance(issued.call, commands.PlanAndCommit):
                self._monitor.look(now)
                if self._candidacy.has_failed(now):
                    self._step_back(now)
            elif isinstance(issued.call, commands.SetWeight):
                self._weight_sync.failed(again)
        self._note('retry', f'{type(issued.call).__name__.lower()} failed, will be repeated: {error}')
