"""What the shares of items ought to be: by the oracle of the plan for items of equal cost, else by trying every placement."""

from __future__ import annotations

import itertools
import random
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import attrs
from tests.core.rebalance_oracle import Case, Cost, cost_of, items_of, optimum, outcome

from jobsync._core.planner.rebalance import PinRequest, Placement

__all__ = ['around_items', 'group_alone', 'least_most', 'most', 'random_items']


def random_items(rng: random.Random, names: Sequence[str], group: str, costs: Sequence[float] = (1.0,)) -> Iterator[PinRequest]:
    """Up to eight items of a group: anywhere now or nowhere, some with patterns, some with a home."""
    choices = [frozenset(names), frozenset(rng.sample(list(names), rng.randint(1, len(names))))]
    for number in range(rng.randint(1, 8)):
        place, home = rng.choice([None, 'gone', *names]), rng.choice([None, None, *names])
        yield PinRequest(1000 * ord(group) + number, place, rng.choice(choices), home, group, rng.choice(costs))


def group_alone(case: Case, plan: Placement, group: str) -> tuple[Cost, Cost]:
    """The cost of a plan for one group, with nothing else in the cluster, and the least there can be."""
    pins = tuple(pin._replace(group='') for pin in case.pins if pin.group == group)
    alone = Case(case.weights, (), array('i'), array('i'), pins)
    placed = outcome(alone, Placement({}, {pin.id: plan.pins[pin.id] for pin in pins}))
    return cost_of(alone, items_of(alone), placed), optimum(alone)


def around_items(case: Case, plan: Placement) -> tuple[Cost, Cost]:
    """The cost of a plan for the tokens and the other pins, with the items where it puts them, and the least there can be."""
    pins = []
    for pin in case.pins:
        at = plan.pins[pin.id]
        pins.append(pin._replace(place=at, allowed=frozenset([at]) if at else frozenset()) if pin.group else pin)
    around = attrs.evolve(case, pins=tuple(pins))
    return cost_of(around, items_of(around), outcome(around, plan)), optimum(around)


def most(weights: Mapping[str, float], pins: Sequence[PinRequest], placed: Mapping[int, str | None]) -> Fraction:
    """The highest load of a node for each unit of its weight."""
    load: defaultdict[str | None, Fraction] = defaultdict(Fraction)
    for pin in pins:
        load[placed[pin.id]] += Fraction(pin.cost)
    return max((amount / Fraction(weights[node]) for node, amount in load.items() if node is not None), default=Fraction())


def least_most(weights: Mapping[str, float], pins: Sequence[PinRequest]) -> Fraction:
    """The least that ``most`` can be."""
    choices: list[list[str | None]] = [[name for name in sorted(pin.allowed) if weights.get(name)] or [None] for pin in pins]
    ids = [pin.id for pin in pins]
    return min(most(weights, pins, dict(zip(ids, nodes, strict=True))) for nodes in itertools.product(*choices))
