"""What one node may claim, and until when: the lease, and its side of a hand-over (rules R1 and R3).

What may be claimed is ``ownership``, while now < ``deadline``. Any thread may read either at any time, or both together: the
``grant``.

*Losing* takes effect in ``ownership`` as soon as a version is read; *gaining* waits until a heartbeat that acknowledges that
version has succeeded. Between the two the node claims only what both the old and the new version allow. A version under which the
node may claim what it may claim already is taken at once.

*Tasks in flight.* ``begin`` notes the start first and reads ``ownership`` afterwards; the agent restricts ``ownership`` first and
reads the starts afterwards. Neither side takes a lock, and in either order no task is begun on a token that an acknowledgement
has given up::

    user thread   notes the start         reads the ownership: its own, so it begins the task
    agent                                 reads a version with a target; restricts the ownership; reads the start: holding
    or
    agent         restricts the ownership; reads no start: the token is released
    user thread                           notes the start; reads the ownership: not its own

Each start is noted by itself, so that one that is refused, or ends, takes nothing away from another at the same task.

*The clock is read last.* A method that answers whether a task may be claimed now takes the clock as a function, reads the grant
first and the clock after it, as ``Job.can_claim_task`` does. In the opposite order::

    t=0   a thread reads the clock, and its process is stopped
    t=20  another node owns the token; the process goes on
    t=20  the thread compares t=0 with the end of the lease: "ours"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set

from jobsync._core.agent.events import Event, LogMessage, OwnershipChanged
from jobsync._core.agent.in_flight import InFlight, TaskStart
from jobsync._core.agent.ownership import Grant, Ownership
from jobsync._core.assignment import Assignment
from jobsync._core.config import NodeConfig
from jobsync._core.counting import counted
from jobsync._core.records import NodeRef, Revision
from jobsync._core.redact import cut_repr, listed

__all__ = ['Clock', 'Lease']

Clock = Callable[[], float]

_NEVER = -math.inf


class Lease:
    """One node's hold on its tokens, through all its incarnations."""

    def __init__(self, config: NodeConfig, token_of: Callable[[str], int], emit: Callable[[Event], object]) -> None:
        self._config, self._token_of, self._emit = config, token_of, emit
        self._nothing = Ownership.nothing(config.settings.total_tokens)
        self._tasks = InFlight(token_of, config.handover_timeout_sec)
        self.ends_at = math.inf
        """When the node deregisters at the latest, if it is leaving."""
        self.has_progressed = True
        """The mark of progress: a thread of the user sets it when it requests work or finishes some, and the agent clears it."""
        self.waiting: dict[object, None] = {}
        """Waits of the user's code for its next task or for the store, which count as progress."""
        self._ownership = self._nothing
        self.grant: Grant = self._nothing.granted(_NEVER)

    def begin_session(self, ref: NodeRef) -> None:
        """Begin as a new incarnation without an assignment. What was owned before must have been dropped."""
        self.ref, self.assignment = ref, Assignment.empty(self._config.settings.total_tokens)
        self._awaiting_ack: Ownership | None = None
        self._tasks.begin_session()

    # --- for any thread -----------------------------------------------------------------------------------------------------

    def may_claim(self, key: str, token: int, clock: Clock) -> bool:
        """Return whether this node may claim the task with this key, whose hash token is ``token``, now."""
        # t=0  this thread reads the grant
        # t=1  the handler of a signal, in this very thread, leaves: its tasks are not waited for, and another node owns the token
        # t=2  this thread goes on: by the grant of t=0 the token is its own
        # So it is read last whether this node has given up.
        deadline, pins, mine = self.grant
        return (mine[token] if pins is None else pins.get(key, mine[token])) and clock() < deadline and self.ends_at == math.inf

    def ours(self, tasks: Mapping[str, int], clock: Clock) -> list[str]:
        """Return the keys of the tasks (key -> hash token) that this node may claim now, in their order."""
        deadline, pins, mine = self.grant
        if pins is None:
            found = [key for key, token in tasks.items() if mine[token]]
        else:
            found = [key for key, token in tasks.items() if pins.get(key, mine[token])]
        return found if clock() < deadline and self.ends_at == math.inf else []

    def holds_lease(self, ref: NodeRef, clock: Clock) -> bool:
        """Return whether the lease of this run of the node is valid now."""
        # t=0   a thread reads that the run is 1, and is stopped
        # t=20  run 1 is evicted; run 2 has a lease; the thread reads its deadline, and would say that run 1 has a lease
        # So the run is read after the deadline: a deadline of run 2 is then compared with run 2.
        deadline = self.deadline
        return clock() < deadline and self.ref == ref

    def begin(self, start: TaskStart, token: int, clock: Clock) -> bool:
        """Note a start of a task, whose hash token is ``token``, if this node may claim the task; return whether it may."""
        try:
            self.in_flight[start] = None
            if self.may_claim(start.key, token, clock):
                return True
        except BaseException:  # of a signal's handler
            self.in_flight.pop(start, None)
            raise
        self.in_flight.pop(start, None)
        return False

    def finish(self, starts: Iterable[TaskStart]) -> None:
        """End starts: what they have begun is no longer in flight because of them."""
        for start in starts:
            self.in_flight.pop(start, None)

    @property
    def unrecorded(self) -> dict[str, int]:
        """Keys of tasks that are finished and not recorded as complete, with the worker of each. They count as in flight."""
        return self._tasks.unrecorded

    def fence(self, key: str, token: int, clock: Clock, *, is_in_flight: bool) -> int | None:
        """Return the fence of a task that this node may claim or has in flight; None for any other task."""
        deadline, fence = self.deadline, self.assignment.fence(self.ref, key, token)
        return fence if (self.ownership.claims(key, token) or is_in_flight) and clock() < deadline else None

    def keeps(self, key: str, token: int, fence: int | None, clock: Clock) -> bool:
        """Return whether a task in flight cannot have passed on since this node had this fence for it, target or not.

        With None for a fence it had passed on by then, though this node may have begun it.
        """
        # The end of the time is read first: a task that passes on after this line has a new owner, or was given a target
        # meanwhile, ``handover_timeout_sec`` ago.
        until = min(self.deadline, self.ends_at, self._tasks.kept_until(self.assignment, key, token))
        return fence is not None and self.assignment.fence(self.ref, key, token) == fence and clock() < until

    @property
    def in_flight(self) -> dict[TaskStart, None]:
        """The starts of tasks that are begun, or about to be, and not finished."""
        return self._tasks.starts

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over may be waiting for tasks in flight."""
        return self._tasks.is_asked

    def is_busy(self, except_workers: Set[int]) -> bool:
        """Return whether tasks are in flight, except those of some workers, or tokens are announced and not released."""
        return self._tasks.is_busy(except_workers)

    @property
    def is_planned(self) -> bool:
        """Whether this incarnation is part of the plan, with or without tokens, and has taken what that gives it now."""
        member = self.assignment.members.get(self.ref.name)
        return member is not None and member.incarnation == self.ref.incarnation and self._awaiting_ack is None

    @property
    def is_whole(self) -> bool:
        """Whether this node owns its whole share of the plan: no token is being handed over to it."""
        return self.is_planned and not self.assignment.receives(self.ref.name)

    @property
    def deadline(self) -> float:
        """When the lease ends."""
        return self.grant[0]

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self.grant = (deadline, *self.grant[1:])

    @property
    def ownership(self) -> Ownership:
        """What may be claimed while the lease runs."""
        return self._ownership

    @ownership.setter
    def ownership(self, ownership: Ownership) -> None:
        # A node that only gains, or waits for its acknowledgement, keeps its tokens: with a million it need not have them twice.
        deadline, _, mine = self.grant
        is_same = ownership.mine == self._ownership.mine
        # t=0  the ownership is set
        # t=1  a thread of the user sees that it owns a token by now, and may not claim the token's task
        # t=2  the grant is set
        # So the grant comes first.
        self.grant, self._ownership = ownership.granted(deadline, mine if is_same else None), ownership

    # --- the lease ----------------------------------------------------------------------------------------------------------

    def extend(self, sent_at: float, now: float) -> bool:
        """Extend the lease by a heartbeat that has succeeded (R1); return whether the lease it is good for still runs.

        The lease counts from before the heartbeat was sent::

            t=0   the heartbeat is sent, and the store records it at once
            t=5   the answer comes; counted from here the lease would run until t=18.5
            t=15  an observer that read the heartbeat at t=0 takes this node for dead, and its tokens are given to others
        """
        if sent_at + self._config.lease_sec <= now:
            return False
        if self.deadline == _NEVER:  # an end that was never declared is none
            self._emit(LogMessage('info', f'node {self.ref.name!r} has a lease'))
            if not self.ownership.is_empty:
                self._emit(OwnershipChanged(self._nothing, self.ownership))
        self.deadline = max(self.deadline, sent_at + self._config.lease_sec)
        return True

    def declare_end(self, now: float) -> None:
        """Report the loss if the lease has ended with something owned. The tokens stay owned, for the lease may begin again."""
        if _NEVER < self.deadline <= now and not self.ownership.is_empty:
            text = 'the lease is over, no heartbeat got through in time: no task is begun until one does'
            self._emit(LogMessage('warning', f'node {self.ref.name!r}: {text}'))
            self._emit(OwnershipChanged(self.ownership, self._nothing))
            self.deadline = _NEVER

    def drop(self) -> None:
        """Allow no claim from now on, and own nothing."""
        if self.deadline > _NEVER and not self.ownership.is_empty:
            self._emit(OwnershipChanged(self.ownership, self._nothing))
        self.forget()

    def forget(self) -> None:
        """Own nothing, and report no loss, as in the child of a fork."""
        self.deadline = _NEVER
        self.ownership = self._nothing

    # --- the hand-over ------------------------------------------------------------------------------------------------------

    def read(self, assignment: Assignment, ownership: Ownership, now: float) -> bool:
        """Apply a version: lose at once, gain after the acknowledgement. A node that has given up gains nothing.

        Returns whether another node may wait for this one to acknowledge the version, or this one for its own acknowledgement, or
        for the lease that it did not get before it had read the version.
        """
        # t=0  version 7 gives a token of this node to another one; it is noted, and there is no memory for the new ownership
        # t=1  a heartbeat acknowledges version 7: the other node owns the token, and this one claims it as before
        # So the version is noted last.
        pinned = {key: self._token_of(key) for key in {*self.ownership.pins, *ownership.pins}}
        is_awaited = now >= self.deadline or assignment.awaits(self.ref.name)
        if self.ends_at < math.inf:
            self.assignment = assignment
            return is_awaited
        if self.ownership.allows_same(ownership, pinned):
            self._set(ownership)
            self.assignment, self._awaiting_ack = assignment, None
            return is_awaited
        after = self.ownership.both(ownership, pinned)
        if self._config.announces:
            going = self.ownership.tokens - after.tokens
            asked = frozenset(token for token in going if assignment.asked_of(token) == self.ref.name)
            self._announce(asked, after, now, now + self._config.handover_timeout_sec)
        else:
            self._set(after)
        self.assignment, self._awaiting_ack = assignment, ownership
        return True

    def acknowledge(self, version: Revision, holding: frozenset[int]) -> None:
        """Take the success of a heartbeat that reported this version as applied, and these tokens as held."""
        if version != self.assignment.version:
            return
        tokens, keys = self._tasks.overdue(holding, self.assignment)
        self._tasks.reported = holding
        if self._awaiting_ack is not None:
            self._set(self._awaiting_ack)
            self._awaiting_ack = None
        if tokens:
            work = f'in the midst of {listed(map(cut_repr, keys))}' if keys else 'before on_revoke has returned'
            text = f'node {self.ref.name!r} gives up {counted(len(tokens), "token")} {work}, since handover_timeout_sec'
            text += f' ({self._config.handover_timeout_sec:g}) is over: the next owner may begin the same work'
            self._emit(LogMessage('warning', text))

    def give_up(self, now: float, by: float) -> None:
        """Allow no claim any more. Where the node ``announces``, all its tokens are held until released, at most until ``by``."""
        self._awaiting_ack, self.ends_at = None, by
        if self._config.announces:
            self._announce(self.ownership.tokens, self._nothing, now, by)
        else:
            self._set(self._nothing)

    def release(self, tokens: Iterable[int]) -> None:
        """Release tokens that were announced (see ``OwnershipChanged.asked``): ``on_revoke`` has returned."""
        self._tasks.release(tokens)

    def holding(self, now: float) -> frozenset[int]:
        """Return the tokens that this node is to hand over and must keep reporting as held."""
        return self._tasks.holding(self.assignment, self.ref, now)

    def holds_other_at(self, now: float) -> float:
        """Return when ``holding`` becomes something else than the last acknowledged heartbeat reported."""
        return self._tasks.due(self.assignment, self.ref, now)

    def _announce(self, asked: frozenset[int], after: Ownership, now: float, deadline: float) -> None:
        self._tasks.announce(asked, now)
        self._set(after, asked, deadline)

    def _set(self, after: Ownership, asked: frozenset[int] = frozenset(), deadline: float = _NEVER) -> None:
        # Emitted first: there may be no memory for it, or for the rest. A change that is emitted twice is reported once.
        before = self.ownership
        if before.mine != after.mine or before.pin_ids != after.pin_ids:
            is_over = self.deadline == _NEVER  # the loss of everything owned has been reported
            told = (self._nothing, self._nothing) if is_over else (before, after)
            self._emit(OwnershipChanged(*told, asked, deadline))
        self.ownership = after
