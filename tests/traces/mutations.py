"""Changes of a trace that no specification of this protocol may accept, whatever the trace is.

Each makes one change at one place, and its docstring says why the changed trace is illegal, from the events alone: no change here
is judged by ``specification``. A mutation of a trace that has no place for it is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from tests.traces.specification import Event

__all__ = ['MUTATIONS', 'Mutation', 'mutated']

Trace = Sequence[Event]
Mutation = Callable[[Trace, Random], list[Event] | None]


def _places(trace: Trace, *kinds: str) -> Iterator[tuple[int, Event]]:
    return ((at, event) for at, event in enumerate(trace) if event['do'] in kinds)


def _changed(trace: Trace, at: int, **fields: Any) -> list[Event]:
    return [*trace[:at], {**trace[at], **fields}, *trace[at + 1 :]]


def _answered(trace: Trace) -> list[tuple[int, int]]:
    """Return the places of each heartbeat that arrived and was answered: arrival, answer. Only of runs that register once."""
    joins = [event['run'] for _, event in _places(trace, 'join')]
    arrivals = {(event['run'], event['counter']): at for at, event in _places(trace, 'arrive') if joins.count(event['run']) == 1}
    answers = [(arrivals.get((event['run'], event['counter'])), at) for at, event in _places(trace, 'answer')]
    return [(arrival, at) for arrival, at in answers if arrival is not None]


def _claims_before(trace: Trace, at: int) -> frozenset[Any]:
    """Return what the run of an event last claimed before it."""
    run = trace[at]['run']
    return next((frozenset(event['claims']) for event in reversed(trace[:at]) if event.get('run') == run and 'claims' in event),
                frozenset())  # fmt: skip


def acknowledgement_removed(trace: Trace, random: Random) -> list[Event] | None:
    """A heartbeat that never arrived is answered: no other arrival of the run has the counter that the answer has."""
    if not (places := _answered(trace)):
        return None
    arrival, _ = random.choice(places)
    return [*trace[:arrival], *trace[arrival + 1 :]]


def answered_before_it_arrives(trace: Trace, random: Random) -> list[Event] | None:
    """A lease is granted before the store has the heartbeat, by whose counter the answer is known."""
    if not (places := _answered(trace)):
        return None
    arrival, answer = random.choice(places)
    return [*trace[:arrival], trace[answer], *trace[arrival:answer], *trace[answer + 1 :]]


def longer_lease(trace: Trace, random: Random) -> list[Event] | None:
    """A lease ends later than the heartbeat allows, which it ended by to the microsecond, and later than any before it."""
    if not (places := list(_places(trace, 'answer'))):
        return None
    at, event = random.choice(places)
    return _changed(trace, at, until=event['until'] + 0.5)


def clock_back(trace: Trace, random: Random) -> list[Event] | None:
    """A run reads its clock at an answer, and it shows an earlier time than when the heartbeat was sent."""
    sends = {(event['run'], event['clock']) for _, event in _places(trace, 'send')}
    places = [(at, event) for at, event in _places(trace, 'answer') if any(run == event['run'] for run, _ in sends)]
    if not places:
        return None
    at, event = random.choice(places)
    return _changed(trace, at, clock=min(clock for run, clock in sends if run == event['run']) - 1.0)


def old_epoch(trace: Trace, random: Random) -> list[Event] | None:
    """A commit is accepted that was planned in an earlier term than that in which it is accepted."""
    if not (places := list(_places(trace, 'commit'))):
        return None
    at, event = random.choice(places)
    return _changed(trace, at, epoch=event['epoch'] - 1)


def old_version(trace: Trace, random: Random) -> list[Event] | None:
    """A commit is accepted that was planned from a version before the present one: versions are never the same twice."""
    commits = list(_places(trace, 'commit'))
    if len(commits) < 2:
        return None
    number = random.randrange(1, len(commits))
    (_, before), (at, event) = commits[number - 1], commits[number]
    return _changed(trace, at, base=before['base']) if before['base'] != event['base'] else None


def versions_swapped(trace: Trace, random: Random) -> list[Event] | None:
    """Of two commits in a row the first makes the version of the second, which is planned from that of the first."""
    commits = list(_places(trace, 'commit'))
    pairs = [(one, two) for one, two in pairwise(commits) if two[1]['base'] == one[1]['version']]
    if not pairs:
        return None
    (one, first), (two, second) = random.choice(pairs)
    return _changed(_changed(trace, one, version=second['version']), two, version=first['version'])


def committed_by_another(trace: Trace, random: Random) -> list[Event] | None:
    """A run commits in a term that another run has taken: terms are never shared."""
    runs = sorted({event['run'] for _, event in _places(trace, 'join')})
    places = [(at, event) for at, event in _places(trace, 'commit') if any(run != event['run'] for run in runs)]
    if not places:
        return None
    at, event = random.choice(places)
    return _changed(trace, at, run=random.choice([run for run in runs if run != event['run']]))


def evicted_after_a_heartbeat(trace: Trace, random: Random) -> list[Event] | None:
    """A commit evicts a run at one heartbeat less than its record has, which only its present counter allows."""
    places = [(at, event) for at, event in _places(trace, 'commit') if event['evictions']]
    if not places:
        return None
    at, event = random.choice(places)
    (run, counter), *others = event['evictions']
    return _changed(trace, at, evictions=[[run, counter - 1], *others])


def given_without_release(trace: Trace, random: Random) -> list[Event] | None:
    """A token passes to its target in the commit that asks its owner for it: the owner cannot have acknowledged what was not yet.

    The owner is registered when the leader last looks, is not removed by this commit, and no other run takes its name in between.
    """
    places = []
    for at, event in _places(trace, 'commit'):
        looks = [place for place, look in _places(trace[:at], 'look') if look['run'] == event['run'] and 'whole' in look]
        if not looks or event['evictions'] or event['departed'] or event['absent'] or event['members']:
            continue
        nodes = trace[looks[-1]]['nodes']
        joined = {name for name, (_, _, is_joined) in nodes.items() if is_joined}
        taken = {join['name'] for _, join in _places(trace[looks[-1] : at], 'join')}
        asked = _asked_before(trace, at)
        for number, (tokens, owner, target) in enumerate(event['groups']):
            if target and owner in joined - taken and target in nodes and target != owner and asked.isdisjoint(tokens):
                places.append((at, number))
    if not places:
        return None
    at, number = random.choice(places)
    groups = list(trace[at]['groups'])
    tokens, _, target = groups[number]
    groups[number] = [tokens, target, None]
    return _changed(trace, at, groups=groups)


def _asked_before(trace: Trace, at: int) -> set[int]:
    """Return the tokens that had a target at the version from which a commit was planned."""
    targets: dict[int, Any] = {}
    for _, event in _places(trace[:at], 'commit', 'renew'):
        if event['do'] == 'renew':
            targets.clear()
            continue
        targets |= {token: target for tokens, _, target in event['groups'] for token in tokens}
    return {token for token, target in targets.items() if target is not None}


def claimed_while_it_is_given(trace: Trace, random: Random) -> list[Event] | None:
    """A leader that leaves gives its share away, and has not stopped claiming it."""
    names = {event['run']: event['name'] for _, event in _places(trace, 'join')}
    places = []
    for at, event in _places(trace, 'commit'):
        if event['members'].get(names.get(event['run']), '') is None:
            own = [place for place, other in enumerate(trace[:at]) if other.get('run') == event['run'] and 'claims' in other]
            if len(own) > 1 and not trace[own[-1]]['claims'] and trace[own[-2]]['claims'] and trace[own[-1]]['do'] == 'claims':
                places.append(own[-1])
    if not places:
        return None
    at = random.choice(places)
    return [*trace[:at], *trace[at + 1 :]]


def kept_at_the_reading(trace: Trace, random: Random) -> list[Event] | None:
    """A run reads a version that takes something from it, and goes on claiming that: a reading takes it."""
    places = [(at, event) for at, event in _places(trace, 'read') if _claims_before(trace, at) - frozenset(event['claims'])]
    if not places:
        return None
    at, _ = random.choice(places)
    return _changed(trace, at, claims=sorted(_claims_before(trace, at), key=str))


def gained_at_the_reading(trace: Trace, random: Random) -> list[Event] | None:
    """A run claims something when it reads that it is to have it, before its acknowledgement has arrived."""
    places = []
    for at, event in _places(trace, 'read'):
        later = next((other for other in trace[at + 1 :] if other.get('run') == event['run'] and 'claims' in other), None)
        if later is not None and frozenset(later['claims']) - _claims_before(trace, at):
            places.append((at, later['claims']))
    if not places:
        return None
    at, claims = random.choice(places)
    return _changed(trace, at, claims=claims)


def read_before_it_was_made(trace: Trace, random: Random) -> list[Event] | None:
    """A run reads a version that a later commit makes, in a store that has never gone back."""
    commits = list(_places(trace, 'commit'))
    end = next((at for at, _ in _places(trace, 'back')), len(trace))
    places = [(at, [later['version'] for place, later in commits if place > at]) for at, _ in _places(trace[:end], 'read')]
    places = [(at, later) for at, later in places if later]
    if not places:
        return None
    at, later = random.choice(places)
    return _changed(trace, at, version=random.choice(later))


def declared_alive(trace: Trace, random: Random) -> list[Event] | None:
    """A run is declared over between the arrival of its heartbeat and its answer, at which its process lives."""
    if not (places := _answered(trace)):
        return None
    arrival, _ = random.choice(places)
    declared = {'do': 'declare', 'run': trace[arrival]['run'], 'at': trace[arrival]['at']}
    return [*trace[: arrival + 1], declared, *trace[arrival + 1 :]]


def name_taken(trace: Trace, random: Random) -> list[Event] | None:
    """A run that has never read anything takes the name of one whose heartbeat has just arrived."""
    names = {event['run']: event for _, event in _places(trace, 'join')}
    places = [arrival for arrival, _ in _answered(trace)]
    if not places:
        return None
    at = random.choice(places)
    join = {**names[trace[at]['run']], 'run': 'usurper', 'replaces': [], 'at': trace[at]['at']}
    return [*trace[: at + 1], join, *trace[at + 1 :]]


MUTATIONS: Mapping[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        acknowledgement_removed, answered_before_it_arrives, longer_lease, clock_back, old_epoch, old_version, versions_swapped,
        committed_by_another, evicted_after_a_heartbeat, given_without_release, claimed_while_it_is_given,
        kept_at_the_reading, gained_at_the_reading,
        read_before_it_was_made, declared_alive, name_taken,
    )
}  # fmt: skip


def mutated(trace: Trace, seed: int) -> tuple[str, list[Event]]:
    """Return a mutated trace and which mutation it is: they take turns, and a trace without a place for one has the next."""
    random, names = Random(seed), list(MUTATIONS)
    for turn in range(len(names)):
        name = names[(seed + turn) % len(names)]
        if (found := MUTATIONS[name](trace, random)) is not None:
            return name, found
    raise ValueError('a trace in which nothing happens')
