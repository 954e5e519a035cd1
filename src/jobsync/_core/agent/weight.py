"""From the weight that a node is to have to the weight in its record."""

from __future__ import annotations

from jobsync._core.agent import commands
from jobsync._core.records import NodeRef

__all__ = ['WeightSync']

_FOREVER = float('inf')


class WeightSync:
    """One node's weight."""

    def __init__(self, weight: float) -> None:
        self.wanted = self._in_force = weight
        self._again_at = _FOREVER
        """When to give it again: a call that was given up may be carried out late, over one that came after it."""

    def begin_session(self) -> None:
        """What is registered next has the wanted weight, and no call of an earlier incarnation can change it."""
        self._in_force, self._again_at = self.wanted, _FOREVER

    def found(self, weight: float) -> None:
        """The record that was made for this incarnation has this weight: perhaps not the one that is wanted by now."""
        self._in_force = weight

    def due(self, now: float) -> float:
        """When to give it to the store."""
        return now if self.wanted != self._in_force else self._again_at

    def call(self, ref: NodeRef) -> commands.SetWeight:
        """What gives it."""
        return commands.SetWeight(ref, self.wanted)

    def given(self, weight: float, again_at: float) -> None:
        """The store has it, for as long as no call that was given up is carried out after this one."""
        self._in_force = weight
        self._again_at = _FOREVER if self._again_at == _FOREVER else again_at

    def failed(self, again_at: float) -> None:
        """Nobody knows whether the store has it, or will have."""
        self._again_at = again_at
