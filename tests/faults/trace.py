"""What the workers of a fault run have done, from their logs, as one trace: see ``tests.traces``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
from tests.faults.grants import lease_clock_ahead
from tests.traces.merging import Occurrence, merged
from tests.traces.mutations import MUTATIONS, mutated
from tests.traces.specification import Event as TraceEvent
from tests.traces.specification import Refused
from tests.traces.trial import refusal

from jobsync.testing.worker_log import LoggedEvent

__all__ = ['Verdict', 'ends_trace', 'judged', 'occurrences']

UNTRACED = frozenset(
    (
        'the store killed, its memory gone', 'restored with its identity', 'restored from a dump', 'restored as another cluster',
        'failed over to a stale replica', 'flushed', 'token rows deleted', 'a node row deleted', 'any table edited',
        'a record spoilt', 'first start of twenty', 'the disk full',
    )
)  # fmt: skip
"""Faults that change the records of the store past every process, or may. A trace ends where the first of them begins."""
KILLED = frozenset(('the store killed', 'a member killed'))
"""These, too, where the store is etcd: one of a version before 3.5.5 may lose what it has acknowledged (docs/operate/etcd.md)."""
_INFINITE = float('inf')


def ends_trace(store: str, fault: str) -> bool:
    """Return whether a fault changes the records of a store past every process, or may."""
    return fault in UNTRACED or (fault in KILLED and store.startswith('etcd'))


def occurrences(run: str, events: Sequence[LoggedEvent], death: tuple[float, float] | None) -> Iterator[Occurrence]:
    """Yield what a worker has done, from its log. ``death``: between which times its process has ended, on the clock of logs."""
    calls: dict[int, LoggedEvent] = {}
    last, at = '', 0.0
    for line in events:
        match line['what']:
            case 'traced':
                event = line['event']
                last, at = event['run'], line['end']
                yield Occurrence(event, line['begin'], line['end'], run)
            case 'call':
                calls[line['number']] = line
            case 'done':
                call = calls.pop(line['number'])
                if line['event'] is not None:
                    yield Occurrence(line['event'], call['begin'], line['end'], run)
    for call in calls.values():
        yield Occurrence(call['event'], call['begin'], _INFINITE, run)
    if death is not None and last:
        ahead = lease_clock_ahead()
        yield Occurrence({'do': 'die', 'run': last}, max(at, death[0] + ahead), death[1] + ahead, run)


@attrs.frozen
class Verdict:
    """What the specification says of the trace of a run."""

    events: int = 0
    refusal: str = ''
    """Why there is no order of the events that it accepts; empty if there is one."""
    mutated: int = 0
    """How many mutated traces were judged."""
    accepted: tuple[str, ...] = ()
    """The mutations whose trace was accepted."""

    @property
    def is_right(self) -> bool:
        """Whether the trace is accepted and no mutated one is."""
        return not (self.refusal or self.accepted)


def judged(first: TraceEvent, found: Sequence[Occurrence], until: float) -> Verdict:
    """Judge what has happened until some moment, on the clock of logs, and each mutation of that."""
    limit = until + lease_clock_ahead()
    before = [each for each in found if each.begin <= limit and not (each.is_of_agent and each.end > limit)]
    before = [each if each.end <= limit else attrs.evolve(each, end=_INFINITE) for each in before]
    try:
        trace = merged(first, before)
    except Refused as refused:
        return Verdict(len(before), str(refused))
    changed = dict(mutated(trace, seed) for seed in range(len(MUTATIONS)))
    return Verdict(len(trace), '', len(changed), tuple(name for name, events in changed.items() if not refusal(events)))
