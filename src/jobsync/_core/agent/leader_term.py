"""What a node does because it is the one to lead (rule R4): take the term, read the locks, propose plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobsync._core.agent import commands
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.agent.rollback import RollbackDetector
from jobsync._core.assignment import Assignment
from jobsync._core.config import NodeConfig
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._core.records import Leadership, NodeRef, Snapshot, TaskLock
from jobsync._core.redact import safe_repr

__all__ = ['LeaderTerm']

_FOREVER = float('inf')
_REFUSED_SEC = 0.05
_GATHER_SEC = 0.2
"""How long readings of the nodes may follow each other without a plan."""


class LeaderTerm:
    """One incarnation's terms as leader, if it has any."""

    def __init__(
        self,
        config: NodeConfig,
        ref: NodeRef,
        rollback: RollbackDetector,
        started_at: float,
        now: float,
        tell: Callable[[Event], object],
    ) -> None:
        self._config, self._ref, self._rollback, self._started_at, self._tell = config, ref, rollback, started_at, tell
        self.epoch: int | None = None
        """The term in which this node leads; None while it does not."""
        self._state = LeaderState(timeline_read_at=now)
        self._is_first_timeline = False
        self._locks: tuple[TaskLock, ...] | None = None
        self._locks_revision, self._locks_at = -1, now
        self._propose_at = self._read_at = now
        self._news_at = _FOREVER
        """When the nodes were read for the first time since the last outcome."""
        self._refusals = 0
        self._expired = False
        self._unplaced: frozenset[str] = frozenset()
        """The tasks of which this node, as leader, has told that no live node matches their locks."""

    @property
    def is_on(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self.epoch is not None

    def begin_timeline(self, now: float, is_first: bool) -> None:
        """The timeline was read now; ``is_first``: it is the only one that this process has ever seen."""
        self._state = LeaderState(timeline_read_at=now)
        self._is_first_timeline = is_first

    def compare(self, leadership: Leadership) -> None:
        """The store says who leads."""
        if self.epoch is not None and leadership != Leadership(self.epoch, self._ref):
            self.epoch = None

    def end(self) -> None:
        """A commit was refused because another leads."""
        self.epoch = None

    def next(
        self, snapshot: Snapshot, assignment: Assignment, suspects: Mapping[str, tuple[str, int]], now: float
    ) -> commands.Command | float:
        """What the node that is first in line does now, or when to ask again."""
        if snapshot.leadership.node != self._ref or self.epoch != snapshot.leadership.epoch:
            return commands.AcquireLeadership(self._ref, snapshot.leadership.epoch)
        if self._locks is None or self._locks_revision != snapshot.locks_revision or now >= self._locks_at:
            return commands.ReadLocks()
        if self._expired:
            self._expired = False
            return commands.DropExpiredLocks()
        if snapshot.version != assignment.version:
            return commands.TakeSnapshot()
        if now < self._propose_at:
            return self._propose_at
        self._propose_at = self._news_at = _FOREVER
        view = LeaderView(
            me=self._ref,
            snapshot=snapshot,
            assignment=assignment,
            locks=self._locks,
            suspects=suspects,
            now=now,
            started_at=self._started_at,
            is_first_timeline=self._is_first_timeline,
            longest_timeout_sec=self._rollback.longest_timeout_sec,
        )
        return commands.PlanAndCommit(view, self._state, self._config)

    # --- taking answers -----------------------------------------------------------------------------------------------------

    def take_leadership(self, leadership: Leadership, assignment: Assignment) -> None:
        """The leadership as it stands after an attempt to have it."""
        self._news_at = _FOREVER  # what was read before that is no ground for a plan
        if leadership.node != self._ref:
            return
        self.epoch = leadership.epoch
        self._state = LeaderState(timeline_read_at=self._state.timeline_read_at)
        self._locks = None
        self._tell(LogMessage('info', f'node {self._ref.name!r} leads in epoch {leadership.epoch}'))
        self._unplaced = frozenset()
        self.note_unplaced(assignment)

    def take_locks(self, locks: tuple[TaskLock, ...], revision: int, now: float) -> None:
        """The task locks, read when they were of this revision or a newer one."""
        self._locks, self._locks_revision = locks, revision
        self._locks_at, self._propose_at = now + self._config.rebalance_check_interval_sec, now

    def take_outcome(self, outcome: commands.CommitOutcome) -> None:
        """What became of a outcome."""
        self._refusals = 0
        self._expired = outcome.expired
        self._propose_at = _FOREVER if outcome.look_again_at is None else outcome.look_again_at

    def propose_again(self, now: float) -> None:
        """Something was read: it may call for another plan."""
        self._propose_at = now

    def take_refusal(self) -> float:
        """A plan was refused: return for how many seconds to wait, a little longer each time, before the next."""
        pause = min(self._refusals * _REFUSED_SEC, self._config.retry_sec)
        self._refusals += 1
        return pause

    def take_news(self, snapshot: Snapshot, now: float) -> None:
        """The nodes were read: they may call for another plan. Whoever is there is absent no more, whether or not one is made.

        Without this a later absence would be counted from the first one::

            t=0   an owner's row is deleted by hand; the leader begins to wait
            t=10  the row is put back, and the owner has a lease again; it is older than the leader, which so makes no plan
            t=13  the row is deleted again
            t=15  the leader plans: it has waited since t=0

        After a time without a reading nobody is known to have been absent in it, so the wait begins anew.
        """
        self._propose_at, self._news_at = now, min(self._news_at, now)
        self._state.read_present(snapshot.nodes, was_blind=now - self._read_at > self._config.blind_after_sec)
        self._read_at = now

    def must_plan(self, now: float) -> bool:
        """Whether the next proposal must come before the next reading of the nodes.

        Changes that follow each other closely are read together, so that one plan serves them. Changes that never end must not
        keep the leader from planning: the commit is refused only if what it depends on has changed. Who does not lead yet looks
        first: what it knows of the others may be as old as the silence of the leader.
        """
        return self.is_on and now >= self._news_at + _GATHER_SEC

    def note_unplaced(self, assignment: Assignment) -> None:
        """As leader, tell once of the tasks that nobody may do because of their locks (rule R7)."""
        unplaced = frozenset(pin.task_id for pin in assignment.unplaced)
        if self.epoch is None or unplaced == self._unplaced:
            return
        self._unplaced = unplaced
        if unplaced:
            count = f'{len(unplaced)} locked task' + ('s' if len(unplaced) > 1 else '')
            text = f'no live node matches the locks of {count}, which nobody may do: {_listed(unplaced)}'
            self._tell(LogMessage('warning', text))
        else:
            self._tell(LogMessage('info', 'every locked task has a node that matches it again'))


def _listed(keys: frozenset[str]) -> str:
    few = sorted(keys)[:3]
    return ', '.join(safe_repr(key).removesuffix(' (str)') for key in few) + (
        f' and {len(keys) - 3} more' if len(keys) > 3 else ''
    )
