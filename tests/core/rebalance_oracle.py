"""What a plan ought to be, worked out slowly and by other means than the planner's.

The optimum is found twice. ``exhaustive`` tries every placement. ``optimum`` inserts item by item, each along the cheapest
chain of hand-ings (Bellman-Ford over the nodes), which is the textbook's minimum-cost flow one unit at a time. Costs are
compared in the order promised: the sum of load * (load + 1) / (2 * weight), then moves, then moves of pins.
``unbalanced`` knows nothing of sums and looks for a chain that the promise forbids.
"""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction

import attrs

from jobsync._core.planner.rebalance import FREE, STUCK, PinRequest, Placement, rebalance

Cost = tuple[Fraction, int, int]


@attrs.frozen
class Case:
    """One call of the planner."""

    weights: Mapping[str, float]
    names: tuple[str, ...]
    place: array[int]
    home: array[int]
    pins: tuple[PinRequest, ...] = ()

    @property
    def nodes(self) -> list[str]:
        """The nodes that may own something."""
        return sorted(name for name, weight in self.weights.items() if weight > 0)

    def plan(self) -> Placement:
        """What the planner says."""
        return rebalance(self.weights, self.names, self.place, self.home, self.pins)


@attrs.frozen
class Item:
    """A token or a pin."""

    pin: bool
    now: str | None
    """The live node, of weight 0 perhaps, that has it."""
    allowed: tuple[str, ...]
    token: int = -1


def items_of(case: Case) -> list[Item]:
    """The items that can be placed at all: tokens by number, then pins as given."""
    nodes = tuple(case.nodes)
    items = []
    for token, position in enumerate(case.place):
        if position != STUCK:
            name = case.names[position] if position != FREE else None
            items.append(Item(pin=False, now=name if name in case.weights else None, allowed=nodes, token=token))
    for pin in case.pins:
        allowed = tuple(name for name in nodes if name in pin.allowed)
        if allowed:
            items.append(Item(pin=True, now=pin.place if pin.place in case.weights else None, allowed=allowed))
    return items if nodes else []


def move_cost(item: Item, node: str) -> tuple[int, int]:
    """Moves, and moves of pins."""
    moved = item.now is not None and item.now != node
    return int(moved), int(moved and item.pin)


def cost_of(case: Case, items: list[Item], placed: list[str]) -> Cost:
    """The cost of a placement of all items."""
    loads = Counter(placed)
    uneven = sum((Fraction(load * (load + 1)) / (2 * Fraction(case.weights[node])) for node, load in loads.items()), Fraction())
    moves = [move_cost(item, node) for item, node in zip(items, placed, strict=True)]
    return uneven, sum(move for move, _ in moves), sum(pin for _, pin in moves)


def exhaustive(case: Case) -> tuple[Cost, list[list[str]]]:
    """The least cost, and every placement that has it."""
    items = items_of(case)
    best: Cost | None = None
    outcomes: list[list[str]] = []
    for choice in itertools.product(*(item.allowed for item in items)):
        cost = cost_of(case, items, list(choice))
        if best is None or cost < best:
            best, outcomes = cost, []
        if cost == best:
            outcomes.append(list(choice))
    assert best is not None
    return best, outcomes


def optimum(case: Case) -> Cost:
    """The least cost, by cheapest chains. Costs are put into one integer, the first part weighing most."""
    items = items_of(case)
    nodes = case.nodes
    if not items:
        return Fraction(), 0, 0
    common = math.lcm(*(Fraction(case.weights[node]).numerator for node in nodes))
    step = {node: int(common / Fraction(case.weights[node])) for node in nodes}
    assert all(common / Fraction(case.weights[node]) == step[node] for node in nodes)
    big = len(items) + 1

    def cost(item: Item, node: str) -> int:
        moves, pins = move_cost(item, node)
        return moves * big + pins

    on: dict[str, list[int]] = {node: [] for node in nodes}
    for new, item in enumerate(items):
        reach = {node: (cost(item, node), [(new, node)]) for node in item.allowed}
        changed = True
        while changed:
            changed = False
            for here, other in itertools.permutations(nodes, 2):
                if here not in reach or (movable := [i for i in on[here] if other in items[i].allowed]) == []:
                    continue
                extra, chosen = min((cost(items[i], other) - cost(items[i], here), i) for i in movable)
                if other not in reach or reach[here][0] + extra < reach[other][0]:
                    reach[other] = (reach[here][0] + extra, [*reach[here][1], (chosen, other)])
                    changed = True
        end = min(reach, key=lambda node: reach[node][0] + (len(on[node]) + 1) * step[node] * big * big)
        for index, goal in reach[end][1]:
            for node in nodes:
                if index in on[node]:
                    on[node].remove(index)
            on[goal].append(index)
    where = {index: node for node in nodes for index in on[node]}
    return cost_of(case, items, [where[index] for index in range(len(items))])


