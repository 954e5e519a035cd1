"""The claims of tasks: recorded in the store by the run that owns the tasks, while it has its lease."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

import attrs

from jobsync._core.records import NodeRef, Unclaimed
from jobsync._event_log import EventLogger
from jobsync._runtime import NodeRuntime, clock
from jobsync._worker.attempts import TaskAttempts
from jobsync._worker.completions import brief, refusal_as_outage
from jobsync._worker.session import Session
from jobsync.errors import JobsyncError, UnsupportedOperation

__all__ = ['ClaimRecording', 'Claimed']

_logger = EventLogger('jobsync.job')


@attrs.frozen
class Claimed:
    """A recorded claim of tasks, for ``TaskLog.start_claimed``."""

    run: NodeRef | None
    """The run (node and incarnation) that claimed the tasks; None with coordination off."""
    owned: frozenset[str] = frozenset()
    """The tasks that were this node's when the claim was recorded. Without coordination all may be started."""
    completed: frozenset[str] = frozenset()
    """The tasks that any node had completed before. No claim of these was recorded."""
    lost_attempts: Mapping[str, int] = attrs.field(factory=dict)
    """The tasks with more lost attempts than are tolerated, and how many. No claim of these was recorded."""


class ClaimRecording:
    """The claims of one node at one date. With coordination off every task may be started, and no claim is recorded."""

    def __init__(self, session: Session, attempts: TaskAttempts, open_tasks: Container[str] = ()) -> None:
        """Store the parts.

        ``attempts`` counts the attempts, and has the date of the records. An attempt at one of the ``open_tasks`` goes on,
        whatever becomes of another claim of the task.
        """
        self._session, self._node_name, self._attempts, self._open = session, session.node_name, attempts, open_tasks

    def record_all(self, tasks: Mapping[str, int]) -> bool:
        """Record the claims of these tasks (key -> hash token): all of them, or none if one is not this node's."""
        self._session.note_progress()
        if self.has_left(tasks):
            return False
        self._session.check_inside()
        runtime = self._session.runtime
        if runtime is None:
            return not self.is_entering(tasks)
        ref = runtime.agent.ref
        owned = runtime.lease.ours(tasks, clock.now)
        if len(owned) < len(tasks):
            allowed = set(owned)
            self.log_refusal([key for key in tasks if key not in allowed])
            return False
        return self.record_alone(runtime, owned, ref)

    def record_owned(self, tasks: Mapping[str, int], *, alone: bool = False) -> Claimed | None:
        """Record the claims of those of the tasks (key -> hash token) that this node owns; return None if none may be started.

        Without ``alone``, tasks that any run was lost at are not claimed: each is to be claimed ``alone`` afterwards.
        """
        self._session.note_progress()
        if self._session.is_leaving:
            return None
        self._session.check_inside()
        runtime = self._session.runtime
        if runtime is None:
            return None if self.is_entering(tasks) else Claimed(None)
        ref = runtime.agent.ref
        owned = runtime.lease.ours(tasks, clock.now)
        unclaimed = self.record(runtime, owned, ref, alone=alone) if owned else None
        if unclaimed is None:
            return None
        if alone:
            self._attempts.report(unclaimed.lost_attempts)
        return Claimed(ref, frozenset(owned), unclaimed.completed, unclaimed.lost_attempts)

    def record_alone(self, runtime: NodeRuntime, keys: Sequence[str], ref: NodeRef) -> bool:
        """Record claims, and return whether all of the tasks may be started: none is in quarantine, and the run is not over."""
        unclaimed = self.record(runtime, keys, ref, alone=True)
        if unclaimed is not None and unclaimed.lost_attempts:
            self._attempts.report(unclaimed.lost_attempts)
            self.give_up_unstarted(keys)
            return False
        return unclaimed is not None

    def record(self, runtime: NodeRuntime, keys: Sequence[str], ref: NodeRef, *, alone: bool) -> Unclaimed | None:
        """Record claims for the run that owned the tasks when the lease was read; return None if that run is over.

        Otherwise return those of the tasks that were not recorded. Waits for the store for as long as that run has its lease.
        """
        attempts, agent, backend = self._attempts, runtime.agent, self._session.needed_backend
        tolerated = attempts.tolerated(alone=alone)

        def has_lease() -> bool:
            return agent.lease.holds_lease(ref, clock.now)

        def append() -> Unclaimed:
            attempts.check_claimable(keys)
            return backend.append_claims(ref, keys, attempts.date, tolerated)

        try:
            with attempts.claiming(keys):
                unclaimed = self._session.caller.call(refusal_as_outage(append), while_=has_lease)
                if tolerated is not None:
                    refused = unclaimed.completed | unclaimed.lost_attempts.keys()
                    attempts.begin([key for key in keys if key not in refused], ref)
        except UnsupportedOperation:  # a mistake of the caller's, which would meet every task
            raise
        except JobsyncError as error:
            _logger.info('node %r: not started, since the claim was refused: %s (%s)', self._node_name, brief(keys), error)
            agent.beat_soon()
            runtime.wake()
            return None
        # t=0   the lease is valid, and the claim goes out
        # t=20  the answer arrives: the claim is recorded, the lease has ended meanwhile, and another node may own the task
        if not has_lease():
            _logger.warning('node %r: not started, since the lease ended meanwhile: %s', self._node_name, brief(keys))
            return None
        return unclaimed

    def give_up_unstarted(self, keys: Iterable[str]) -> None:
        """Give up the attempts at tasks that were claimed and are not started, except those that are open elsewhere."""
        self._attempts.give_up([key for key in keys if key not in self._open])

    def has_left(self, keys: Collection[str]) -> bool:
        """Return whether another thread has left meanwhile: then the user's loop gets False, not an error."""
        if self._session.is_over:
            self.log_refusal(keys)
        return self._session.is_over

    def is_entering(self, keys: Collection[str]) -> bool:
        """Return whether there is no node only because it is still to be made. Then these tasks are not its own.

        To be called with what was read as missing: a node that is there by now may own none of them either.
        """
        # t=0  the job is being entered: the store is connected, or a lock_provider runs
        # t=1  that function, or another thread, begins a task, which another node owns
        # Without coordination there is never a node, and each task may be begun.
        if self._session.config.enabled:
            self.log_refusal(keys)
        return self._session.config.enabled

    def log_refusal(self, keys: Collection[str]) -> None:
        """Log that tasks are not started, because this node does not own them."""
        _logger.info('node %r: not started, since this node does not own it (any more): %s', self._node_name, brief(keys))
