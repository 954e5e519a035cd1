"""Which tokens would move if nodes came or went: a plan that is not committed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping

from jobsync._cluster.reading import ClusterReading
from jobsync._core.assignment import ABSENT, UNOWNED, Assignment
from jobsync._core.leader.pins import in_force
from jobsync._core.patterns import NodeNames
from jobsync._core.planner.rebalance import FREE, PinRequest, rebalance
from jobsync._core.redact import listed
from jobsync.errors import ConfigError
from jobsync.rows import Forecast

__all__ = ['forecast']


def forecast(reading: ClusterReading, added: Mapping[str, float], removed: Collection[str]) -> Forecast:
    """Return what the leader would plan, once all is settled, if nodes of these weights joined and others left.

    Raises:
        ConfigError: no node that remains or joins could own tokens.
    """
    assignment, pins = reading.assignment, reading.assignment.pins
    weights = _weights(reading, added, removed)
    receivers = frozenset(name for name, weight in weights.items() if weight > 0)
    if removed and not receivers:
        raise ConfigError(f'remove is {listed(removed)}: no other node at work or added could own the tokens')
    names, place = _settled(assignment)
    placement = rebalance(weights, names, place, assignment.home, _requests(reading, receivers))
    holders = {pin_id: pin.target or pin.owner for pin_id, pin in pins.items()}
    before = Counter(names[at] for at in place if at >= 0)
    before.update(holder for holder in holders.values() if holder)
    after = Counter(before)
    moved = 0
    for name, tokens in placement.moves.items():
        after[name] += len(tokens)
        after.subtract(names[place[token]] for token in tokens if place[token] >= 0)
        moved += len(tokens)
    for pin_id, new in placement.pins.items():
        if holders[pin_id] != new:
            moved += 1
            after.update([new] if new else [])
            after.subtract([was] if (was := holders[pin_id]) else [])
    return {
        'nodes': {
            name: {'weight': weights.get(name, 0.0), 'before': before[name], 'after': after[name]}
            for name in sorted({*weights, *filter(None, before)})
        },
        'moved': moved,
        'unmatched': sorted(pins[pin_id].task_id for pin_id, name in placement.pins.items() if name is None),
    }


def _weights(reading: ClusterReading, added: Mapping[str, float], removed: Collection[str]) -> dict[str, float]:
    """Return the weights by which the leader would share, 0 for a node that is to own nothing."""
    weights = {name: node.weight for name, node in reading.live.items() if name not in removed} | dict(added)
    weights.update(dict.fromkeys(weights.keys() & reading.drained.keys(), 0.0))
    stalled = {name for name, node in reading.live.items() if node.stalled and name in weights and name not in added}
    if any(weight > 0 and name not in stalled for name, weight in weights.items()):
        weights.update(dict.fromkeys(stalled, 0.0))
    return weights


def _settled(assignment: Assignment) -> tuple[list[str], array[int]]:
    """Return the names of nodes, and by token the place in them of the node that has it once every move under way has ended."""
    names, position = list(assignment.names), {name: at for at, name in enumerate(assignment.names)}
    # No token has a row before the first distribution. After it one without a row is given away as well, a timeout later.
    place = array('i', (FREE if at in (UNOWNED, ABSENT) else at for at in assignment.owner))
    for token, target in assignment.targets.items():
        if target:
            if target not in position:
                position[target] = len(names)
                names.append(target)
            place[token] = position[target]
    return names, place


def _requests(reading: ClusterReading, receivers: frozenset[str]) -> list[PinRequest]:
    policies = in_force(lock for lock in reading.locks.locks if lock.is_policy)
    choices = NodeNames(receivers).choices({lock.patterns for lock in policies.values()})
    return [
        PinRequest(pin.id, pin.target or pin.owner, choices[lock.patterns][1], pin.home, lock.group, lock.cost)
        for pin in reading.assignment.pins.values()
        if (lock := policies.get(pin.task_id)) is not None
    ]
