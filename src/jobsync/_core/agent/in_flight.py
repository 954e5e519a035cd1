"""What a node is busy with, and the tokens it must not release yet because of that (rule R3).

A node is busy with tasks in flight, and with tokens whose coming hand-over is announced to the user (``on_revoke``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Set

import attrs

from jobsync._core.assignment import ABSENT, Assignment
from jobsync._core.records import NodeRef

__all__ = ['InFlight', 'TaskStart']

_MANY, _REST_SEC = 1000, 0.02
"""How long the tasks in flight are not gone through again after they were, for each so many of them."""


@attrs.frozen
class TaskStart:
    """One start of a task. Several workers may start one task, and one of them more than once."""

    key: str
    worker: int = 0
    """The number of the worker that starts it: of a thread, or of its caller."""
    number: int = 0
    """Its place in the order of all starts in this process, by which each is another one."""


class InFlight:
    """The tasks in flight and the announced tokens of one node.

    Any thread may add a start to ``starts`` and remove it, and change ``unrecorded``. Everything else is for the agent.
    """

    def __init__(self, token_of: Callable[[str], int], handover_timeout_sec: float) -> None:
        self._token_of, self._handover_timeout_sec = token_of, handover_timeout_sec
        self.starts: dict[TaskStart, None] = {}
        """The starts of tasks that are begun, or about to be, and not finished."""
        self.unrecorded: dict[str, int] = {}
        """Keys of tasks that are finished and not recorded as complete, with the worker of each: they count as in flight."""
        self._announced: Counter[int] = Counter()
        """For each token how many announcements of it the user has not confirmed."""
        self.reported: frozenset[int] = frozenset()
        """The tokens that the last acknowledged heartbeat said were held."""
        self._asked_at: dict[int, float] = {}
        self._look_at = -math.inf
        """Before this moment ``due`` does not go through the tasks in flight."""

    def begin_session(self) -> None:
        """Begin as a new incarnation, which has reported no token as held."""
        # t=0  on_revoke runs; an operator evicts this run: the next one has the same tokens to hand over
        # t=1  on_revoke returns, and releases them
        # Without the announcements they would pass on before t=1, or the release would count for an announcement of the next run.
        self.reported, self._asked_at = frozenset(), {}

    def _begun(self) -> list[tuple[str, int]]:
        # The starts of a task end once it is in ``unrecorded``. Read in this order, none is missed on its way.
        starts = list(self.starts)
        return [*((start.key, start.worker) for start in starts), *self.unrecorded.copy().items()]

    def announce(self, tokens: Iterable[int], now: float) -> None:
        """Hold these tokens, which this node is to hand over, until they are released or their time is up."""
        tokens = list(tokens)
        self._announced.update(tokens)
        for token in tokens:
            self._asked_at.setdefault(token, now)

    def release(self, tokens: Iterable[int]) -> None:
        """Take the confirmation of one announcement of these tokens."""
        self._announced -= Counter(tokens)

    @property
    def is_asked(self) -> bool:
        """Whether any token is held."""
        return bool(self._asked_at)

    def is_busy(self, except_workers: Set[int]) -> bool:
        """Return whether tasks are in flight, except those of some workers, or announcements are not confirmed."""
        return bool(self._announced) or any(worker not in except_workers for _, worker in self._begun())

    def overdue(self, holding: frozenset[int], assignment: Assignment) -> tuple[frozenset[int], list[str]]:
        """Return the tokens that a heartbeat with ``holding`` gives up in the midst of work, and the keys of that work."""
        tokens = (self.reported - holding).intersection(self._asked_at)
        keys = {key for key, _ in self._begun()} if tokens else set()
        pins = assignment.pin_of
        return tokens, [key for key in keys if (pins[key].id if key in pins else self._token_of(key)) in tokens]

    def due(self, assignment: Assignment, ref: NodeRef, now: float) -> float:
        """Return when ``holding`` differs from ``reported``: now, or when the first hand-over's time is up."""
        if not self.reported:
            return math.inf
        # t=0  ten thousand asyncio tasks are in flight, and some tokens are to be handed over
        # t=1  one of them ends, and wakes the agent, which goes through all others; so does each that ends
        # The agent would do nothing else, and the event loop would wait for it at every step.
        if now < self._look_at:
            return self._look_at
        self._look_at = now + (len(self.starts) + len(self.unrecorded)) // _MANY * _REST_SEC
        holding = self.holding(assignment, ref, now)
        if holding != self.reported:
            return now
        return min(self._asked_at[token] for token in holding) + self._handover_timeout_sec

    def kept_until(self, assignment: Assignment, key: str, token: int) -> float:
        """Return until when a task in flight keeps its token from passing on: no end, unless it has a target. For any thread."""
        pin = assignment.pin_of.get(key)
        asked_at = self._asked_at.get(token if pin is None else pin.id)
        return math.inf if asked_at is None else asked_at + self._handover_timeout_sec

    def holding(self, assignment: Assignment, ref: NodeRef, now: float) -> frozenset[int]:
        """Return the tokens that this node is to hand over and is busy with, for ``handover_timeout_sec`` at most.

        A task counts for the token it maps to in this assignment: its pin's, if it has one by now. A token whose row was
        deleted manually counts as one to hand over, if a task is in flight on it.
        """
        # t=0  run 1 of a is busy with a task, whose token is to pass to b; an operator evicts it
        # t=1  run 2 of a acknowledges the version, in which the member is still run 1, and is busy with that task too
        # So the member may be an earlier run.
        begun = self._begun()
        if not (begun or self._announced) or ref.name not in assignment.members:
            self._asked_at = {}
            return frozenset()
        if not (assignment.targets or assignment.pins or assignment.has_absent):
            self._asked_at = {}
            return frozenset()
        busy: dict[int, float] = {}
        for key, _ in begun:
            pin = assignment.pin_of.get(key)
            if pin is not None:
                if pin.owner == ref.name and pin.target is not None:
                    busy[pin.id] = self._asked_at.get(pin.id, now)
                continue
            token = self._token_of(key)
            if assignment.owner[token] == ABSENT or assignment.asked_of(token) == ref.name:
                busy[token] = self._asked_at.get(token, now)
        for token in self._announced:
            if assignment.asked_of(token) == ref.name:
                busy[token] = self._asked_at.get(token, now)
        self._asked_at = busy
        return frozenset(token for token, since in busy.items() if now - since < self._handover_timeout_sec)
