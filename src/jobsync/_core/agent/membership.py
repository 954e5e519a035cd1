"""What one incarnation of a node does while it is registered: it sends heartbeats, reads the cluster, and leads if it is to.

Each of these knows one thing of it:

- ``Lease``: what may be claimed and until when, and what is in flight (R1, R3). User threads read nothing else.
- ``HeartbeatSchedule``: when to send heartbeats. ``ClusterMonitor``: when to read the others, and which to suspect (R2).
- ``AssignmentRefresh``: which version of the assignment there is to read.
- ``LeaderTerm``: what a leader does (R4). ``Candidacy``: whether the node may lead.
- ``Retention``: which old records of the history the leader deletes.
- ``RollbackDetector``: what was read and written, and thereby whether the store went back in time (R8).
- ``KnownDeaths``: which runs of other nodes are known to be over, and are to be declared so.
- ``WeightSync``: whether the store has the weight that the node wants. ``UnreadableRecords``: what cannot be read (R9).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jobsync._core.agent import commands
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.known_deaths import KnownDeaths
from jobsync._core.agent.leader_term import LeaderTerm
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.monitor import ClusterMonitor
from jobsync._core.agent.retention import Retention
from jobsync._core.agent.rollback import RollbackDetector
from jobsync._core.agent.schedule import AssignmentRefresh, HeartbeatSchedule, WeightSync
from jobsync._core.agent.settings_comparison import SettingsComparison
from jobsync._core.agent.unreadable import UnreadableRecords
from jobsync._core.config import NodeConfig
from jobsync._core.counting import counted
from jobsync._core.records import Hint, Leadership, LockReading, NodeRef, NodeState, Pulse, Snapshot
from jobsync.errors import Evicted

__all__ = ['Membership']


class Membership:
    """One incarnation's part in the cluster."""

    def __init__(
        self,
        config: NodeConfig,
        ref: NodeRef,
        lease: Lease,
        rollback: RollbackDetector,
        candidacy: Candidacy,
        weight_sync: WeightSync,
        unreadable: UnreadableRecords,
        comparison: SettingsComparison,
        deaths: KnownDeaths,
        started_at: float,
        now: float,
        emit: Callable[[Event], object],
    ) -> None:
        self._config, self._ref, self._emit = config, ref, emit
        self._lease, self._rollback, self._candidacy = lease, rollback, candidacy
        self._weight_sync, self._unreadable, self._comparison, self._deaths = weight_sync, unreadable, comparison, deaths
        self._schedule = HeartbeatSchedule(config, now)
        self._refresh = AssignmentRefresh(config, started_at, now)
        self._record_at = -math.inf
        """When to write to single records at the earliest: after a failure other work comes first."""
        self.monitor = ClusterMonitor(config, ref, candidacy, now)
        self.leader_term = LeaderTerm(config, ref, rollback, started_at, now, emit)
        self.retention = Retention(config, now, emit)

    # --- what to do next ----------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Begin now that the incarnation is registered."""
        self._schedule.begin(now)
        self.monitor.begin(now)

    def beat_soon(self) -> None:
        """Send a heartbeat now, whatever the schedule says."""
        self._schedule.soon()

    def hint(self, hint: Hint, now: float) -> bool:
        """React to a hint that the store's revision has risen, and return whether this node does.

        The leader polls. A node next in line sends a heartbeat, unless the changes concern no node: a registration is for the
        leader alone. Any other node does so if they concern all nodes, in a large cluster after a pause. A node that is named
        reads the assignment, and sends a heartbeat if it finds something to acknowledge. A change that does not concern a node is
        read after its next heartbeat in turn, in a large cluster later in the interval.
        """
        # t=0  the leader, which leaves, commits a plan that gives tokens to c
        # t=1  it deregisters, which concerns all nodes
        # t=2  c takes both hints as one; if it paused with the others, the tokens would have no owner meanwhile
        is_named = self._config.name in (hint.named if hint.nodes is None else hint.nodes)
        is_follower = not (self.leader_term.is_on or self.monitor.is_standby)
        is_unclear = hint.nodes is None and not hint.named
        self._refresh.hint(int(hint), concerns=None if is_unclear or not is_follower else is_named)
        if self.leader_term.is_on:
            self.monitor.hint(now, is_urgent=hint.nodes is None or bool(hint.nodes))
        elif hint.nodes is None or (hint.nodes and self.monitor.is_standby):
            self._schedule.soon(now + self.monitor.pause)
        else:
            return is_named
        return True

    def next_heartbeat(self, now: float) -> commands.Heartbeat | float:
        """Return the heartbeat to send now, or when to call again."""
        if now >= self._candidacy.stuck_at:
            self._step_back(now)
        due = self._schedule.next(self._lease.holds_other_at(now))
        if now < due:
            return min(due, self._candidacy.stuck_at)
        self._schedule.send(now)
        return commands.Heartbeat(
            self._ref, self._lease.assignment.version, self._lease.holding(now), candidate=self._candidacy.is_wanted
        )

    def next_work(self, now: float) -> commands.Command | float:
        """Return the call to make in the work lane now, or when to call again."""
        dead = self._deaths.next()
        if dead is not None and now >= self._record_at:
            return commands.DeclareDead(dead)
        assignment, monitor = self._lease.assignment, self.monitor
        weigh_at = max(self._weight_sync.due(now), self._record_at)
        read_at = self._refresh.due(assignment.version, now)
        if now >= weigh_at:
            return commands.SetWeight(self._ref, self._weight_sync.wanted, self._weight_sync.is_stalled)
        if now >= read_at:
            self._refresh.begin()
            return commands.ReadAssignment(self._ref, assignment)
        leads = now < self._lease.deadline and monitor.is_first_in_line(now)
        if now >= monitor.due and not (leads and self.leader_term.must_plan(now)):
            return commands.TakeSnapshot()
        wake = min(monitor.due, read_at, weigh_at, math.inf if dead is None else self._record_at)
        if leads and monitor.snapshot is not None:
            call = self.leader_term.next(monitor.snapshot, assignment, monitor.suspects, now)
            if not isinstance(call, (int, float)):
                return call
            wake = min(wake, call)
        self._candidacy.rest()
        return wake

    def last_plan(self, now: float) -> commands.PlanAndCommit | None:
        """Return the plan by which a leader that claims nothing any more gives its share away; None if it can make none."""
        assignment, monitor = self._lease.assignment, self.monitor
        if self._refresh.version != assignment.version or monitor.snapshot is None or not monitor.is_first_in_line(now):
            return None
        return self.leader_term.last_plan(monitor.snapshot, assignment, monitor.suspects, now)

    def next_upkeep(self, now: float) -> commands.Purge | float:
        """Return the portion of the history to purge now, or when to call again. Only the leader does this."""
        return self.retention.next(self.leader_term.is_on and now < self._lease.deadline, self.monitor.store_time(now), now)

    def _step_back(self, now: float) -> None:
        """Be no candidate for the leadership for a while (rule R4)."""
        self.monitor.poll_once(self._candidacy.step_back(now))
        self._schedule.soon()
        timeout = self._config.heartbeat_timeout_sec
        self._log(
            'warning', f'node {self._config.name!r} has got no work done for {timeout:g} s: another node is to lead, if any can'
        )

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def take(self, issued: commands.Issued, answer: commands.Reply, now: float) -> None:
        """Take the answer to one of this incarnation's calls. Raises ``Evicted``, ``TimelineChanged``, ``StoreRolledBack``."""
        match issued.call, answer:
            case commands.Heartbeat() as call, Pulse() as pulse:
                self._take_pulse(issued, call, pulse, now)
                return
            case commands.TakeSnapshot(), Snapshot() as snapshot:
                self._take_snapshot(issued, snapshot, now)
            case commands.ReadAssignment() as call, commands.AssignmentReading() as reading:
                self._rollback.check_version(reading.assignment.version, issued.known)
                if call.base.version == self._lease.assignment.version:
                    self._take_reading(reading, now)
            case commands.PlanAndCommit(), commands.CommitOutcome() as outcome:
                self._take_outcome(issued, outcome, now)
            case commands.AcquireLeadership(), Leadership() as leadership:
                self.monitor.poll(now)
                self.leader_term.take_leadership(leadership, self._lease.assignment)
            case commands.ReadLocks(), LockReading(locks, unreadable):
                self._unreadable.take('lock', unreadable, self.leader_term.is_on)
                seen = self.monitor.snapshot
                self.leader_term.take_locks(locks, -1 if seen is None else seen.locks_revision, now)
            case commands.DropExpiredLocks(), int() as removed:
                # t=0  an operator writes a time as 2026-01-01T00:00:00; the leader reads that the lock has expired
                # t=1  SQLite, which compares texts, removes nothing
                # If the leader read and planned again at once, it would find the lock again, and so on without a pause.
                if removed:
                    self.monitor.poll(now)
            case commands.DeclareDead(ref), None:
                self._deaths.declared(ref)
                self.monitor.poll(now)
                self._log('info', f'the process of node {ref.name!r} has ended without leaving: it is over')
            case commands.SetWeight(_, weight, stalled), None:
                self._weight_sync.given(weight, stalled, now + self._config.token_refresh_steady_interval_sec)
                self.monitor.poll(now)
            case _:
                raise TypeError(f'{issued.call!r} cannot be answered by {answer!r}')
        self._work_succeeded(answer, now)

    def _work_succeeded(self, answer: commands.Reply, now: float) -> None:
        """End a pause of the candidacy if the work shows that this node can lead; of the first in line only plans show it."""
        outcome = answer if isinstance(answer, commands.CommitOutcome) else None
        if outcome is None and self.monitor.is_first_in_line(now):
            self._candidacy.note_step()
            return
        if self._candidacy.note_success(now, committed=outcome is not None and outcome.revision is not None):
            self._schedule.soon()
            self.monitor.poll(now)
            self._log('info', f'node {self._config.name!r} may lead again')

    def _take_pulse(self, issued: commands.Issued, call: commands.Heartbeat, pulse: Pulse, now: float) -> None:
        self._rollback.check(pulse, pulse.heartbeat, issued.known, least_heartbeat=issued.known.heartbeat + 1)
        self._candidacy.note_published(call.candidate)
        # t=0   the row of this node is deleted manually, and its heartbeats are refused, or do not get through
        # t=15  its lease is over, and its tokens are given to others
        # t=20  its row is put back manually: the next heartbeat succeeds, and by its last version the tokens are still its own
        is_outdated = now >= self._lease.deadline and pulse.version != self._lease.assignment.version
        # t=0   a heartbeat that acknowledges version 7 is sent; its answer hangs
        # t=14  the lease of it is over before the answer comes: what version 7 gave may have passed on meanwhile
        self._schedule.succeeded(issued.at, None if self.leader_term.is_on else pulse.leader_age_sec)
        if not is_outdated and self._lease.extend(issued.at, now):
            self._lease.acknowledge(call.seen, call.holding)
        else:
            self._schedule.report_again(now + self._config.retry_sec)
        if self.leader_term.is_on:
            self.monitor.poll_again(issued.at)
        self.leader_term.compare(pulse.leadership)
        self.monitor.take_pulse(pulse, self.leader_term.is_on, issued.at, now)
        self._refresh.note(pulse.version, self._lease.assignment.version, now, self.monitor.read_delay_sec)

    def _take_snapshot(self, issued: commands.Issued, snapshot: Snapshot, now: float) -> None:
        mine = next((node for node in snapshot.nodes if node.name == self._config.name), None)
        if snapshot.timeline == self._rollback.timeline and (
            mine is None or mine.state is not NodeState.JOINED or mine.ref != self._ref
        ):
            raise Evicted(f'node {self._config.name!r} is no longer registered')
        counter = 0 if mine is None else mine.heartbeat
        self._rollback.check(snapshot, counter, issued.known, issued.known.heartbeat)
        # t=0  a new weight is written
        # t=1  the store goes back to before that; nothing has read the position that the write had, so no rollback shows
        if mine is not None:
            self._weight_sync.found(mine.weight, mine.stalled)
        self._rollback.note_timeouts([snapshot.longest_timeout_sec, *(node.timeout_sec for node in snapshot.nodes)])
        self._refresh.note(snapshot.version, self._lease.assignment.version, now)
        self.leader_term.take_news(snapshot, now)
        self.leader_term.compare(snapshot.leadership)
        self.monitor.take_snapshot(snapshot, now)
        self._unreadable.take('node', snapshot.unreadable, self.leader_term.is_on)
        self._comparison.take(snapshot.nodes)

    def _take_reading(self, reading: commands.AssignmentReading, now: float) -> None:
        assignment = reading.assignment
        self._refresh.note(assignment.version, self._lease.assignment.version, now)
        self._rollback.note_timeouts(member.timeout_sec for member in assignment.members.values())
        if assignment.version == self._lease.assignment.version:
            return
        self.monitor.read_version(assignment.members, now)
        self._comparison.read_version(assignment.members)
        self.leader_term.take_assignment(assignment, now)
        is_awaited = self._lease.read(assignment, reading.ownership, now)
        # A leader reads the other nodes again after its own heartbeat; one that has stepped back may have to prove that it reads.
        if is_awaited or self.leader_term.is_on or not self._candidacy.is_wanted:
            self._schedule.soon()

    def _take_outcome(self, issued: commands.Issued, outcome: commands.CommitOutcome, now: float) -> None:
        self.leader_term.take_outcome(outcome, self._lease.assignment)
        self.monitor.poll(max(outcome.decide_again_at, now))
        plan = outcome.plan
        if outcome.revision is None or plan is None:
            return
        self._rollback.note_commit(outcome.revision, issued.known.heartbeat + 1)
        self._refresh.note(outcome.revision, self._lease.assignment.version, now)
        self.monitor.poll(now)
        self._log(
            'info',
            f'{plan.reason}: {counted(plan.moved, "token")} moved, '
            f'{counted(sum(len(group.tokens) for group in plan.groups), "row")} written, {counted(plan.nodes_after, "node")}',
        )

    # --- refusals and failures ----------------------------------------------------------------------------------------------

    def take_refusal(self, ends_term: bool, now: float) -> float:
        """Take the refusal of a plan, which ``ends_term`` if another node leads; return when to work again."""
        self.monitor.poll(now)
        self._candidacy.note_failure()
        return now + self.leader_term.take_refusal(ends_term)

    def heartbeat_failed(self, again: float, now: float) -> None:
        """Send the next heartbeat at ``again``."""
        self._schedule.begin(again)
        self._candidacy.excuse(now)

    def work_failed(self, call: commands.Command, again: float, now: float) -> None:
        """Prepare to repeat a call of the work lane at ``again``, from what the store says by then."""
        self._candidacy.note_failure()
        if isinstance(call, (commands.TakeSnapshot, commands.PlanAndCommit)):
            self.monitor.poll(now)
        if isinstance(call, commands.PlanAndCommit) and self._candidacy.has_failed(now):
            self._step_back(now)
        # t=0  an operator has changed the record of a node that is dead by now, and has not committed
        # t=1  this node declares that one dead, and the call fails; it is repeated before anything else, and so on
        # t=9  this node would still read no assignment, and lead nothing, because of one row
        if isinstance(call, (commands.DeclareDead, commands.SetWeight)):
            self._record_at = again + self._config.retry_sec
        if isinstance(call, commands.DeclareDead):
            self._deaths.put_off(call.ref)
        if isinstance(call, commands.SetWeight):
            self._weight_sync.failed(again)
        if isinstance(call, commands.ReadAssignment):
            self._refresh.read_again()

    def _log(self, level: str, text: str) -> None:
        self._emit(LogMessage(level, text))
