"""One order for the events of several processes, each of which took effect at some moment between two times.

Real processes know when a call of the store began and when its answer came, not when the store carried it out. So a recorded run
is a set of ``Occurrence``. ``merged`` looks for an order that the specification accepts, as a test of linearizability does:

- what had ended before another began comes before it;
- the events of one agent stay in the order in which it made them, under its lock;
- the store's own numbers decide between calls at one time: a heartbeat comes at the version that its answer had, and makes the
  counter that its answer had; a commit comes at the version from which it was planned, and within its term. So a commit waits for
  all heartbeats at the version that it replaces, a new term for all commits of the one before, and the end of a record for all
  calls of its run.

What is left is tried, and what the specification refuses for now waits. No order at all is a refusal.

A call whose answer never came (its process was killed, or the call timed out) may have been carried out, then or later, or never.
It is taken into account if nothing else explains what follows. The version that such a commit made is one that others have read.
A term that only such a call can have begun, of which a later term is known, was begun by it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import attrs
from tests.traces.specification import Event, Refused, Specification
from tests.traces.state import NEVER

__all__ = ['Occurrence', 'merged']

_IN_TURN = ('arrive', 'commit', 'lead', 'join', 'declare', 'leave', 'die')
"""Of calls at one time the first of these that is accepted comes first."""
_MOST_GUESSES = 2
"""How many calls of unknown outcome may explain one event."""


@attrs.frozen(eq=False)
class Occurrence:
    """One event of one process."""

    event: Event
    begin: float
    end: float
    """Infinite if the outcome is not known."""
    process: str

    @property
    def is_certain(self) -> bool:
        """Whether it has happened."""
        return self.end < float('inf')

    @property
    def is_of_agent(self) -> bool:
        """Whether an agent has made it, under its lock; otherwise it is of the store, or the end of a process."""
        return self.event['do'] not in _IN_TURN

    @property
    def turn(self) -> tuple[int, float]:
        """When it is tried, among others at the same time."""
        return (-1 if self.is_of_agent else _IN_TURN.index(self.event['do']), self.end)


def merged(first: Event, occurrences: Iterable[Occurrence]) -> list[Event]:
    """Return a trace of these events that the specification accepts. Raises ``Refused`` if there is none.

    Args:
        first: The event with which the trace begins.
        occurrences: All other events. Those of one agent are in their order.
    """
    found = list(occurrences)
    try:
        return list(_Merger(first, found).run())
    except Refused:
        # t=0  a takes the term 5, and is killed before the answer comes
        # t=1  b knows that a is dead, and deregisters it: nothing has shown yet that a led
        # t=2  b takes the term 6, and a, which is deregistered, cannot have taken the one before
        if (known := _with_terms_that_were_ended(found)) == found:
            raise
        return list(_Merger(first, known).run())


def _with_terms_that_were_ended(found: Sequence[Occurrence]) -> list[Occurrence]:
    """Return the events with each call that must have begun a term as one that has ended before the next term was taken."""
    leads = [each for each in found if each.event['do'] == 'lead']
    certain = {each.event['epoch'] for each in leads if each.is_certain}
    runs = {
        epoch: {each.event['run'] for each in leads if each.event['epoch'] == epoch} for epoch in range(max(certain, default=0))
    }

    def known(each: Occurrence) -> Occurrence:
        if each not in leads or each.event['epoch'] in certain or len(runs.get(each.event['epoch'], ())) != 1:
            return each
        return attrs.evolve(each, end=min(other.end for other in leads if other.event['epoch'] > each.event['epoch']))

    return [known(each) for each in found]


class _Merger:
    """The state of one merge."""

    def __init__(self, first: Event, occurrences: Iterable[Occurrence]) -> None:
        self._first, self._specification = first, Specification(first)
        self._coming = sorted(occurrences, key=lambda each: each.begin)  # which leaves those of one agent in their order
        self._coming.reverse()
        self._ready: list[Occurrence] = []
        self._number = 1
        self._left = Counter(chain.from_iterable(_needs(each.event) for each in self._coming if each.is_certain))
        """How many certain events are left that need a version, an epoch or a run."""

    def run(self) -> Iterator[Event]:
        yield self._first
        while ready := self._next():
            self._number += 1
            refusals = []
            for each in ready:
                if (refusal := self._waits(each.event) or _refusal(self._specification, each.event)) is None:
                    yield self._taken(each)
                    break
                refusals.append((each, refusal))
            else:
                yield from self._guessed(ready, refusals)

    def _waits(self, event: Event) -> str | None:
        """Return why another event that is still to come must come before this one; None if none has to."""
        specification, over = self._specification, ('run', event.get('run'))
        match event['do']:
            case 'commit':
                over = 'version', specification.version
            case 'lead' if event['epoch'] > specification.epoch:  # a call repeated because its answer was lost ends no epoch
                over = 'epoch', specification.epoch
            case 'join':
                over = 'run', specification.record.get(event['name'])
            case 'declare' | 'leave':
                pass
            case _:
                return None
        return f'another call needs {" ".join(map(str, over))}' if self._left[over] else None

    def _taken(self, occurrence: Occurrence) -> Event:
        self._ready.remove(occurrence)
        self._left.subtract(_needs(occurrence.event))
        return {'at': occurrence.begin, **occurrence.event}

    def _next(self) -> list[Occurrence]:
        """Return the certain events that may come next, in the order in which they are tried."""
        limit = min((each.end for each in self._ready if each.is_certain), default=NEVER)
        while self._coming and (self._coming[-1].begin <= limit or limit == NEVER):
            each = self._coming.pop()
            self._ready.append(each)
            if each.is_certain:
                limit = each.end if limit == NEVER else min(limit, each.end)
        found, agents = list[Occurrence](), set[str]()
        for each in self._ready:
            if not each.is_certain or each.begin > limit or (each.is_of_agent and each.process in agents):
                continue
            if each.is_of_agent:
                agents.add(each.process)
            found.append(each)
        return sorted(found, key=lambda each: each.turn)

    def _guessed(self, ready: Sequence[Occurrence], refusals: Sequence[tuple[Occurrence, str]]) -> Iterator[Event]:
        """Yield calls of unknown outcome that have to have been carried out, if one of the events is to follow."""
        events = [each.event for each in ready]
        if skipped := list(self._skipped_beats(ready)):
            # t=0  three heartbeats of a get no answer; the store has carried out the last, by which a has released a token
            # t=1  the token is given away: whichever of the three made the counter rise, it was the one that released it
            yield from self._carried_out(*next((each for each in skipped if self._explains(each[1], events)), skipped[0]))
            return
        # Of calls that are the same any one may be the one, and a store that was away has left many.
        unknown = list({repr(each.event): each for each in reversed(self._ready) if not each.is_certain}.values())
        tries = (_explanation(self._specification, unknown, events, most) for most in range(1, _MOST_GUESSES + 1))
        guesses = next((found for found in tries if found is not None), None)
        if guesses is None:
            each, refusal = min(refusals, key=lambda pair: pair[0].end)
            raise Refused(f'event {self._number}, {each.event["do"]} of {each.event.get("run", "the store")}: {refusal}')
        for occurrence, event in guesses:
            yield from self._carried_out(occurrence, event)

    def _explains(self, event: Event, refused: Sequence[Event]) -> bool:
        """Return whether one of the refused events is allowed once this one was carried out."""
        tried = _copied(self._specification)
        return _refusal(tried, event) is None and any(_refusal(_copied(tried), each) is None for each in refused)

    def _skipped_beats(self, ready: Sequence[Occurrence]) -> Iterator[tuple[Occurrence, Event]]:
        """Yield the heartbeats of unknown outcome of runs whose next known one has counted more than itself."""
        runs = self._specification.runs
        counts = {each.event['run']: each.event['counter'] for each in ready if each.event['do'] == 'arrive'}
        for each in self._ready:
            event, run = each.event, runs.get(each.event['run'])
            if (
                not each.is_certain
                and event['do'] == 'arrive'
                and run is not None
                and counts.get(event['run'], 0) > run.beats + 1
            ):
                for outcome in _outcomes(self._specification, event, ()):
                    if _refusal(_copied(self._specification), outcome) is None:
                        yield each, outcome

    def _carried_out(self, occurrence: Occurrence, event: Event) -> Iterator[Event]:
        refusal = _refusal(self._specification, event)
        assert refusal is None, refusal
        self._ready.remove(occurrence)
        yield {'at': occurrence.begin, **event}


def _needs(event: Event) -> Iterator[tuple[str, Any]]:
    """Yield what must not be over yet when an event comes."""
    if event['do'] in {'arrive', 'commit', 'lead'}:
        yield 'run', event['run']
    if event['do'] == 'arrive':
        yield 'version', event['at_version']
    if event['do'] == 'commit':
        yield 'epoch', event['epoch']


def _refusal(specification: Specification, event: Event) -> str | None:
    """Carry out an event; return why it is not allowed now, None if it was carried out."""
    if event['do'] == 'arrive' and event['at_version'] != specification.version:
        return f'the version is {specification.version}'
    try:
        specification.step({'at': event.get('clock', NEVER), **event})
    except Refused as refused:
        return str(refused)
    except KeyError as missing:
        return f'there is no run {missing} yet'
    return None


def _explanation(
    specification: Specification, unknown: Sequence[Occurrence], refused: Sequence[Event], most: int
) -> list[tuple[Occurrence, Event]] | None:
    """Return ``most`` calls of unknown outcome after which one of the refused events is allowed, with what they have changed."""
    for occurrence in sorted(unknown, key=lambda each: each.turn):
        for event in _outcomes(specification, occurrence.event, refused):
            tried = _copied(specification)
            if _refusal(tried, event) is not None:
                continue
            if most == 1:
                if any(_refusal(_copied(tried), each) is None for each in refused):
                    return [(occurrence, event)]
                continue
            others = [each for each in unknown if each is not occurrence]
            if (rest := _explanation(tried, others, refused, most - 1)) is not None:
                return [(occurrence, event), *rest]
    return None


def _outcomes(specification: Specification, event: Event, refused: Sequence[Event]) -> Iterator[Event]:
    """Yield what a call of unknown outcome may have changed: what the store's answer would have said is filled in."""
    run: Any = specification.runs.get(event['run'])
    match event['do']:
        case 'arrive' if 'counter' not in event:
            if run is not None:
                yield {**event, 'counter': run.beats + 1, 'at_version': specification.version}
        case 'commit' if 'version' not in event:
            named = chain.from_iterable((each.get('base'), each.get('at_version'), each.get('version')) for each in refused)
            for version in dict.fromkeys(named):
                if version is not None and version not in specification.versions:
                    yield {**event, 'version': version}
        case _:
            yield event


def _copied(specification: Specification) -> Specification:
    """Return a copy that shares the versions, which never change."""
    return copy.deepcopy(specification, {id(each): each for each in specification.versions.values()})
