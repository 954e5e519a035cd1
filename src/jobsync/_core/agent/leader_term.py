"""What a leader does (rule R4): take the term, read the task locks, plan and commit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from jobsync._core.agent import commands
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.rollback import RollbackDetector
from jobsync._core.assignment import Assignment
from jobsync._core.config import NodeConfig
from jobsync._core.counting import counted
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._core.records import Leadership, NodeRef, NodeState, Snapshot, TaskLock
from jobsync._core.redact import listed, safe_repr

__all__ = ['LeaderTerm']

_REFUSED_SEC = 0.05
_GATHER_SEC = 0.2
"""How long in seconds readings of the nodes may follow each other without a plan."""


SuspectsAt = Callable[[float], Mapping[str, tuple[str, int]]]
"""The suspected nodes at a time: worked out only when a plan is made, because that takes a step for each node."""


class LeaderTerm:
    """The terms of one incarnation as leader, if it has any."""

    def __init__(
        self,
        config: NodeConfig,
        ref: NodeRef,
        rollback: RollbackDetector,
        started_at: float,
        now: float,
        emit: Callable[[Event], object],
    ) -> None:
        self._config, self._ref, self._rollback, self._started_at, self._emit = config, ref, rollback, started_at, emit
        self.epoch: int | None = None
        """The term in which this node leads; None while it does not."""
        self._state = LeaderState(timeline_read_at=now)
        self._is_first_timeline = False
        self._locks: tuple[TaskLock, ...] | None = None
        self._locks_revision, self._locks_at = -1, now
        self._plan_at = self._read_at = now
        self._news_at = math.inf
        """When the nodes were read for the first time since the last plan."""
        self._refusals = 0
        self._expired = False
        self._unplaced: frozenset[str] = frozenset()
        """The tasks that this node, as leader, has logged as matched by no live node."""

    @property
    def is_on(self) -> bool:
        """Whether this node leads, as of its last readings."""
        return self.epoch is not None

    def begin_timeline(self, now: float, is_first: bool) -> None:
        """Begin with a timeline that was read now, and with a state that remembers nothing else.

        ``is_first`` says whether this process has seen no other timeline.
        """
        self._state = LeaderState(timeline_read_at=now)
        self._is_first_timeline = is_first

    def compare(self, leadership: Leadership) -> None:
        """End the term if the leadership in the store is not this node's."""
        if self.epoch is not None and leadership != Leadership(self.epoch, self._ref):
            self.epoch = None

    def next(self, snapshot: Snapshot, assignment: Assignment, suspects: SuspectsAt, now: float) -> commands.Command | float:
        """Return what the node that is first in line does now, or when to call again."""
        if snapshot.leadership.node != self._ref or self.epoch != snapshot.leadership.epoch:
            return commands.AcquireLeadership(self._ref, snapshot.leadership.epoch)
        if self._locks is None or self._locks_revision != snapshot.locks_revision or now >= self._locks_at:
            return commands.ReadLocks()
        if self._expired:
            self._expired = False
            return commands.DropExpiredLocks()
        if snapshot.version != assignment.version:
            return commands.TakeSnapshot()
        if now < self._plan_at:
            return self._plan_at
        self._plan_at = self._news_at = math.inf
        return self._plan(snapshot, assignment, self._locks, suspects, now)

    def last_plan(
        self, snapshot: Snapshot, assignment: Assignment, suspects: SuspectsAt, now: float
    ) -> commands.PlanAndCommit | None:
        """Return the plan by which this node, which claims nothing any more, gives its share away; None if it can make none."""
        others = any(node.state is NodeState.JOINED and node.ref != self._ref for node in snapshot.nodes)
        leads = snapshot.leadership.node == self._ref and snapshot.leadership.epoch == self.epoch
        if not (leads and others and assignment.members) or self._locks is None or snapshot.version != assignment.version:
            return None
        return self._plan(snapshot, assignment, self._locks, suspects, now, self._ref)

    def _plan(
        self,
        snapshot: Snapshot,
        assignment: Assignment,
        locks: tuple[TaskLock, ...],
        suspects: SuspectsAt,
        now: float,
        leaving: NodeRef | None = None,
    ) -> commands.PlanAndCommit:
        view = LeaderView(
            me=self._ref,
            snapshot=snapshot,
            assignment=assignment,
            locks=locks,
            suspects=suspects(now),
            now=now,
            started_at=self._started_at,
            is_first_timeline=self._is_first_timeline,
            longest_timeout_sec=self._rollback.longest_timeout_sec,
            leaving=leaving,
        )
        return commands.PlanAndCommit(view, self._state, self._config)

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def take_leadership(self, leadership: Leadership, assignment: Assignment) -> None:
        """Take the leadership as it stands after an attempt to acquire it."""
        self._news_at = math.inf  # a plan is made from readings of the term
        if leadership.node != self._ref:
            return
        self.epoch = leadership.epoch
        self._state = LeaderState(timeline_read_at=self._state.timeline_read_at)
        self._locks = None
        self._emit(LogMessage('info', f'node {self._ref.name!r} leads in epoch {leadership.epoch}'))
        self._unplaced = frozenset()
        self.note_unplaced(assignment)

    def take_locks(self, locks: tuple[TaskLock, ...], revision: int, now: float) -> None:
        """Take a reading of the task locks, which is of this revision or a newer one."""
        self._locks, self._locks_revision = locks, revision
        self._locks_at, self._plan_at = now + self._config.rebalance_check_interval_sec, now

    def take_outcome(self, outcome: commands.CommitOutcome, assignment: Assignment) -> None:
        """Take the result of a plan, which was made from this assignment."""
        self._refusals = 0
        if outcome.plan is not None and outcome.revision is not None:
            self._state.requests.commit(assignment, outcome.plan, outcome.revision)
        self._expired = outcome.expired
        self._plan_at = outcome.decide_again_at

    def take_assignment(self, assignment: Assignment, now: float) -> None:
        """Take a reading of the assignment, and plan again. A token that has a row was not without one ever since.

        That holds whether or not a plan is made.
        """
        # t=0   the rows of some tokens are deleted manually; a timeout later the leader gives the tokens to b
        # t=15  the leader reads that version, and makes no plan
        # t=16  the rows are deleted again
        # t=17  the leader plans: counted from t=0 the wait would be over
        self._state.read_rows(assignment)
        self.note_unplaced(assignment)
        self._plan_at = now

    def take_refusal(self, ends_term: bool) -> float:
        """Return how many seconds to wait before the next plan, a little longer after each refusal.

        A refusal ``ends_term`` if another node leads.
        """
        if ends_term:
            self.epoch = None
        pause = min(self._refusals * _REFUSED_SEC, self._config.retry_sec)
        self._refusals += 1
        return pause

    def take_news(self, snapshot: Snapshot, now: float) -> None:
        """Take a reading of the nodes, and plan again. Registered nodes are absent no more, whether or not a plan is made.

        After a time without a reading no node is known to have been absent in it, so every wait begins anew.
        """
        # t=0   an owner's row is deleted manually; the leader begins to wait
        # t=10  the row is put back, and the owner has a lease again; it is older than the leader, which therefore makes no plan
        # t=13  the row is deleted again
        # t=15  the leader plans: counted from t=0 the wait would be over
        self._plan_at, self._news_at = now, min(self._news_at, now)
        self._state.read_present(snapshot.nodes, was_blind=now - self._read_at > self._config.blind_after_sec)
        self._read_at = now

    def must_plan(self, now: float) -> bool:
        """Return whether the next plan must come before the next reading of the nodes.

        Changes that follow each other closely are read together, so that one plan serves them. Changes that never end must not
        keep the leader from planning: the commit is refused only if what it depends on has changed. A node that does not lead yet
        reads first: what it has read of the others may be as old as the silence of the leader.
        """
        # t=0  the leader has died; each call takes as long as the heartbeat interval, and a reading is under way
        # t=1  a heartbeat of this node, a standby, returns: it is to read once more
        # t=5  the reading shows that this node is first in line; with one more reading each time it would never take the term
        return now >= self._news_at + _GATHER_SEC and (self.is_on or now < self._read_at + _GATHER_SEC)

    def note_unplaced(self, assignment: Assignment) -> None:
        """As leader, log once which tasks no node may claim because of their patterns (rule R7)."""
        unplaced = frozenset(pin.task_id for pin in assignment.unplaced)
        if self.epoch is None or unplaced == self._unplaced:
            return
        self._unplaced = unplaced
        if unplaced:
            tasks = listed((safe_repr(task).removesuffix(' (str)') for task in unplaced), most=3)
            text = f'no live node matches the patterns of {counted(len(unplaced), "task")}, which no node may claim: {tasks}'
            self._emit(LogMessage('warning', text))
        else:
            self._emit(LogMessage('info', 'every task with a pattern has a node that matches it again'))
