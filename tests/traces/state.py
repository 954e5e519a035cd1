"""What the functions of ``spec/protocol.tla`` have for one run and for one version, and how an event is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ['ABSENT', 'DRIFT', 'NEVER', 'NOTHING', 'SLACK', 'Assignment', 'Call', 'Refused', 'Run', 'need']

DRIFT = 0.05
"""How much faster than true time a clock may be: a run that by its fastest clock has a lease has one."""
SLACK = 1e-6
"""For sums of floating-point numbers."""
NEVER = float('-inf')
ABSENT = '#'
"""The owner of a token whose row was deleted. No node has this name."""


class Refused(Exception):
    """An event that the specification does not allow."""


@attrs.define
class Call:
    """A heartbeat under way."""

    sent: float
    version: str
    counters: set[int] = attrs.field(factory=set)
    """What the counter of the record became, for each time that the store carried the call out."""


@attrs.define
class Run:
    """What the module's functions of runs have for one run."""

    name: str
    timeout: float
    clock: float = NEVER
    at: float = NEVER
    """The true time at which the clock was last read."""
    until: float = NEVER
    mine: frozenset[Any] = frozenset()
    gains: frozenset[Any] = frozenset()
    known: str = ''
    """The version that it has read last; empty: that of a namespace in which nothing was committed."""
    lives: str = ''
    """The timeline it is registered in; empty: not yet in any, or not any more."""
    is_over: bool = False
    """It has ended, has left, or its process goes on as another run."""
    has_let_go: bool = False
    """It has given away what it owned, or has left: it claims nothing any more."""
    is_removed: bool = False
    """A commit has removed its record."""
    call: Call | None = None
    beats: int = 0
    replaces: set[str] = attrs.field(factory=set)
    """The runs that its record declares over."""
    opened: float | None = None
    """When it read its timeline first."""
    read: dict[str, tuple[str, int, float]] = attrs.field(factory=dict)
    """For each name the run and the counter that it last read of the record, and since when it reads so."""
    absent: dict[str, float] = attrs.field(factory=dict)
    """Since when it reads that a run is not registered."""
    rowless: dict[int, float] = attrs.field(factory=dict)
    """Since when it reads that a token has no row."""
    decided: dict[tuple[str, int], float] = attrs.field(factory=dict)
    """For each version and epoch from which it has planned, when it last did."""

    def certainly_has_lease(self, at: float) -> bool:
        """Return whether its lease runs at a true time, however fast its clock may be."""
        return not self.is_over and self.clock + (at - self.at) * (1 + DRIFT) < self.until


@attrs.frozen
class Assignment:
    """One version."""

    owner: Mapping[int, str | None]
    """For each token and pin the name that owns it, None for nobody."""
    target: Mapping[int, str | None]
    meant: Mapping[str, str]
    pins: Mapping[str, int]
    """The pin of each task that has one."""
    last: Mapping[int, str | None]
    """For each token without a row the run that owned it last."""

    def run(self, place: int) -> str | None:
        """Return the run that owns a token or pin (R5: a name owns for the run that it means); None if no run does."""
        owner = self.owner.get(place)
        return self.meant.get(owner) if owner else None


NOTHING = Assignment({}, {}, {}, {}, {})


def need(holds: object, what: str) -> None:
    """Refuse the event unless the condition holds."""
    if not holds:
        raise Refused(what)
