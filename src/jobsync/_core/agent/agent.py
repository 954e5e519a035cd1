"""The life of a node as one state machine: rules R1 to R9 seen from one process.

**Theory of operation.** An agent never acts. For each lane the runtime calls ``next``, which returns a command for the
backend, or the time at which to call again. The runtime executes the command and passes its reply to ``done``. Time comes in as
an argument, on a clock that never goes back and counts suspended time. There are three lanes, with
one call at a time in each: heartbeats, the work of the protocol, and upkeep, which purges the history.

``Phase`` shows the states. ``Entry`` is the way in, ``Membership`` what a member does, ``Departure`` the way out. Each
incarnation is a *session*, with a ``Membership`` of its own; the other parts last for all of them.

*Late replies.* Each call is remembered with its session and with what was known when it was issued. A reply to a call of another
session is dropped; an acknowledgement counts only for the version it was issued under.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jobsync import errors
from jobsync._core.agent import commands
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.commands import Issued, Lane, named
from jobsync._core.agent.departure import Departure
from jobsync._core.agent.entry import Entry
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.known_deaths import KnownDeaths
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.membership import Membership
from jobsync._core.agent.phase import Phase
from jobsync._core.agent.progress import Progress
from jobsync._core.agent.rollback import RollbackDetector, StoreRolledBack
from jobsync._core.agent.schedule import WeightSync
from jobsync._core.agent.settings_comparison import SettingDifference, SettingsComparison
from jobsync._core.agent.unreadable import UnreadableRecords
from jobsync._core.config import NodeConfig
from jobsync._core.records import Hint, NodeRef, Opened, Snapshot, Timeline, Unreadable
from jobsync.errors import JobsyncError, NameTaken

__all__ = ['Agent']

_SHORT_SESSIONS = 3
"""How many sessions in a row may be short, before each next one begins after a pause. A store that went back in time ends two or
three of each node."""
_DOUBLINGS = 20
"""How often the pause doubles at most; long before, it is as long as the longest heartbeat interval."""


class Agent:
    """One node. Not thread-safe, except ``lease``, whose first section any thread may call."""

    def __init__(self, config: NodeConfig, token_of: Callable[[str], int], new_id: Callable[[], str], now: float) -> None:
        self.config, self._new_id, self._started_at = config, new_id, now
        self.phase = Phase.OPENING
        self.failure: JobsyncError | None = None
        self.events: list[Event] = []
        """What happened since the runtime last emptied this list."""
        self.lease = Lease(config, token_of, self._emit)
        self.departure: Departure | None = None
        """None until the node is to leave."""
        self._rollback, self._candidacy = RollbackDetector(config.heartbeat_timeout_sec), Candidacy(config.heartbeat_timeout_sec)
        self._weight_sync, self._progress = WeightSync(config.weight), Progress(config.progress_timeout_sec, now)
        self._deaths = KnownDeaths()
        self._entry = Entry(config, self._rollback, self._weight_sync, self._deaths, self._emit)
        self._unreadable = UnreadableRecords(self._emit)
        self._comparison = SettingsComparison(config.name, config.published_settings, self._emit)
        self._has_been_member = False
        self._restarting: str | None = None
        """Why the incarnation before is over, for as long as the next one has not begun."""
        self._renewing: Timeline | None = None
        """The timeline that the next incarnation renews before it registers."""
        self._under_way: dict[Lane, Issued] = {}
        self._work_at = now
        """When the work lane makes its next call at the earliest."""
        self._session, self._short_sessions = 0, 0
        self._short_until = now + config.retry_sec
        """Until when the end of this session makes it a short one."""
        self._begin_session(now)

    def _begin_session(self, now: float) -> None:
        """Become a new incarnation that has read nothing and owns nothing."""
        self.ref = NodeRef(self.config.name, self._new_id())
        self.lease.begin_session(self.ref)
        self._entry.begin_session(self.ref)
        self._rollback.begin_session()
        self._weight_sync.begin_session()
        self._candidacy.begin_session()
        self._membership = Membership(
            self.config, self.ref, self.lease, self._rollback, self._candidacy, self._weight_sync, self._unreadable,
            self._comparison, self._deaths,
            self._started_at, now, self._emit,
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        self.events.append(event)

    def _log(self, level: str, text: str) -> None:
        self._emit(LogMessage(level, text))

    # --- status -------------------------------------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over, or leaving, may be waiting for tasks in flight."""
        return self.lease.is_asked or self.phase is Phase.LEAVING

    @property
    def snapshot(self) -> Snapshot | None:
        """The last reading of the nodes; None before the first."""
        return self._membership.monitor.snapshot

    @property
    def known_revision(self) -> int:
        """The number of the highest revision that was read."""
        return self._rollback.top.number

    @property
    def timeline(self) -> Timeline | None:
        """The timeline of this incarnation; None until the store was opened."""
        return self._rollback.timeline

    @property
    def epoch(self) -> int | None:
        """The term in which this node leads; None while it does not."""
        return self._membership.leader_term.epoch

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The records that could not be read in full when this node last read them; those of task locks it reads as leader."""
        return self._unreadable.all

    @property
    def differences(self) -> tuple[SettingDifference, ...]:
        """The settings in which other nodes differed from this one when it last read them."""
        return self._comparison.all

    @property
    def is_settled(self) -> bool:
        """Whether this node is part of the plan and owns its whole share of it."""
        return self.phase is Phase.MEMBER and self.lease.is_whole

    @property
    def is_planned(self) -> bool:
        """Whether this node is part of the plan and has what that gives it now: perhaps nothing yet."""
        return self.phase is Phase.MEMBER and self.lease.is_planned

    @property
    def weight(self) -> float:
        """The weight that the node is to have."""
        return self._weight_sync.wanted

    @property
    def is_stalled(self) -> bool:
        """Whether this node owned work and made no progress."""
        return self._weight_sync.is_stalled

    # --- requests of the runtime --------------------------------------------------------------------------------------------

    def beat_soon(self) -> None:
        """Send a heartbeat now, because this node may no longer be registered."""
        self._membership.beat_soon()

    def hint(self, revision: int, now: float) -> bool:
        """Take a hint that the store's revision has risen to this number; return whether a call may be due because of that."""
        if revision <= self._rollback.top.number or self.phase not in (Phase.MEMBER, Phase.LEAVING):
            return False
        return self._membership.hint(revision if isinstance(revision, Hint) else Hint(revision), now)

    def know_dead(self, ref: NodeRef) -> None:
        """Take the knowledge that a run of another node is over: its process has ended, and will never claim anything again.

        The caller has proof of that. Silence is none.
        """
        self._deaths.take(ref)

    def set_weight(self, weight: float) -> None:
        """Have this weight from now on."""
        if self.phase is not Phase.LEAVING:
            self._weight_sync.wanted = weight

    def stall(self, is_stalled: bool) -> None:
        """Have the record say, from now on, whether the user's code makes no progress."""
        self._weight_sync.is_stalled = is_stalled

    def leave(self, now: float, at_once: bool = False, workers: frozenset[int] = frozenset()) -> None:
        """Stop claiming, finish what is in flight, and deregister.

        Waits for tasks in flight and for the release of announced tokens, ``shutdown_timeout_sec`` at most or, ``at_once``, not
        at all. Never waits for the tasks of ``workers``, those that wait for this. May be called again to shorten the wait.
        """
        if self.phase in (Phase.LEFT, Phase.FAILED):
            return
        if self.departure is not None:
            if self.departure.hasten(now, at_once, workers):
                self._work_at = self.lease.ends_at = now
            return
        # t=0  the runtime requests it, and there is no memory for what the node gives up
        # t=1  the runtime requests it again: that is another request only if this one was taken as a whole
        departure = Departure(now + (0 if at_once else self.config.shutdown_timeout_sec), workers)
        self.lease.give_up(now, departure.by)
        if not self.config.rejoin_grace_sec:
            self._weight_sync.wanted = 0.0
        self._work_at = now
        may_be_registered = self.phase in (Phase.MEMBER, Phase.REGISTERING)
        self.departure, self.phase = departure, Phase.LEAVING if may_be_registered else Phase.LEFT

    def is_staying(self, now: float) -> bool:
        """Whether the node is leaving and has reason to wait."""
        return self.phase is Phase.LEAVING and self.departure is not None and self.departure.is_waiting(self.lease, now)

    # --- the lanes ----------------------------------------------------------------------------------------------------------

    def next(self, lane: Lane, now: float) -> commands.Command | float:
        """Return the call to make in this lane now, or when to call again: infinity, if not before something happens."""
        if lane in self._under_way or self.phase in (Phase.LEFT, Phase.FAILED):
            return math.inf
        if self._restarting is not None:
            self._restart(now, self._restarting, self._renewing)
        self.lease.declare_end(now)
        call: commands.Command | float = math.inf
        if lane is Lane.WORK:
            call = self._next_work(now)
            if isinstance(call, (int, float)) and self.phase is Phase.MEMBER:
                call = min(call, self._progress.due(now))
        elif lane is Lane.UPKEEP:
            call = self._membership.next_upkeep(now) if self.phase is Phase.MEMBER else math.inf
        elif self.phase is Phase.MEMBER or self.is_staying(now):
            call = self._membership.next_heartbeat(now)
        if isinstance(call, (int, float)):
            return call
        if isinstance(call, (commands.Heartbeat, commands.PlanAndCommit)):
            self._rollback.writes += 1
        elif isinstance(call, commands.TakeSnapshot):
            self._membership.monitor.begin_poll(now)
        if lane is Lane.WORK and self.phase is Phase.MEMBER:
            self._candidacy.begin_work(now)
        # In one step: what is under way, and not returned, is given up by none.
        return self._under_way.setdefault(lane, Issued(call, now, self._session, self._rollback.known)).call

    def _next_work(self, now: float) -> commands.Command | float:
        if self.phase is Phase.MEMBER and self._progress.is_watched:
            self._check_progress(now)
        if now < self._work_at:
            return self._work_at
        match self.phase:
            case Phase.OPENING:
                return self._entry.next_opening(now)
            case Phase.REGISTERING:
                return self._entry.next_register(now)
            case Phase.RENEWING:
                assert self._renewing is not None
                return commands.RenewTimeline(self._renewing, self._rollback.top.number, self._rollback.longest_timeout_sec)
            case Phase.LEAVING:
                if not self.is_staying(now):
                    return self._last_plan(now) or commands.Deregister(self.ref)
                call, departure = self._membership.next_work(now), self.departure
                return min(call, departure.by) if departure and isinstance(call, (int, float)) else call
            case _:
                return self._membership.next_work(now)

    def _last_plan(self, now: float) -> commands.PlanAndCommit | None:
        """Return the plan by which a leader that leaves gives its share away: once, and not if that is kept for its return."""
        # t=0  the leader, which claims nothing any more, deregisters; the next leader finds it absent and reads the cluster anew
        # t=1  it commits a plan: for that long the tokens had no owner. The one that leaves has read all that such a plan needs.
        departure = self.departure
        if departure is None or self.config.rejoin_grace_sec or not departure.may_give(self.lease, now):
            return None
        departure.is_over = True
        return self._membership.last_plan(now)

    def _check_progress(self, now: float) -> None:
        """Find out whether the user's code makes progress, and have the record say so."""
        lease, was_stalled = self.lease, self.is_stalled
        # t=0  this thread reads the mark, which is set
        # t=1  a thread of the user sets it
        # t=2  this thread takes it away: t=1 is counted as at t=0, which is less than a step before
        is_marked, lease.has_progressed = lease.has_progressed or bool(lease.waiting), False
        is_stalled = self._progress.check(is_marked, not lease.ownership.is_empty, was_stalled, now)
        if is_stalled is was_stalled:
            return
        self.stall(is_stalled)
        if is_stalled:
            self._log(
                'warning',
                f'node {self.config.name!r} has neither asked for work nor finished any within progress_timeout_sec, '
                f'{self.config.progress_timeout_sec:g} s: it gives its share to other nodes until it does, or calls keep_going',
            )
        else:
            self._log('info', f'node {self.config.name!r} makes progress again, and takes its share back')

    def done(self, lane: Lane, reply: commands.Reply, now: float) -> bool:
        """Take the reply to the lane's call, or the error it raised; return whether the store has answered."""
        issued = self._under_way[lane]
        has_answered = self._take_reply(lane, issued, reply, now)
        # t=0  a lock was edited; the leader takes its reading of the nodes, and there is no memory for the last part of it
        # t=1  it is given up: what it has changed by then is not known, so the node goes on as if no answer had come
        del self._under_way[lane]
        return has_answered

    def _take_reply(self, lane: Lane, issued: Issued, reply: commands.Reply, now: float) -> bool:
        # t=0   the heartbeat of session 1 is sent, and its answer hangs
        # t=20  the snapshot shows that another node has evicted this one: session 2 begins
        # t=21  the answer comes: extended by it, the lease of session 2 would begin before anything gave it tokens
        if issued.session != self._session or self.phase in (Phase.LEFT, Phase.FAILED):
            return not isinstance(reply, Exception)
        if lane is Lane.UPKEEP:
            self._membership.retention.take(issued, reply, now)
            return not isinstance(reply, Exception)
        try:
            if isinstance(reply, NameTaken):
                self._work_at = self._entry.take_name_taken(reply.record, now)
                if reply.record.incarnation == self.ref.incarnation:
                    self._registered(now)
            elif isinstance(reply, Exception):
                raise reply
            else:
                self._take(issued, reply, now)
                if lane is Lane.HEARTBEAT and (took := now - issued.at) > self.config.lease_sec / 4:
                    self._log('slow', f'a heartbeat took {took:.1f} s, and the lease is {self.config.lease_sec:g} s')
        except errors.BackendUnavailable as error:
            self._failed(lane, issued, error, now)
            return False
        except (errors.Evicted, errors.TimelineChanged) as reason:
            self._restart(now, str(reason))
        except StoreRolledBack as sign:
            self._log('warning', f'the store went back in time ({sign}): beginning a new timeline')
            self._restart(now, str(sign), self._rollback.timeline)
        except (errors.Conflict, errors.Fenced) as refusal:
            self._work_at = self._membership.take_refusal(isinstance(refusal, errors.Fenced), now)
        except (errors.ConfigMismatch, errors.NodeNameInUse) as error:
            self._fail(error)
        except JobsyncError as error:
            return self._refused(lane, issued, error, now)
        return True

    def give_up(self, lane: Lane, call: commands.Command, now: float) -> None:
        """Take it that this call of the lane, if it is under way, has no reply: it was perhaps never made."""
        # Another thread may have made the lane's next call meanwhile: once the node is to leave, each serves all lanes.
        if (issued := self._under_way.get(lane)) is not None and issued.call is call:
            self.done(lane, errors.BackendUnavailable('the call was given up after an unexpected error'), now)

    def _take(self, issued: Issued, reply: commands.Reply, now: float) -> None:
        match issued.call, reply:
            case commands.Open(), Opened() as opened:
                if self._entry.take_opened(opened, now):
                    self._membership.leader_term.begin_timeline(now, self._entry.is_first_timeline)
                    self.phase = Phase.REGISTERING
                    self._work_at = now
            case commands.TakeSnapshot(), Snapshot() as snapshot if self.phase is Phase.OPENING:
                self._entry.take_snapshot(snapshot, now)
            case commands.Register(), None:
                self._registered(now)
            case commands.RenewTimeline(), None:
                self._restart(now, 'a new timeline was begun')
            case commands.Deregister(), None:
                self.phase, self.lease.deadline = Phase.LEFT, -math.inf
                self._log('info', f'node {self.config.name!r} left')
            case _:
                self._membership.take(issued, reply, now)

    def _registered(self, now: float) -> None:
        self._has_been_member = True
        self._membership.begin(now)
        self._work_at = now
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.MEMBER
            self._log('info', f'node {self.config.name!r} registered')

    # --- what ends an incarnation, and what does not ------------------------------------------------------------------------

    def _restart(self, now: float, reason: str, renewing: Timeline | None = None, *, is_logged: bool = True) -> None:
        """Answer False from now on, and begin again as a new incarnation, after ``renewing`` a timeline."""
        if self.phase is Phase.LEAVING:
            self.phase = Phase.LEFT
            return
        # t=0  the store went back; the lease has begun as another incarnation, and there is no memory for the parts that follow
        # t=1  the old run sends a heartbeat: by what it would have gained, the lease owns tokens again
        # So from here on no answer counts, and no call is made, before all parts have begun.
        self._session, self._restarting, self._renewing = self._session + 1, reason, renewing
        self.lease.drop()
        self._short_sessions = self._short_sessions + 1 if now < self._short_until else 0
        over = self._short_sessions - _SHORT_SESSIONS
        if is_logged and (over <= 0 or over & (over - 1) == 0):
            count = f' ({self._short_sessions} in a row ended at once)' if over > 0 else ''
            self._log('warning', f'node {self.config.name!r} starts over as a new incarnation: {reason}{count}')
        self._begin_session(now)
        # t=0  a proxy connects one lane to one store and another lane to another, or sends readings to a replica that is behind
        # t=1  this node registers in the first; the second does not know it, which ends the session, and so on for ever
        # Tables that are there for ``open`` and refuse to register the node, or its first heartbeat, do the same.
        # Without a pause each node would register hundreds of times in each second, which all others read.
        pause = self.config.retry_sec * 2 ** min(over - 1, _DOUBLINGS) if over > 0 else 0
        self._work_at = now + min(pause, self.config.heartbeat_interval_sec)
        self._short_until = self._work_at + self.config.retry_sec
        self.phase, self._restarting = Phase.OPENING if renewing is None else Phase.RENEWING, None

    def _refused(self, lane: Lane, issued: Issued, error: JobsyncError, now: float) -> bool:
        """Stop at the start; later try again (rule R9): rights or tables that were granted once may be granted again.

        Returns whether the store has answered. The heartbeat of a member that finds no namespace is answered:
        the node begins anew once the namespace is back.
        """
        gone = isinstance(error, errors.SchemaMismatch)
        if not (self._entry.has_opened if gone else self._has_been_member):
            self._fail(error)
        elif gone and (lane is Lane.HEARTBEAT or self.phase not in (Phase.OPENING, Phase.MEMBER)):
            # Tables that are there for ``open`` may refuse to register the node, or its first heartbeat, for ever: these calls
            # fail, and these sessions end at once.
            is_answer = lane is Lane.HEARTBEAT and self.lease.deadline > -math.inf
            self._restart(now, str(error), is_logged=is_answer)
            if not is_answer:
                self._log_failure(issued, error)
                return False
        else:
            self._failed(lane, issued, error, now)
            if gone:
                self._entry.forget_settings()
            return False
        return True

    def _fail(self, error: JobsyncError) -> None:
        self.lease.drop()
        self.phase, self.failure = Phase.FAILED, error
        self._log('error', str(error))

    def _failed(self, lane: Lane, issued: Issued, error: JobsyncError, now: float) -> None:
        """Repeat the call soon, and assume nothing of what the store has done."""
        self._membership.monitor.note_failure(now)
        self._entry.note_failure(now)
        again = now + self.config.retry_sec
        if lane is Lane.HEARTBEAT:
            self._membership.heartbeat_failed(again, now)
        else:
            self._work_at = again
            self._membership.work_failed(issued.call, again, now)
        self._log_failure(issued, error)

    def _log_failure(self, issued: Issued, error: JobsyncError) -> None:
        self._log('retry', f'{named(issued.call)} failed, will be repeated: {error}')
