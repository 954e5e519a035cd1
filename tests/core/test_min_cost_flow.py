"""The network."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from jobsync._core.planner.min_cost_flow import FlowNetwork

Arc = tuple[int, int, int, int]
"""Tail, head, capacity, cost."""


def random_arcs(seed: int) -> list[Arc]:
    rng = random.Random(seed)
    pairs = [pair for pair in itertools.permutations(range(4), 2) if pair[1] != 0 and pair[0] != 1]
    return [(*rng.choice(pairs), rng.randint(0, 2), rng.randint(0, 3)) for _ in range(rng.randint(1, 6))]


def possible(arcs: list[Arc]) -> Iterator[tuple[int, int]]:
    """Amount and cost of every flow from 0 to 1."""
    for flows in itertools.product(*(range(capacity + 1) for _, _, capacity, _ in arcs)):
        excess = [0] * 4
        for (tail, head, _, _), flow in zip(arcs, flows, strict=True):
            excess[tail] -= flow
            excess[head] += flow
        if excess[2] == excess[3] == 0:
            yield excess[1], sum(flow * cost for (_, _, _, cost), flow in zip(arcs, flows, strict=True))


def test_most_for_least() -> None:
    """As much is sent as can be, at the least cost for that much, within all capacities."""
    for seed in range(300):
        arcs = random_arcs(seed)
        network = FlowNetwork(4)
        numbers = [network.add(*arc) for arc in arcs]
        network.send(0, 1)
        flows = [network.flow(number) for number in numbers]
        assert all(0 <= flow <= capacity for flow, (_, _, capacity, _) in zip(flows, arcs, strict=True))
        amount = sum(flow for flow, (_, head, _, _) in zip(flows, arcs, strict=True) if head == 1)
        cost = sum(flow * cost for flow, (_, _, _, cost) in zip(flows, arcs, strict=True))
        assert (-amount, cost) == min((-sent, paid) for sent, paid in possible(arcs)), seed


def test_what_flows_already_may_be_rerouted() -> None:
    """A flow to begin with is given up where another way round is needed."""
    network = FlowNetwork(4)
    network.add(0, 2, 2, flow=1)
    short = network.add(2, 1, 1, flow=1)
    around, last = network.add(2, 3, 1, 5), network.add(3, 1, 1)
    network.send(0, 1)
    assert [network.flow(arc) for arc in (short, around, last)] == [1, 1, 1]


def test_reachable() -> None:
    """What can be reached lies before the arcs without room."""
    network = FlowNetwork(4)
    network.add(0, 2, 5)
    network.add(2, 3, 1)
    network.add(3, 1, 1)
    network.send(0, 1)
    assert network.reachable(0) == {0, 2}


def test_amounts_do_not_matter() -> None:
    """A million units take one path at once; a path through many points needs no deep stack."""
    points = 5_000
    network = FlowNetwork(points)
    for point in range(2, points - 1):
        network.add(point, point + 1, 10**9)
    network.add(0, 2, 10**6)
    last = network.add(points - 1, 1, 10**9)
    network.send(0, 1)
    assert network.flow(last) == 10**6
