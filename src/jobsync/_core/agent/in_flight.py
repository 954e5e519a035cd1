"""What a node is busy with, and the tokens it may not let go of yet because of that (rule R3).

Busy means a task in flight, or a token whose coming hand-over the user is being told of (``on_revoke``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jobsync._core.assignment import ABSENT, Assignment
from jobsync._core.records import NodeRef

__all__ = ['InFlight']


class _Attempt:
    """A task is about to be begun."""

    __slots__ = ('_among', '_task')

    def __init__(self, among: dict[object, tuple[str, int]], task: tuple[str, int]) -> None:
        self._among, self._task = among, task

    def __enter__(self) -> None:
        self._among[self] = self._task

    def __exit__(self, *_: object) -> None:
        self._among.pop(self, None)


class InFlight:
    """``keys`` may be set and taken away by any thread, within an ``attempt``; the rest is the agent's."""

    def __init__(self, token_of: Callable[[str], int], handover_timeout_sec: float) -> None:
        self._token_of, self._handover_timeout_sec = token_of, handover_timeout_sec
        self.keys: dict[str, int] = {}
        """Keys of tasks begun and not finished, with the number of the worker that began each: a thread, or whom it acted for."""
        self._attempts: dict[object, tuple[str, int]] = {}
        """Keys of tasks that somebody is about to begin, if he may."""
        self._announced: Counter[int] = Counter()
        """How many times each token stands in what the user has yet to hear, or is hearing."""
        self.reported: frozenset[int] = frozenset()
        """The tokens that the last acknowledged heartbeat said were held."""
        self._asked_at: dict[int, float] = {}

    def begin_session(self) -> None:
        """A new incarnation has been asked for nothing."""
        self._announced.clear()
        self.reported, self._asked_at = frozenset(), {}

    def attempt(self, key: str, worker: int) -> _Attempt:
        """Within the block the task counts as in flight, whatever others do with it. Any thread may."""
        return _Attempt(self._attempts, (key, worker))

    def _begun(self) -> list[tuple[str, int]]:
        """What is in flight, with its worker. The attempts first: one that succeeds is in ``keys`` before it is over."""
        attempts = list(self._attempts.values())
        return [*attempts, *self.keys.copy().items()]

    def announce(self, tokens: Iterable[int], now: float) -> None:
        """Hold these tokens, which this node was asked for, until the user has been told, or their time is up."""
        tokens = list(tokens)
        self._announced.update(tokens)
        for token in tokens:
            self._asked_at.setdefault(token, now)

    def release(self, tokens: Iterable[int]) -> None:
        """The user has been told of these, once."""
        self._announced -= Counter(tokens)

    @property
    def is_asked(self) -> bool:
        """Whether any token is held."""
        return bool(self._asked_at)

    def is_busy(self, but_for: int | None) -> bool:
        """Whether anything is in hand, apart from the tasks of one worker."""
        return bool(self._announced) or any(worker != but_for for _, worker in self._begun())

    def due(self, assignment: Assignment, ref: NodeRef, now: float) -> float:
        """When what is held will be other than was reported: now, or when the first hand-over's time is up."""
        if not self.reported:
            return float('inf')
        holding = self.holding(assignment, ref, now)
        if holding != self.reported:
            return now
        return min(self._asked_at[token] for token in holding) + self._handover_timeout_sec

    def holding(self, assignment: Assignment, ref: NodeRef, now: float) -> frozenset[int]:
        """The tokens that this node was asked to give up and is busy with, while it may still keep them.

        A task counts for the token it maps to in this assignment: its pin's, if it has one by now. A token whose row was
        deleted by hand is one that this node is asked to give up, if it has a task in flight on it.
        """
        member = assignment.members.get(ref.name)
        begun = self._begun()
        if not (begun or self._announced) or member is None or member.incarnation != ref.incarnation:
            self._asked_at = {}
            return frozenset()
        if not (assignment.targets or assignment.pins or ABSENT in assignment.owners):
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
            if assignment.owner[token] == ABSENT or assignment.is_asked_for(token, ref.name):
                busy[token] = self._asked_at.get(token, now)
        for token in self._announced:
            if assignment.is_asked_for(token, ref.name):
                busy[token] = self._asked_at.get(token, now)
        self._asked_at = busy
        return frozenset(token for token, since in busy.items() if now - since < self._handover_timeout_sec)
