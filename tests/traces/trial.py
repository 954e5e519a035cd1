"""One seed: a trace that must be accepted, and a mutated one that must be refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
from tests.traces.mutations import mutated
from tests.traces.simulated import simulated
from tests.traces.specification import Event, Refused, check

__all__ = ['Trial', 'refusal', 'tried']


@attrs.frozen
class Trial:
    """What the specification says of the two traces of a seed."""

    seed: int
    events: int
    refusal: str
    """Why the trace was refused; empty if it was accepted."""
    mutation: str
    is_refused: bool
    """Whether the mutated trace was refused, at the change or after it."""

    @property
    def is_right(self) -> bool:
        """Whether both traces are judged as they should be."""
        return not self.refusal and self.is_refused

    def keep(self, folder: Path) -> None:
        """Write the two traces into a folder, an event a line."""
        trace = simulated(self.seed)
        for name, events in (('trace', trace), (self.mutation, mutated(trace, self.seed)[1])):
            (folder / f'{self.seed}-{name}.jsonl').write_text(''.join(json.dumps(event) + '\n' for event in events))


def refusal(events: Sequence[Event]) -> str:
    """Return why a trace is refused; empty if it is accepted."""
    try:
        check(events)
    except Refused as refused:
        return str(refused)
    return ''


def tried(seed: int) -> Trial:
    """Judge the two traces of a seed."""
    trace = simulated(seed)
    mutation, changed = mutated(trace, seed)
    return Trial(seed, len(trace), refusal(trace), mutation, bool(refusal(changed)))
