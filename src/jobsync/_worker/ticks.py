"""One tick of a scheduled function: its name, its record, and the decision whether it is run.

A tick is an item of the history, ``every:NAME@TIME``, under the tick's own date: a claim as it begins, an audit once it is
complete. Only the owner of ``every:NAME`` runs ticks. So what a claim without an audit means depends on its node::

    t=0   a begins the tick, and its claim is recorded
    t=40  the place passes to b: a is dead, or a has been busy for longer than handover_timeout_sec
    t=40  b finds the claim. If a is still registered in the run that made it, a may be at work: b waits for the audit.
          Otherwise nothing completes the tick any more: b runs it again (misfire 'run'), or never (misfire 'skip').

More items say what has become of a claim. ``CLAIMED`` is when the claim was recorded: a node that claims a tick again renews it.

- ``every:NAME@TIME unbegun CLAIMED`` has an audit if the node that made the claim has not called the function, as its place might
  have passed on. It is as if the claim was never made.
- ``every:NAME@TIME failed CLAIMED`` has one if the function has raised, which leaves the tick incomplete (misfire 'run'). So b
  does not wait for a, which is alive, and not at work.
- ``every:NAME@TIME by INCARNATION`` has one if that run has claimed the tick by a claim older than its registration, because the
  store's clock was set back meanwhile (misfire 'run'). So b waits for a.
- ``every:NAME@TIME ended`` is claimed before the tick is recorded as complete (misfire 'run'). The store refuses a claim to a run
  that is over: what ends too late is not recorded, and b finds the claim of what ended in time, even if its audit has not come.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Callable
from contextlib import suppress

import attrs

from jobsync._core.records import Claim, NodeRef, NodeState, Snapshot
from jobsync._event_log import EventLogger
from jobsync._runtime import clock
from jobsync._runtime.threads import Running
from jobsync._worker.attempts import TaskAttempts
from jobsync._worker.claim_recording import ClaimRecording
from jobsync._worker.completions import refusal_as_outage
from jobsync._worker.history import DateHistory
from jobsync._worker.schedule import Schedule
from jobsync._worker.session import Session
from jobsync._worker.singleton import Place, TurnBase
from jobsync.errors import Evicted, JobsyncError

__all__ = ['Scheduled', 'Start', 'Tick', 'TickRecord', 'decide', 'is_known']

_logger = EventLogger('jobsync.job')

_UNBEGUN, _FAILED = 'unbegun', 'failed'
"""What has become of a claim."""
_LOOK_BACK = 10
"""How many ticks before a missed one are searched for a record, which shows that the schedule is not a new one."""


@attrs.define(eq=False)
class Scheduled:
    """A function with its schedule, and how far this node has got with it."""

    name: str
    function: Callable[[Tick], object]
    schedule: Schedule
    zone: dt.tzinfo
    runs_missed: bool
    """Whether the misfire rule is ``'run'``."""
    place: Place
    """Its owner runs the ticks."""
    handled: dt.datetime | None = None
    """The last tick that this node has run or passed over; None before the first."""
    awaited: dt.datetime | None = None
    """The last tick of which the log says that the store's clock was set back to before it."""
    unbegun: tuple[dt.datetime, NodeRef | None] | None = None
    """A tick of which no claim was found, and the run of this node that then claimed it and has not begun it; None if there is
    none."""
    check_at: float = -math.inf
    """When a tick may be due, on the clock of leases."""
    attempt: object = None
    """The last attempt at a tick whose thread is known to have started."""
    thread: Running | None = None
    """The thread of that attempt."""
    holder: object = None
    """The attempt that has taken the place, and not given it back; None if there is none."""

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work on a tick. One that an error has ended before its first step is not."""
        return self.thread is not None and self.thread.is_alive()


class Tick(TurnBase):
    """One tick of a scheduled function, which the function may take as its argument; true while this node may run it."""

    def __init__(self, scheduled: Scheduled, moment: dt.datetime) -> None:
        place = scheduled.place
        super().__init__(place.session, place.key, place.token, is_held=True)
        self.scheduled = moment.astimezone(scheduled.zone)
        """The time that the tick stands for, in the time zone of the schedule. The function may run later."""
        self.id = f'{place.key}@{moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")}'
        """The tick's item in the history, such as ``every:report@2026-01-01T00:00:00Z``."""

    def __repr__(self) -> str:
        return f'<Tick {self.id}>'


class Start(enum.Enum):
    """What a node does about a tick that is due."""

    RUN = 'run'
    LEAVE_OUT = 'leave out'
    WAIT = 'wait for the node that has begun it'


