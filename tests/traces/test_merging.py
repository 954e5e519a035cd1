"""The order that is found for events of processes whose calls overlap."""

from __future__ import annotations

from itertools import pairwise, takewhile
from random import Random
from typing import Any

import attrs
import pytest
from tests.traces.merging import Occurrence, merged
from tests.traces.simulated import CONFIG, simulated
from tests.traces.specification import Event, Refused, Specification, check

OF_THE_STORE = ('arrive', 'commit', 'lead', 'join', 'declare', 'leave', 'die')
SHORT = attrs.evolve(CONFIG, nodes=4, storm_sec=100.0, calm_sec=20.0)
UNTRACED = ('back', 'renew', 'delete', 'delete_rows')
UNKNOWN = {'arrive': ('counter', 'at_version'), 'commit': ('version',)}
"""What only the answer to a call says."""
SEEDS = (9, 16, 24)
RELEASED = 12
"""A seed of which a heartbeat without an answer releases something."""
DEPOSED = 4
"""A seed of which a leader is replaced while there are others."""


def trace_of(seed: int) -> list[Event]:
    """The events of a simulated cluster, until its store is changed past the processes."""
    return list(takewhile(lambda event: event['do'] not in UNTRACED, simulated(seed, SHORT)))


def overlapping(trace: list[Event], random: Random) -> list[Occurrence]:
    """The events as processes know them: a call begins and ends anywhere between the events of its process around it."""
    found, of_run = list[Occurrence](), dict[str, list[int]]()
    for at, event in enumerate(trace):
        of_run.setdefault(event.get('run', ''), []).append(at)
    for at, event in enumerate(trace[1:], 1):
        begin = end = float(at)
        if event['do'] in OF_THE_STORE:
            others = [other for other in of_run[event['run']] if trace[other]['do'] not in OF_THE_STORE]
            begin = random.uniform(max((other for other in others if other < at), default=0), at)
            end = random.uniform(at, min((other for other in others if other > at), default=len(trace)))
        found.append(Occurrence(event, begin, end, event.get('run', '')))
    return found


@pytest.mark.parametrize('seed', SEEDS)
def test_overlapping_calls_are_put_in_order(seed: int) -> None:
    """For a trace whose calls overlap an order is found that the specification accepts, with the same events."""
    trace, random = trace_of(seed), Random(seed)
    occurrences = overlapping(trace, random)
    assert any(one.end > two.begin for one, two in pairwise(occurrences))
    found = merged(trace[0], occurrences)
    assert check(found) == len(trace)
    assert sorted(map(repr, found[1:])) == sorted(repr({'at': each.begin, **each.event}) for each in occurrences)


@pytest.mark.parametrize('kind', UNKNOWN)
def test_calls_without_an_answer_are_taken_into_account(kind: str) -> None:
    """A call whose answer never came has been carried out if what follows shows it."""
    trace, random = trace_of(SEEDS[0]), Random(0)
    occurrences = overlapping(trace, random)
    of_kind = [each for each in occurrences if each.event['do'] == kind]
    lost = of_kind[len(of_kind) // 2]
    event = {field: value for field, value in lost.event.items() if field not in UNKNOWN[kind]}
    others = [each for each in occurrences if each is not lost]
    with pytest.raises(Refused):
        merged(trace[0], others)
    found = merged(trace[0], [*others, Occurrence(event, lost.begin, float('inf'), lost.process)])
    assert {field: value for field, value in lost.event.items() if field != 'at'} in [_without_time(each) for each in found]


def test_of_heartbeats_without_an_answer_that_is_taken_which_explains_what_follows() -> None:
    """Some were carried out and some never; which ones shows by the counter, and by what was released."""
    trace, random = trace_of(RELEASED), Random(RELEASED)
    occurrences = overlapping(trace, random)
    arrivals = [each for each in occurrences if each.event['do'] == 'arrive']
    unanswered, never = random.sample(arrivals, 6), random.sample(arrivals, 6)
    answers = {(each.event['run'], each.event['counter']) for each in unanswered}
    others = [
        each
        for each in occurrences
        if each not in unanswered and (each.event['do'] != 'answer' or (each.event['run'], each.event['counter']) not in answers)
    ]
    unknown = [Occurrence(_unknown(each.event), each.begin, float('inf'), each.process) for each in (*unanswered, *never)]
    assert check(merged(trace[0], [*others, *unknown])) == len(others) + len(unanswered) + 1


def _unknown(event: Event) -> Event:
    return {field: value for field, value in event.items() if field not in UNKNOWN[event['do']]}


def test_a_term_whose_leader_dies_before_the_answer_comes() -> None:
    """It was begun, since a later one is known, and before others made known that its leader is dead."""
    trace = trace_of(DEPOSED)
    at = next(at for at, event in enumerate(trace) if event['do'] == 'lead' and event['epoch'] > 1)
    lead = trace[at]
    before = Specification(trace[0])
    for event in trace[1:at]:
        before.step({'at': 0.0, **event})
    other = next(run for run in before.record.values() if run != lead['run'] and not before.runs[run].is_over)
    following = [
        {'do': 'die', 'run': lead['run']},
        {'do': 'declare', 'run': lead['run']},
        {**lead, 'run': other, 'epoch': lead['epoch'] + 1},
    ]
    found = merged(trace[0], [
        *(Occurrence(event, float(place), float(place), event.get('run', '')) for place, event in enumerate(trace[1:at], 1)),
        Occurrence(lead, float(at), float('inf'), lead['run']),
        *(Occurrence(event, float(place), float(place), event['run']) for place, event in enumerate(following, at + 1)),
    ])  # fmt: skip
    assert [_without_time(each) for each in found[at:]] == [_without_time(each) for each in (lead, *following)]


def _without_time(event: Event) -> dict[str, Any]:
    return {field: value for field, value in event.items() if field != 'at'}


def test_a_call_that_ends_after_its_answer_is_taken_has_no_order() -> None:
    """A lease that an agent takes before the call has begun by which it is good is refused."""
    trace = trace_of(SEEDS[0])
    occurrences = overlapping(trace, Random(0))
    answer = next(each for each in occurrences if each.event['do'] == 'answer')
    arrival = next(
        each
        for each in occurrences
        if each.event['do'] == 'arrive'
        and (each.event['run'], each.event['counter']) == (answer.event['run'], answer.event['counter'])
    )
    late = Occurrence(arrival.event, answer.end + 0.5, answer.end + 1.0, arrival.process)
    with pytest.raises(Refused, match='no such heartbeat has arrived'):
        merged(trace[0], [late if each is arrival else each for each in occurrences])
