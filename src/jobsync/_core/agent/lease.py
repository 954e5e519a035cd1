"""What one node may claim, and until when: the lease, and its side of a hand-over (rules R1 and R3).

What may be claimed is ``ownership``, while now < ``deadline``. Any thread may read either at any time, or both as they stand
together: the ``grant``.

*Losing* takes effect in ``ownership`` as soon as a version is read; *gaining* waits until a heartbeat that acknowledges that
version has succeeded. Between the two the node claims only what both the old and the new version allow.

*Tasks in flight.* ``begin`` notes its attempt first and looks at ``ownership`` afterwards; whoever takes tokens away restricts
``ownership`` first and looks at attempts and tasks in flight afterwards. Whichever comes first, no task is begun on a token that
an acknowledgement has given up, and neither side takes a lock. Each attempt is noted by itself, so that one that is refused
takes nothing away from another at the same task.

*The clock is read last.* Whatever answers "this is ours now" takes the clock as a function, reads the grant first and the clock
after it, as ``Job.can_claim_task`` does. The other way round::

    t=0   a thread reads the clock, and its process is stopped
    t=20  another node owns the token; the process goes on
    t=20  the thread compares t=0 with the end of the lease: "ours"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from jobsync._core.agent.events import Event, LogMessage, OwnershipChanged
from jobsync._core.agent.in_flight import InFlight
from jobsync._core.agent.ownership import Grant, Ownership
from jobsync._core.assignment import Assignment
from jobsync._core.config import NodeConfig
from jobsync._core.records import NodeRef, Revision

__all__ = ['Clock', 'Lease']

Clock = Callable[[], float]

_NEVER = float('-inf')


class Lease:
    """One node's hold on its tokens, through all its incarnations."""

    def __init__(self, config: NodeConfig, token_of: Callable[[str], int], tell: Callable[[Event], object]) -> None:
        self._config, self._token_of, self._tell = config, token_of, tell
        self._nothing = Ownership.nothing(config.settings.total_tokens)
        self._blank = Assignment.empty(config.settings.total_tokens)
        self._tasks = InFlight(token_of, config.handover_timeout_sec)
        self._has_given_up = False
        self.grant: Grant = (_NEVER, None, ())
        self.ownership = self._nothing

    def begin_session(self, ref: NodeRef) -> None:
        """A new incarnation knows no assignment. What was owned before must have been dropped."""
        self.ref, self.assignment = ref, self._blank
        self.acknowledged: Revision | None = None
        """The last version that a successful heartbeat has acknowledged; None before the first."""
        self._awaiting_ack: Ownership | None = None
        self._tasks.begin_session()

    # --- what any thread may ask --------------------------------------------------------------------------------------------

    def may_claim(self, key: str, token: int, clock: Clock) -> bool:
        """Whether the task with this key, whose hash token is ``token``, is this node's now."""
        deadline, pins, mine = self.grant
        return (mine[token] if pins is None else pins.get(key, mine[token])) and clock() < deadline

    def ours(self, tasks: Mapping[str, int], clock: Clock) -> list[str]:
        """Those of many tasks (key -> hash token) that are this node's now, in their order."""
        deadline, pins, mine = self.grant
        if pins is None:
            found = [key for key, token in tasks.items() if mine[token]]
        else:
            found = [key for key, token in tasks.items() if pins.get(key, mine[token])]
        return found if clock() < deadline else []

    def holds_lease(self, ref: NodeRef, clock: Clock) -> bool:
        """Whether the lease of this run of the node is valid now."""
        deadline = self.deadline
        return clock() < deadline and self.ref == ref  # the run last: a deadline read before may be that of a later run

    def begin(self, key: str, token: int, clock: Clock, worker: int = 0) -> bool:
        """Mark a task as in flight, by this worker, if it is this node's; say whether it is."""
        with self._tasks.attempt(key, worker):
            if self.may_claim(key, token, clock):
                self.in_flight[key] = worker
                return True
        return False

    def begin_alone(self, key: str, token: int, clock: Clock, worker: int = 0) -> bool:
        """The same, but for a task that another worker has in flight: False."""
        with self._tasks.attempt(key, worker):
            return self.may_claim(key, token, clock) and self.in_flight.setdefault(key, worker) == worker

    def finish(self, keys: Iterable[str]) -> None:
        """These tasks are no longer in flight."""
        for key in keys:
            self.in_flight.pop(key, None)

    def fence(self, key: str, token: int, clock: Clock) -> int | None:
        """The fence of a task that this node may claim or has in flight; None if it is not this node's."""
        deadline, fence = self.deadline, self.assignment.fence(self.ref, key, token)
        return fence if (self.ownership.claims(key, token) or key in self.in_flight) and clock() < deadline else None

    @property
    def in_flight(self) -> dict[str, int]:
        """Keys of tasks begun and not finished, with the worker that began each."""
        return self._tasks.keys

    @property
    def is_asked(self) -> bool:
        """Whether a hand-over may be waiting for tasks in flight."""
        return self._tasks.is_asked

    def is_busy(self, but_for: int | None) -> bool:
        """Whether anything is in hand, apart from the tasks of one worker."""
        return self._tasks.is_busy(but_for)

    @property
    def is_planned(self) -> bool:
        """Whether this incarnation is part of the plan, with or without tokens."""
        member = self.assignment.members.get(self.ref.name)
        return member is not None and member.incarnation == self.ref.incarnation

    @property
    def is_up_to_date(self) -> bool:
        """Whether what the assignment gives this node now has been taken."""
        return self.acknowledged == self.assignment.version

    @property
    def is_whole(self) -> bool:
        """Whether this node owns its whole share of the plan: nothing is on its way to it."""
        name, assignment = self.ref.name, self.assignment
        return (
            self.is_planned
            and self.is_up_to_date
            and name not in assignment.targets.values()
            and all(pin.target != name for pin in assignment.pins.values())
        )

    @property
    def deadline(self) -> float:
        """Until when the lease runs."""
        return self.grant[0]

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self.grant = (deadline, *self.grant[1:])

    @property
    def ownership(self) -> Ownership:
        """What may be claimed while it runs."""
        return self._ownership

    @ownership.setter
    def ownership(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self.grant = ownership.granted(self.deadline)

    # --- the lease ----------------------------------------------------------------------------------------------------------

    def extend(self, sent_at: float, now: float) -> bool:
        """A heartbeat that was sent then has succeeded (R1); say whether what it is good for is not over yet."""
        if sent_at + self._config.lease_sec <= now:
            return False
        if self.deadline == _NEVER:  # an end that nobody has declared meanwhile is none
            self._tell(LogMessage('info', f'node {self.ref.name!r} has a lease'))
            if not self.ownership.is_empty:
                self._tell(OwnershipChanged(self._nothing, self.ownership))
        self.deadline = max(self.deadline, sent_at + self._config.lease_sec)
        return True

    def declare_end(self, now: float) -> None:
        """Declare the loss if the lease has ended with something owned. The tokens stay, for it may be had again."""
        if _NEVER < self.deadline <= now and not self.ownership.is_empty:
            self._tell(LogMessage('warning', f'node {self.ref.name!r}: the lease is over, no heartbeat got through in time'))
            self._tell(OwnershipChanged(self.ownership, self._nothing))
            self.deadline = _NEVER

    def drop(self) -> None:
        """Answer False from now on, and own nothing."""
        if self.deadline > _NEVER and not self.ownership.is_empty:
            self._tell(OwnershipChanged(self.ownership, self._nothing))
        self.forget()

    def forget(self) -> None:
        """The same in the child of a fork, which has nobody to tell."""
        self.deadline = _NEVER
        self.ownership = self._nothing

    # --- the hand-over ------------------------------------------------------------------------------------------------------

    def read(self, assignment: Assignment, ownership: Ownership, now: float) -> None:
        """Apply a version: lose at once, gain after the acknowledgement. A node that has given up gains nothing."""
        pinned = {key: self._token_of(key) for key in {*self.ownership.pins, *ownership.pins}}
        self.assignment = assignment
        if self._has_given_up:
            return
        self._awaiting_ack = ownership
        after = self.ownership.both(ownership, pinned)
        if self._config.announces:
            going = self.ownership.tokens - after.tokens
            asked = frozenset(token for token in going if assignment.is_asked_for(token, self.ref.name))
            self._announce(asked, after, now, now + self._config.handover_timeout_sec)
        else:
            self._set(after)

    def acknowledge(self, version: Revision, holding: frozenset[int]) -> None:
        """A heartbeat has said that this version is applied, and which tokens this node is still busy with."""
        if version != self.assignment.version:
            return
        self.acknowledged = version
        self._tasks.reported = holding
        if self._awaiting_ack is not None:
            self._set(self._awaiting_ack)
            self._awaiting_ack = None

    def give_up(self, now: float, by: float) -> None:
        """Claim nothing any more; whoever is to be told that all tokens go has until then."""
        self._awaiting_ack, self._has_given_up = None, True
        if self._config.announces:
            self._announce(self.ownership.tokens, self._nothing, now, by)
        else:
            self._set(self._nothing)

    def release(self, tokens: Iterable[int]) -> None:
        """Whoever had to be told that these tokens go is ready (see ``OwnershipChanged.asked``)."""
        self._tasks.release(tokens)

    def holding(self, now: float) -> frozenset[int]:
        """The tokens that this node was asked to give up and is still busy with."""
        return self._tasks.holding(self.assignment, self.ref, now)

    def holds_other_at(self, now: float) -> float:
        """When that will be something else than was last reported."""
        return self._tasks.due(self.assignment, self.ref, now)

    def _announce(self, asked: frozenset[int], after: Ownership, now: float, deadline: float) -> None:
        self._tasks.announce(asked, now)
        self._set(after, asked, deadline)

    def _set(self, after: Ownership, asked: frozenset[int] = frozenset(), deadline: float = _NEVER) -> None:
        before, self.ownership = self.ownership, after
        if before.mine != after.mine or before.pin_ids != after.pin_ids:
            if self.deadline == _NEVER:  # the loss of all that is owned has been declared
                before = after = self._nothing
            self._tell(OwnershipChanged(before, after, asked, deadline))