def decide(*, is_late: bool, is_begun: bool, is_in_hand: bool, runs_missed: bool, is_known: bool) -> Start:
    """Return what to do about the latest tick of a schedule, which is not known to be complete.

    Args:
        is_late: The tick is due for longer than a change of the owner takes.
        is_begun: A node has claimed the tick.
        is_in_hand: The node that has claimed the tick may still be at work on it.
        runs_missed: The misfire rule is ``'run'``.
        is_known: A tick before this one is on record as complete, so the schedule was in force when this one was due, and no
            record of this one was deleted.
    """
    if is_begun:
        return Start.LEAVE_OUT if not runs_missed else Start.WAIT if is_in_hand else Start.RUN
    return Start.RUN if not is_late or (runs_missed and is_known) else Start.LEAVE_OUT


class TickRecord:
    """The claim and the audit of one tick."""

    def __init__(self, session: Session, tick: Tick, *, runs_missed: bool = False) -> None:
        """Store the parts. ``runs_missed``: another node may run the tick again."""
        self._session, self._tick = session, tick
        self._item, self._date = tick.id, tick.scheduled.date()
        self._runs_missed, self._ended_item = runs_missed, f'{tick.id} ended'
        self._attempts, self._history = TaskAttempts(session, self._date), DateHistory(session, self._date)

    def read_claims(self, *, is_unbegun_here: bool) -> list[Claim]:
        """Return the claims of the nodes that may have begun the tick, newest first.

        ``is_unbegun_here``: this node knows that it has not begun the tick by its claim, if it has one.
        """
        return [
            claim
            for claim in self._history.read_claims(self._item)
            if not (is_unbegun_here and claim.node == self._session.node_name)
            and not self._is_audited(self._item_about(claim, _UNBEGUN))
        ]

    @property
    def is_complete(self) -> bool:
        """Whether any node has completed the tick."""
        return self._is_audited(self._item)

    @property
    def is_kept(self) -> bool:
        """Whether the tick is complete, and no purge has deleted its claim, nor thereby the records of a later tick."""
        # t=0   the tick of June raises, and stays incomplete; that of July is completed
        # t=10  retention_days is over: both records of July are deleted, and the claim of June stays
        # t=11  the node is restarted: by the claim of June, the tick of July would seem to be missed, and be run again
        # With coordination off no claim is recorded.
        is_claimed = not self._session.config.enabled or self._history.read_last_claim(self._item) is not None
        return is_claimed and self.is_complete

    def _is_audited(self, item: str) -> bool:
        return bool(self._history.read_audits(1, item))

    def _item_about(self, claim: Claim, outcome: str) -> str:
        return f'{self._item} {outcome} {claim.created_on.isoformat()}'

    def _item_by(self, ref: NodeRef) -> str:
        return f'{self._item} by {ref.incarnation}'

    def is_in_hand(self, claim: Claim) -> bool:
        """Return whether another node has made the claim, is registered in the run that made it, and has not failed since."""
        session = self._session
        if claim.node == session.node_name:
            return False
        nodes = session.caller.call(session.needed_backend.snapshot).nodes
        return any(
            node.name == claim.node
            and node.state is NodeState.JOINED
            and (node.created_on <= claim.created_on or self._is_audited(self._item_by(node.ref)))
            and not self._is_audited(self._item_about(claim, _FAILED))
            for node in nodes
        )

    def complete_for_its_node(self) -> bool:
        """Record the tick as complete if its function has ended in a run that is over now; return whether it has.

        To be called once that run is known to be over: from then on the store refuses its claim of the end.
        """
        ended = self._history.read_last_claim(self._ended_item)
        if ended is not None:
            node, backend = ended.node, self._session.needed_backend
            # Under that node's name: if its process goes on, and records this as well, there is still one audit.
            self._session.caller.call(lambda: backend.append_audits(node, [self._item, self._ended_item], self._date))
        return ended is not None

    def begin(self, ref: NodeRef | None) -> bool | None:
        """Record the claim of a run of this node; return whether the tick is still to be done.

        Return None if that run is over, has no lease, or may have lost the place. ``ref`` is None with coordination off, where
        no claim is recorded.
        """
        runtime = self._session.runtime
        if runtime is None or ref is None:
            return not self.is_complete
        unclaimed = ClaimRecording(self._session, self._attempts).record(runtime, [self._item], ref, alone=True)
        if unclaimed is None:
            return None
        self._attempts.report(unclaimed.lost_attempts)
        if unclaimed.completed or unclaimed.lost_attempts:
            return False
        if self._runs_missed:
            self._record_run(runtime.agent.snapshot, ref)
        # t=0   this node has found no claim of the tick, and its own is on the way; the leader wants the place for another node
        # t=30  handover_timeout_sec is over, and the place passes on; the next owner claims the tick, and begins it
        # t=31  the claim of this node is recorded too: its lease runs, and another node is at the tick
        # So a tick whose place may have passed on meanwhile is left to the next owner, which may be this node (see
        # ``Scheduled.unbegun``). A node that is to hand the place over, or is about to leave, and has not given it up, begins it.
        if not self._tick.holds_place():
            self._give_up(ref, _UNBEGUN)
            return None
        return True

    def _record_run(self, snapshot: Snapshot | None, ref: NodeRef) -> None:
        """Record that this run has claimed the tick, unless the times of its claim and of its registration show it."""
        # t=0   the store's clock is an hour ahead; this node registers
        # t=1   the clock is set right, and this node claims the tick
        # t=40  the place passes on while this node is at the tick: by the times, a run before this one has claimed it
        registered = next((node.created_on for node in (snapshot.nodes if snapshot else ()) if node.ref == ref), None)
        claimed = next((claim.created_on for claim in self._history.read_claims(self._item) if claim.node == ref.name), None)
        if registered is None or claimed is None or claimed < registered:
            backend, session = self._session.needed_backend, self._session
            session.caller.call(lambda: backend.append_audits(ref.name, [self._item_by(ref)], self._date))

    def fail(self, ref: NodeRef | None) -> None:
        """Leave the tick incomplete, as its function has raised, and record that for a later owner that may run it again."""
        if self._runs_missed:
            self._give_up(ref, _FAILED)
        else:
            self._attempts.give_up_all()

    def _give_up(self, ref: NodeRef | None, outcome: str) -> None:
        """Record what has become of this node's claim, for a later owner."""
        self._attempts.give_up_all()  # the run was not lost
        runtime, node = self._session.runtime, self._session.node_name
        if runtime is None or ref is None:
            return
        # Without the record, a later owner takes the tick for begun: by 'run' it waits until this node has left.
        with suppress(JobsyncError):
            claim = next((claim for claim in self._history.read_claims(self._item) if claim.node == node), None)
            # t=0  this run is evicted; another process has its name, and claims the tick
            # t=1  this process reads that claim, and would record that its function was not called
            # So the run still has its lease after the reading: until then no other had the name.
            if claim is not None and runtime.lease.holds_lease(ref, clock.now):
                backend, items = self._session.needed_backend, [self._item_about(claim, outcome)]
                self._session.caller.call(lambda: backend.append_audits(node, items, self._date))

    def complete(self, ref: NodeRef | None) -> bool:
        """Record the tick as complete, unless another node may run it by now; return whether it is recorded.

        Waits for the store until the job is over.
        """
        session = self._session
        try:
            if session.backend is None:
                return True
            write = refusal_as_outage(lambda: self._record_complete(ref))
            is_recorded = session.caller.call(write, while_=lambda: not session.is_over)
            why = 'this node has lost it meanwhile, and the next owner decides about it'
        except JobsyncError as error:
            is_recorded, why = False, str(error)
        if not is_recorded:
            _logger.warning('node %r: tick %s has ended and is not recorded as complete: %s', session.node_name, self._item, why)
        return is_recorded

    def _record_complete(self, ref: NodeRef | None) -> bool:
        backend, items = self._session.needed_backend, [self._item]
        # t=0   the function has run, and the process is stopped here
        # t=20  the node is evicted; the next owner runs the tick again, and records it as complete
        # t=30  the process goes on: an audit now would be a second record
        # So the end is claimed first: at t=30 the store refuses it. Had it been claimed at t=0, the next owner would find it.
        if self._runs_missed and ref is not None:
            try:
                backend.append_claims(ref, [self._ended_item], self._date)
            except Evicted:
                return False
            items.append(self._ended_item)
        backend.append_audits(self._session.node_name, items, self._date)
        return True


def is_known(session: Session, scheduled: Scheduled, moment: dt.datetime) -> bool:
    """Return whether one of the ticks before this one is complete, with all its records."""
    for _ in range(_LOOK_BACK):
        before = scheduled.schedule.latest(moment - dt.timedelta(microseconds=1))
        if before is None:
            break
        if TickRecord(session, Tick(scheduled, before)).is_kept:
            return True
        moment = before
    return False
