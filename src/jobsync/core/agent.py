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

- ``Tenure``: what may be claimed and until when, and what is in flight (R1, R3). It is all that the user's threads ask.
- ``SettingsWatch``: whether the nodes of a cluster with other settings are dead. ``Naming``: how the node comes by its name (R6).
- ``Rhythm``: when it sends heartbeats. ``Lookout``: when it looks at the others, and whom it suspects (R2).
- ``NewestVersion``: which version of the assignment there is to read.
- ``Reign``: what it does because it leads (R4). ``Candidacy``: whether it may.
- ``History``: what it has read and written, and thereby whether the store went back in time (R8).
- ``Weighing``: whether the store has the weight that it is to have. ``SpoiltRecords``: what cannot be read (R9).

*Leaving* takes as long as the node is busy, ``shutdown_timeout_sec`` at most. Meanwhile it claims nothing and weighs nothing, so
its other tokens pass on at once (unless they are to be kept for its return); and if it leads, it goes on leading.

*Late answers.* Each call is remembered with the session and the highest revision known when it was issued. An answer to another
session is dropped; an acknowledgement counts only for the version it was issued under.

*The store went back (R8)* if its own identity is not the timeline's, if a revision is below one that was known when the call was
issued or equal to it with another stamp, if the store's position is below one that was known in the same timeline, or if the
node's own counter is below what it was known to be, or above what could have been.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from jobsync.core import calls
from jobsync.core.agentconfig import AgentConfig
from jobsync.core.calls import Lane
from jobsync.core.candidacy import Candidacy
from jobsync.core.events import Event, Note
from jobsync.core.history import History, Known, WentBackError
from jobsync.core.lookout import Lookout
from jobsync.core.model import (
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
from jobsync.core.naming import Naming
from jobsync.core.newest import NewestVersion
from jobsync.core.reign import Reign
from jobsync.core.rhythm import Rhythm
from jobsync.core.settingswatch import SettingsWatch
from jobsync.core.spoilt import SpoiltRecords
from jobsync.core.tenure import Tenure
from jobsync.core.weighing import Weighing
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

    call: calls.Call
    at: float
    session: int
    known: Known


class Agent:
    """One node. Not thread-safe, but for ``tenure``, of which any thread may ask what stands there under that heading."""

    def __init__(self, config: AgentConfig, token_of: Callable[[str], int], new_id: Callable[[], str], now: float) -> None:
        self.config, self._new_id, self._started_at = config, new_id, now
        self.phase = Phase.OPENING
        self.failure: JobsyncError | None = None
        self.events: list[Event] = []
        """What happened since somebody last emptied this list."""
        self.tenure = Tenure(config, token_of, self._tell)
        self.leave_by: float | None = None
        """When it leaves at the latest, once it wants to: what is in flight then is in flight no more."""
        self._leaver: int | None = None
        self._naming, self._weighing = Naming(config), Weighing(config.weight)
        self._history = History(config.heartbeat_timeout_sec)
        self._candidacy = Candidacy(config.heartbeat_timeout_sec)
        self._spoilt = SpoiltRecords(self._tell)
        self._timelines: set[str] = set()
        self._has_been_member = False
        self._renewing: Timeline | None = None
        self._under_way: dict[Lane, _Issued] = {}
        self._work_at = now
        self._session = 0
        self._begin_session(now)

    def _begin_session(self, now: float) -> None:
        """Become a new incarnation that knows nothing and owns nothing."""
        self._session += 1
        self.ref = NodeRef(self.config.name, self._new_id())
        self.tenure.begin_session(self.ref)
        self._naming.begin_session(self.ref.incarnation)
        self._history.begin_session()
        self._weighing.begin_session()
        self._candidacy.begin_session()
        self._settings_watch: SettingsWatch | None = None
        self._rhythm = Rhythm(self.config, now)
        self._lookout = Lookout(self.config, self.ref, self._candidacy, now)
        self._newest = NewestVersion(self.config, self._started_at, now)
        self._reign = Reign(self.config, self.ref, self._history, self._started_at, now, self._tell)

    def _tell(self, event: Event) -> None:
        self.events.append(event)

    def _note(self, level: str, text: str) -> None:
        self._tell(Note(level, text))

    # --- how it stands ------------------------------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over, or leaving, may be waiting for tasks in flight."""
        return self.tenure.is_asked or self.phase is Phase.LEAVING

    @property
    def snapshot(self) -> Snapshot | None:
        """The last reading of the nodes; None before the first."""
        return self._lookout.snapshot

    @property
    def epoch(self) -> int | None:
        """The term in which this node leads; None while it does not."""
        return self._reign.epoch

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The records that could not be read in full when this node last read them; those of task locks it reads as leader."""
        return self._spoilt.all

    @property
    def is_settled(self) -> bool:
        """Whether this node is part of the plan and owns its whole share of it."""
        return self.phase is Phase.MEMBER and self.tenure.is_whole

    @property
    def is_planned(self) -> bool:
        """Whether this node is part of the plan and has what that gives it now: perhaps nothing yet."""
        return self.phase is Phase.MEMBER and self.tenure.is_planned and self.tenure.is_up_to_date

    @property
    def weight(self) -> float:
        """The weight it wants."""
        return self._weighing.wanted

    # --- what is wanted of it -----------------------------------------------------------------------------------------------

    def beat_soon(self) -> None:
        """Send a heartbeat now: somebody has cause to doubt that this node is still registered."""
        self._rhythm.soon()

    def hint(self, revision: int, now: float) -> None:
        """The store's revision is said to have risen."""
        if revision > self._history.top.number and self.phase in (Phase.MEMBER, Phase.LEAVING):
            if self._reign.is_on:
                self._lookout.hint(now)
            else:
                self._rhythm.soon()

    def weigh(self, weight: float) -> None:
        """Want this weight from now on."""
        if self.phase is not Phase.LEAVING:
            self._weighing.wanted = weight

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
        self.tenure.give_up(now, self.leave_by)
        if not self.config.rejoin_grace_sec:
            self._weighing.wanted = 0.0
        self.phase = Phase.LEAVING if may_be_registered else Phase.LEFT
        self._work_at = now

    def is_staying(self, now: float) -> bool:
        """Whether a leaving node has reason to wait."""
        assert self.leave_by is not None
        return now < self.leave_by and now < self.tenure.deadline and self.tenure.is_busy(self._leaver)

    # --- the lanes ----------------------------------------------------------------------------------------------------------

    def next(self, lane: Lane, now: float) -> calls.Call | float | None:
        """The call to make in this lane now, or when to ask again, or None: not before something happens."""
        if lane in self._under_way or self.phase in (Phase.LEFT, Phase.FAILED):
            return None
        self.tenure.look_at_lease(now)
        answer = self._next_beat(now) if lane is Lane.BEAT else self._next_work(now)
        if answer is None or isinstance(answer, (int, float)):
            return answer
        if isinstance(answer, (calls.Heartbeat, calls.Propose)):
            self._history.writes += 1
        elif isinstance(answer, calls.TakeSnapshot):
            self._lookout.begin_look(now)
        if lane is Lane.WORK and self.phase is Phase.MEMBER:
            self._candidacy.begin_work(now)
        self._under_way[lane] = _Issued(answer, now, self._session, self._history.known)
        return answer

    def done(self, lane: Lane, answer: calls.Answer, now: float) -> bool:
        """Take the answer of the lane's call, or the error it raised; return whether the store has answered."""
        issued = self._under_way.pop(lane)
        if issued.session != self._session or self.phase in (Phase.LEFT, Phase.FAILED):
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
        except WentBackError as sign:
            self._went_back(now, str(sign))
        except (Conflict, Fenced):
            self._lookout.look(now)
            self._work_at = now + self._reign.take_refusal()
            if isinstance(answer, Fenced):
                self._reign.end()
        except NameTaken as taken:
            self._name_taken(taken, now)
        except ConfigMismatch as error:
            self._fail(error)
        except JobsyncError as error:
            return self._refused(lane, issued, error, now)
        return True

    def _next_beat(self, now: float) -> calls.Heartbeat | float | None:
        if self.phase not in (Phase.MEMBER, Phase.LEAVING):
            return None
        if self.phase is Phase.LEAVING and not self.is_staying(now):
            return None
        if now >= self._candidacy.stuck_at:
            self._step_back(now)
        due = self._rhythm.next(self.tenure.holds_other_at(now), now)
        if now < due:
            return min(due, self._candidacy.stuck_at)
        self._rhythm.send(now)
        return calls.Heartbeat(
            self.ref, self.tenure.assignment.version, self.tenure.holding(now), candidate=self._candidacy.is_wanted
        )

    def _step_back(self, now: float) -> None:
        """Be no candidate for the leadership for a while (rule R4)."""
        self._lookout.look_after(self._candidacy.step_back(now))
        self._rhythm.soon()
        timeout = self.config.heartbeat_timeout_sec
        self._note(
            'warning', f'node {self.config.name!r} has got no work done for {timeout:g} s: another node is to lead, if any can'
        )

    def _succeeded(self, answer: calls.Answer, now: float) -> None:
        """Note that a call of the lane for work has succeeded: for whoever is to lead only a proposal is what counts."""
        proposal = answer if isinstance(answer, calls.Proposal) else None
        if proposal is None and self._lookout.is_first_in_line(now):
            return
        if self._candidacy.note_success(now, committed=proposal is not None and proposal.revision is not None):
            self._rhythm.soon()
            self._note('info', f'node {self.config.name!r} may lead again')

    def _next_work(self, now: float) -> calls.Call | float | None:
        if now < self._work_at:
            return self._work_at
        match self.phase:
            case Phase.OPENING:
                return self._next_opening(now)
            case Phase.REGISTERING:
                return self._next_register(now)
            case Phase.RENEWING:
                assert self._renewing is not None
                return calls.Renew(self._renewing, self._history.top.number, self._history.longest_timeout_sec)
            case Phase.LEAVING:
                return self._next_leaving(now)
            case _:
                return self._next_member(now)

    def _next_opening(self, now: float) -> calls.Call | float:
        watch = self._settings_watch
        if watch is None:
            return calls.Open(self.config.settings, self.config.create)
        if watch.dead is not None:
            return calls.Open(self.config.settings, self.config.create, watch.dead)
        return calls.TakeSnapshot() if now >= watch.look_at else watch.look_at

    def _next_register(self, now: float) -> calls.Register:
        config, history = self.config, self._history
        assert history.timeline is not None
        self._weighing.begin_session()
        over, replacing = self._naming.registration(now)
        node = Registration(
            ref=self.ref,
            timeout_sec=config.heartbeat_timeout_sec,
            weight=self._weighing.wanted,
            replaces=over,
            host=config.host,
            pid=config.pid,
            longest_timeout_sec=history.longest_timeout_sec,
        )
        return calls.Register(node, history.timeline, history.top.number, replacing)

    def _next_leaving(self, now: float) -> calls.Call | float:
        assert self.leave_by is not None
        if not self.is_staying(now):
            return calls.Deregister(self.ref)
        call = self._next_member(now)
        return min(call, self.leave_by) if isinstance(call, (int, float)) else call

    def _next_member(self, now: float) -> calls.Call | float:
        assignment, lookout = self.tenure.assignment, self._lookout
        weigh_at, stale_at = self._weighing.due(now), self._newest.stale_at(now)
        if now >= weigh_at:
            return self._weighing.call(self.ref)
        if self._newest.version != assignment.version or now >= stale_at:
            return calls.Read(self.ref, assignment)
        leads = now < self.tenure.deadline and lookout.is_first_in_line(now)
        if now >= lookout.due and not (leads and self._reign.must_plan(now)):
            return calls.TakeSnapshot()
        wake = min(lookout.due, stale_at, weigh_at)
        if leads and lookout.snapshot is not None:
            call = self._reign.next(lookout.snapshot, assignment, lookout.suspects(now), now)
            if not isinstance(call, (int, float)):
                return call
            wake = min(wake, call)
        self._candidacy.rest()
        return wake

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def _take(self, issued: _Issued, answer: calls.Answer, now: float) -> None:
        match issued.call, answer:
            case calls.Heartbeat() as call, Pulse() as pulse:
                self._take_pulse(issued, call, pulse, now)
            case calls.TakeSnapshot(), Snapshot() as snapshot if self._settings_watch is not None:
                if told := self._settings_watch.take(snapshot, now):
                    self._note('info', told)
            case calls.TakeSnapshot(), Snapshot() as snapshot:
                self._take_snapshot(issued, snapshot, now)
            case calls.Read() as call, calls.Reading() as reading:
                if call.base.version == self.tenure.assignment.version:
                    self._take_reading(reading, now)
            case calls.Propose(), calls.Proposal() as proposal:
                self._take_proposal(issued, proposal, now)
            case calls.Acquire(), Leadership() as leadership:
                self._lookout.look(now)
                self._reign.take_leadership(leadership, self.tenure.assignment)
            case calls.ReadLocks(), LockReading(locks, unreadable):
                self._spoilt.take('lock', unreadable, self._reign.is_on)
                seen = self._lookout.snapshot
                self._reign.take_locks(locks, -1 if seen is None else seen.locks_revision, now)
            case calls.DropExpiredLocks(), _:
                self._lookout.look(now)
            case calls.Open(), Opened() as opened:
                self._take_opened(opened, now)
            case calls.Register(), None:
                self._registered(now)
            case calls.Weigh(_, weight), None:
                self._weighing.given(weight, now + self.config.refresh_sec)
                self._lookout.look(now)
            case calls.Renew(), None:
                self._restart(now, 'a new timeline was begun')
            case calls.Deregister(), None:
                self.phase, self.tenure.deadline = Phase.LEFT, float('-inf')
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
        self._history.timeline = opened.timeline
        self._reign.begin_timeline(now, is_first=len(self._timelines) == 1)
        self.phase = Phase.REGISTERING
        self._work_at = now

    def _registered(self, now: float) -> None:
        self._has_been_member = True
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.MEMBER
            self._note('info', f'node {self.config.name!r} registered')
        self._rhythm.begin(now)
        self._work_at = now
        self._lookout.look(now)

    def _name_taken(self, taken: NameTaken, now: float) -> None:
        if taken.record.incarnation == self.ref.incarnation:  # our own registration, whose answer was lost
            self._weighing.found(taken.record.weight)
            self._registered(now)
            return
        try:
            self._work_at, told = self._naming.taken(taken.record, now)
        except NodeNameInUse as error:
            self._fail(error)
            return
        if told:
            self._note('info', told)

    def _take_pulse(self, issued: _Issued, call: calls.Heartbeat, pulse: Pulse, now: float) -> None:
        self._history.check(pulse, pulse.heartbeat, issued.known, least_heartbeat=issued.known.heartbeat + 1)
        self._candidacy.note_told(call.candidate)
        # t=0   the row of this node is deleted by hand, and its heartbeats are refused (or do not get through to hear of it)
        # t=15  its lease is over, and its tokens are given to others
        # t=20  its row is put back by hand: the next heartbeat succeeds, and the version it goes by still says they are its own
        is_outdated = now >= self.tenure.deadline and pulse.version != self.tenure.assignment.version
        if not is_outdated and self.tenure.extend(issued.at, now):  # else nothing can be gained, and nobody is to be told so
            self.tenure.acknowledge(call.seen, call.holding)
        self._rhythm.succeeded(issued.at, None if self._reign.is_on else pulse.leader_age_sec)
        if self._reign.is_on:
            self._lookout.own_heartbeat(issued.at)
        self._reign.compare(pulse.leadership)
        self._lookout.take_pulse(pulse, self._reign.is_on, now)
        self._newest.note(pulse.version, now)

    def _take_snapshot(self, issued: _Issued, snapshot: Snapshot, now: float) -> None:
        mine = next((node for node in snapshot.nodes if node.name == self.config.name), None)
        if snapshot.timeline == self._history.timeline and (
            mine is None or mine.state is not NodeState.JOINED or mine.ref != self.ref
        ):
            raise Evicted(f'node {self.config.name!r} is no longer registered')
        counter = 0 if mine is None else mine.heartbeat
        self._history.check(snapshot, counter, issued.known, issued.known.heartbeat)
        self._history.note_timeouts([snapshot.longest_timeout_sec, *(node.timeout_sec for node in snapshot.nodes)])
        self._newest.note(snapshot.version, now)
        self._reign.take_news(now)
        self._reign.compare(snapshot.leadership)
        self._lookout.take_snapshot(snapshot, now)
        self._spoilt.take('node', snapshot.unreadable, self._reign.is_on)

    def _take_reading(self, reading: calls.Reading, now: float) -> None:
        self._newest.note(reading.assignment.version, now)
        self._history.note_timeouts(member.timeout_sec for member in reading.assignment.members.values())
        if reading.assignment.version == self.tenure.assignment.version:
            return
        self.tenure.read(reading.assignment, reading.ownership, now, leaves=self.phase is Phase.LEAVING)
        self._lookout.read_version(reading.assignment.members, now)
        self._reign.note_unplaced(reading.assignment)
        self._reign.propose_again(now)
        self._rhythm.soon()

    def _take_proposal(self, issued: _Issued, proposal: calls.Proposal, now: float) -> None:
        self._reign.take_proposal(proposal)
        if proposal.look_again_at is not None:
            self._lookout.look(max(proposal.look_again_at, now))
        if proposal.revision is None or proposal.plan is None:
            return
        self._history.heartbeat = max(self._history.heartbeat, issued.known.heartbeat + 1)
        self._history.note(proposal.revision)
        self._newest.note(proposal.revision, now)
        self._lookout.look(now)
        plan = proposal.plan
        self._note(
            'info',
            f'{plan.reason}: {plan.moved} tokens moved, {sum(len(group.tokens) for group in plan.groups)} rows written, '
            f'{plan.nodes_after} nodes',
        )

    # --- what ends an incarnation, and what does not ------------------------------------------------------------------------

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
        self.tenure.drop()
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
        elif gone and (lane is Lane.BEAT or self.phase not in (Phase.OPENING, Phase.MEMBER)):
            self._restart(now, str(error))
        else:
            self._failed(lane, issued, error, now)
            if gone:
                self._settings_watch = None
            return False
        return True

    def _fail(self, error: JobsyncError) -> None:
        self.tenure.drop()
        self.phase, self.failure = Phase.FAILED, error
        self._note('error', str(error))

    def _failed(self, lane: Lane, issued: _Issued, error: JobsyncError, now: float) -> None:
        """The store did not answer: try again soon, and assume nothing."""
        self._lookout.blinded()
        self._naming.blinded()
        if self._settings_watch is not None:
            self._settings_watch.blinded()
        again = now + self.config.retry_sec
        if lane is Lane.BEAT:
            self._rhythm.begin(again)
            self._candidacy.excuse(now)
        else:
            self._work_at = again
            if isinstance(issued.call, calls.TakeSnapshot):
                self._lookout.look(now)  # whatever it was for: what was observed is forgotten
            elif isinstance(issued.call, calls.Propose):
                self._lookout.look(now)
                if self._candidacy.has_failed(now):
                    self._step_back(now)
            elif isinstance(issued.call, calls.Weigh):
                self._weighing.failed(again)
        self._note('retry', f'{type(issued.call).__name__.lower()} failed, will be repeated: {error}')
