"""Tasks in flight, and the tokens a node may not let go of yet because of them (rule R3)."""

from __future__ import annotations

from collections.abc import Callable

from jobsync.core.model import NodeRef
from jobsync.core.tokens import ABSENT, Assignment

__all__ = ['InFlight']


class InFlight:
    """Marks may be set and taken away by any thread; the rest is the agent's."""

    def __init__(self, token_of: Callable[[str], int], handover_timeout_sec: float) -> None:
        self._token_of, self._handover_timeout_sec = token_of, handover_timeout_sec
        self.keys: dict[str, None] = {}
        """Keys of tasks begun and not finished."""
        self.reported: frozenset[int] = frozenset()
        """The tokens that the last acknowledged heartbeat said were held."""
        self._asked_at: dict[int, float] = {}

    def begin_session(self) -> None:
        """A new incarnation has been asked for nothing."""
        self.reported, self._asked_at = frozenset(), {}

    def due(self, assignment: Assignment, ref: NodeRef, now: float) -> float:
        """When what is held will be other than was reported: now, or when the first hand-over's time is up."""
        if not self.reported:
            return float('inf')
        holding = self.holding(assignment, ref, now)
        if holding != self.reported:
            return now
        return min(self._asked_at[token] for token in holding) + self._handover_timeout_sec

    def holding(self, assignment: Assignment, ref: NodeRef, now: float) -> frozenset[int]:
        """The tokens that this node was asked to give up and has tasks in flight on, while it may still keep them.

        A task counts for the token it maps to in this assignment: its pin's, if it has one by now. A token whose row was
        deleted by hand is one that this node is asked to give up, if it has a task in flight on it.
        """
        member = assignment.members.get(ref.name)
        if not self.keys or member is None or member.incarnation != ref.incarnation:
            self._asked_at = {}
            return frozenset()
        pins = {pin.task_id: pin for pin in assignment.pins.values()}
        busy: dict[int, float] = {}
        for key in list(self.keys):
            pin = pins.get(key)
            if pin is not None:
                if pin.owner == ref.name and pin.target is not None:
                    busy[pin.id] = self._asked_at.get(pin.id, now)
                continue
            token = self._token_of(key)
            at = assignment.owner[token]
            if at == ABSENT or (token in assignment.targets and at >= 0 and assignment.names[at] == ref.name):
                busy[token] = self._asked_at.get(token, now)
        self._asked_at = busy
        return frozenset(token for token, since in busy.items() if now - since < self._handover_timeout_sec)