def outcome(case: Case, plan: Placement) -> list[str]:
    """Where each item is after a plan; asserts that the plan is well formed."""
    where: dict[int, str] = {}
    for token, position in enumerate(case.place):
        if position >= 0:
            where[token] = case.names[position]
    moved = set()
    for node, tokens in plan.moves.items():
        assert case.weights[node] > 0
        assert isinstance(tokens, array)
        assert list(tokens) == sorted(set(tokens)) != []
        for token in tokens:
            assert token not in moved
            assert case.place[token] != STUCK
            assert where.get(token) != node
            moved.add(token)
            where[token] = node
    assert plan.pins.keys() == {pin.id for pin in case.pins}
    placed = [where[item.token] for item in items_of(case) if not item.pin] if case.nodes else []
    for pin in case.pins:
        allowed, chosen = pin.allowed & set(case.nodes), plan.pins[pin.id]
        assert chosen in allowed if allowed else chosen is None
        if chosen is not None:
            placed.append(chosen)
    assert case.weights.keys() >= set(placed)
    return placed


def unbalanced(case: Case, placed: list[str]) -> list[tuple[str, str]]:
    """The pairs of nodes between which a hand-ing, by a chain perhaps, would still improve the balance."""
    loads = Counter(placed)
    hands: dict[str, set[str]] = {node: set() for node in case.nodes}
    for item, node in zip(items_of(case), placed, strict=True):
        hands[node].update(item.allowed)
    wrong = []
    for start in case.nodes:
        seen, ahead = {start}, [start]
        while ahead:
            for other in hands[ahead.pop()] - seen:
                seen.add(other)
                ahead.append(other)
        wrong += [
            (start, end)
            for end in seen - {start}
            if loads[start] / Fraction(case.weights[start]) > (loads[end] + 1) / Fraction(case.weights[end])
        ]
    return wrong


def random_case(seed: int, most_nodes: int = 6, most_tokens: int = 12, most_pins: int = 10) -> Case:
    """A small case with a bit of everything."""
    rng = random.Random(seed)
    live = [f'n{number}' for number in range(rng.randint(1, most_nodes))]
    gone = [f'x{number}' for number in range(rng.randint(0, 2))]
    if rng.random() < 0.5:
        weights = dict.fromkeys(live, 1.0)
    else:
        weights = {name: rng.choice([1.0, 1.0, 2.0, 3.0, 0.5, 1.5, 0.1, 0.3]) for name in live}
    if rng.random() < 0.2:
        weights[rng.choice(live)] = 0.0
    names = [*live, *gone]
    rng.shuffle(names)
    skewed = rng.sample(range(len(names)), k=rng.randint(1, len(names)))
    specials = [FREE, STUCK] if rng.random() < 0.5 else []
    tokens = rng.randint(0, most_tokens)
    place = array('i', (rng.choice(skewed + specials) for _ in range(tokens)))
    hinted = rng.choice([0.0, 0.5, 1.0])
    home = array('i', (rng.randrange(len(names)) if rng.random() < hinted else -1 for _ in range(tokens)))
    return Case(
        weights, tuple(names), place, home, tuple(_random_pins(rng, names, rng.randint(0, most_pins), rng.choice([3, 3, 10])))
    )


def _random_pins(rng: random.Random, names: list[str], count: int, variety: int = 3) -> Iterator[PinRequest]:
    patterns = [frozenset(rng.sample(names, k=rng.randint(0 if rng.random() < 0.2 else 1, len(names)))) for _ in range(variety)]
    skewed = rng.sample(names, k=rng.randint(1, len(names)))
    for number in range(count):
        place = rng.choice(skewed) if rng.random() < 0.8 else None
        yield PinRequest(100 + number, place, rng.choice(patterns))


def improvable(case: Case, placed: list[str]) -> bool:
    """Whether some cycle of hand-ings makes a placement cheaper; for cases too large to solve.

    Costs as in ``optimum``. A point outside the nodes stands for an item more here and one less there.
    """
    nodes, items, loads = case.nodes, items_of(case), Counter(placed)
    common = math.lcm(*(Fraction(case.weights[node]).numerator for node in nodes))
    big = len(items) + 1
    step = {node: int(common / Fraction(case.weights[node])) * big * big for node in nodes}
    arcs: dict[tuple[str, str], int] = {}
    for item, node in Counter(zip((attrs.evolve(item, token=-1) for item in items), placed, strict=True)):
        moves, pins = move_cost(item, node)
        for other in item.allowed:
            other_moves, other_pins = move_cost(item, other)
            cost = (other_moves - moves) * big + other_pins - pins
            arcs[node, other] = min(cost, arcs.get((node, other), cost))
    for node in nodes:
        arcs[node, ''] = step[node] * (loads[node] + 1)
        if loads[node]:
            arcs['', node] = -step[node] * loads[node]
    reach = dict.fromkeys([*nodes, ''], 0)
    for _ in range(len(reach) + 1):
        before = dict(reach)
        for (tail, head), cost in arcs.items():
            reach[head] = min(reach[head], reach[tail] + cost)
        if reach == before:
            return False
    return True
