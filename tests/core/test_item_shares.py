"""The plan of items: each group balanced by itself, and tokens and locked tasks around it."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs
import pytest
from tests.core.item_oracle import around_items, group_alone, least_most, most, random_items
from tests.core.rebalance_oracle import Case, random_case

from jobsync._core.planner.rebalance import PinRequest, rebalance

NAMES = [f'n{number}' for number in range(10)]
EVEN = dict.fromkeys(NAMES, 1.0)
COSTS = (1.0, 1.0, 2.5, 0.3, 7.0)


def items(
    count: int, group: str = 'g', *, places: Sequence[str | None] = (None,), names: Sequence[str] = NAMES
) -> list[PinRequest]:
    allowed = frozenset(names)
    return [PinRequest(100 * ord(group) + n, places[n % len(places)], allowed, None, group) for n in range(count)]


def placed(weights: Mapping[str, float], pins: Sequence[PinRequest]) -> Mapping[int, str | None]:
    """Where items go in a cluster without tokens."""
    return rebalance(weights, (), array('i'), array('i'), pins).pins


def after(pins: Sequence[PinRequest], at: Mapping[int, str | None], names: Sequence[str] = NAMES) -> list[PinRequest]:
    """The items once the plan has been carried out, in a cluster of these nodes; those of other nodes are to come home."""
    return [
        pin._replace(
            place=at[pin.id] if at[pin.id] in names else None,
            allowed=frozenset(names),
            home=None if at[pin.id] in names else at[pin.id],
        )
        for pin in pins
    ]


def moved(before: Mapping[int, str | None], now: Mapping[int, str | None]) -> int:
    return sum(before[pin] != now[pin] for pin in before)


def with_items(seed: int, costs: Sequence[float] = (1.0,)) -> Case:
    """A small case with tokens, locked tasks and two groups of items."""
    rng, case = random.Random(seed), random_case(seed, most_nodes=5, most_tokens=8, most_pins=4)
    extra = [item for group in 'gh' for item in random_items(rng, sorted(case.weights), group, costs)]
    pins = [*case.pins, *extra]
    rng.shuffle(pins)
    return attrs.evolve(case, pins=tuple(pins))


@pytest.mark.parametrize('block', range(4))
def test_each_group_is_balanced_by_itself(block: int) -> None:
    """Balance and moves of a group are those of an independent optimum that knows nothing else; the rest is, around the items."""
    for seed in range(block * 60, block * 60 + 60):
        case = with_items(seed)
        plan = case.plan()
        for group in 'gh':
            found, best = group_alone(case, plan, group)
            assert found == best, (seed, group)
        found, best = around_items(case, plan)
        assert found == best, seed


def test_a_plan_carried_out_stands() -> None:
    """Once all is where a plan puts it, the next plan moves nothing, whatever the costs."""
    for seed in range(150):
        case = with_items(seed, COSTS if seed % 2 else (1.0,))
        plan, place = case.plan(), case.place[:]
        for node, tokens in plan.moves.items():
            for token in tokens:
                place[token] = case.names.index(node)
        pins = tuple(pin._replace(place=plan.pins[pin.id]) for pin in case.pins)
        again = attrs.evolve(case, place=place, pins=pins).plan()
        assert (again.moves, again.pins) == ({}, plan.pins), seed


def test_the_order_of_the_items_decides_nothing() -> None:
    """A plan is the same for the same items in any order."""
    for seed in range(100):
        case = with_items(seed, COSTS)
        mixed = list(case.pins)
        random.Random(seed).shuffle(mixed)
        assert attrs.evolve(case, pins=tuple(mixed)).plan() == case.plan(), seed


def test_twenty_on_ten() -> None:
    """20 items on 10 nodes are two each, from whatever the hash made of them."""
    rng = random.Random(7)
    pins = [pin._replace(place=rng.choice(NAMES)) for pin in items(20)]
    assert set(Counter(placed(EVEN, pins).values()).values()) == {2}


@pytest.mark.parametrize('count', [7, 20, 53])
def test_a_join_moves_the_newcomers_share_and_its_return_brings_it_home(count: int) -> None:
    """A newcomer gets floor(items / nodes), and nothing else moves. A node that goes and returns has the items it had."""
    pins = items(count)
    first = placed(EVEN, pins)
    grown = [*NAMES, 'new']
    joined = placed(dict.fromkeys(grown, 1.0), after(pins, first, grown))
    assert moved(first, joined) == count // len(grown)
    gone = after(pins, joined, NAMES)
    without = placed(EVEN, gone)
    assert moved(joined, without) == count // len(grown)
    back = [pin._replace(place=without[pin.id], allowed=frozenset(grown)) for pin in gone]
    again = placed(dict.fromkeys(grown, 1.0), back)
    assert [pin for pin in joined if joined[pin] == 'new'] == [pin for pin in again if again[pin] == 'new']


def test_groups_of_few_items_spread() -> None:
    """Ten groups of one item each are on ten nodes: a node that has an item of another group is not the first choice."""
    pins = [pin for group in 'abcdefghij' for pin in items(1, group)]
    assert len(set(placed(EVEN, pins).values())) == 10
    later = [*after(pins[5:], placed(EVEN, pins[5:])), *items(1, 'a')]  # a group that is the first by name, but declared later
    at = placed(EVEN, later)
    assert len(set(at.values())) == 6


def test_what_a_group_had_before_does_not_count() -> None:
    """Whether a node has few items is judged by those that it keeps: items of two more groups go to different nodes."""
    pins = [*items(4, 'a', places=['n1']), *items(1, 'b'), *items(1, 'c')]
    at = placed(dict.fromkeys(NAMES[:2], 1.0), pins)
    assert Counter(at.values()) == {'n0': 3, 'n1': 3}


def test_weights_and_patterns_hold() -> None:
    """A node of twice the weight has twice the items; items with patterns are on their nodes, and the others make room."""
    weights = {'n0': 2.0, 'n1': 1.0, 'n2': 1.0}
    assert Counter(placed(weights, items(12)).values()) == {'n0': 6, 'n1': 3, 'n2': 3}
    pins = items(12, places=['n0', 'n1', 'n2'])
    fixed = [pin._replace(allowed=frozenset({'n2'})) if number < 4 else pin for number, pin in enumerate(pins)]
    at = placed(dict.fromkeys(weights, 1.0), fixed)
    assert all(at[pin.id] == 'n2' for pin in fixed[:4])
    assert Counter(at.values()) == {'n0': 4, 'n1': 4, 'n2': 4}


def test_tokens_fill_the_rest() -> None:
    """A node with more items has fewer tokens, so that all have as much."""
    pins = [pin._replace(allowed=frozenset({'n0'})) for pin in items(6)]
    plan = rebalance({'n0': 1.0, 'n1': 1.0}, ('n0', 'n1'), array('i', [-1] * 14), array('i', [-1] * 14), pins)
    assert {node: len(tokens) for node, tokens in plan.moves.items()} == {'n0': 4, 'n1': 10}


@pytest.mark.parametrize('block', range(4))
def test_costs_are_near_the_optimum(block: int) -> None:
    """No node's load exceeds the least there can be by more than the dearest item, for each unit of weight."""
    for seed in range(block * 40, block * 40 + 40):
        rng = random.Random(seed)
        names = NAMES[: rng.randint(1, 3)]
        weights = {name: rng.choice([1.0, 1.0, 2.0, 0.3]) for name in names}
        pins = list(random_items(rng, names, 'g', COSTS))[:7]
        excess = most(weights, pins, placed(weights, pins)) - least_most(weights, pins)
        assert excess * min(map(float, weights.values())) <= max(pin.cost for pin in pins), seed


def test_costs_are_even() -> None:
    """Where every node will do, no node has so much that another would stay below it with the dearest item added."""
    for seed in range(40):
        rng = random.Random(seed)
        pins = [pin._replace(place=rng.choice(NAMES[:3]), cost=rng.choice(COSTS)) for pin in items(60)]
        at, load = placed(EVEN, pins), dict.fromkeys(NAMES, Fraction())
        for pin in pins:
            load[str(at[pin.id])] += Fraction(pin.cost)
        assert max(load.values()) - min(load.values()) <= max(COSTS)


@pytest.mark.parametrize(('length', 'more'), [(10, 0), (4, 1)])
def test_items_in_each_others_way_are_pushed_on(length: int, more: int) -> None:
    """A node that is over by more than an item gets rid of it, though every node that may have it has nearly as much.

    Each node of a row has one item more than the next, to which alone its items may go; those of the last must stay.
    """
    pins = [
        PinRequest(100 * n + k, NAMES[n], frozenset(NAMES[n : min(n + 2, length)]), None, 'g', 1.0 if k else 0.5)
        for n in range(length)
        for k in range(more + length - n)
    ]
    bounds = [
        sum(Fraction(pin.cost) for pin in pins if pin.allowed <= set(NAMES[:count])) / count for count in range(1, length + 1)
    ]
    assert most(EVEN, pins, placed(EVEN, pins)) <= max(bounds) + 1


def test_an_item_without_a_place_goes_home() -> None:
    """An item of a group with costs goes to the node that lost it, if there is room."""
    pins = [pin._replace(cost=1.0 + number % 2, home='n7') for number, pin in enumerate(items(10))]
    kept = [pin._replace(place='n0' if number else None) for number, pin in enumerate(pins)]
    assert placed(EVEN, kept)[kept[0].id] == 'n7'


def test_costs_join_moves_little() -> None:
    """A newcomer gets about its share of the costs, and nothing else moves."""
    pins = [pin._replace(cost=float(1 + number % 5)) for number, pin in enumerate(items(200))]
    first = placed(EVEN, pins)
    grown = [*NAMES, 'new']
    joined = placed(dict.fromkeys(grown, 1.0), after(pins, first, grown))
    gained = {pin for pin in joined if joined[pin] == 'new'}
    assert gained == {pin for pin in joined if joined[pin] != first[pin]}
    assert 600 / 11 - 5 <= sum(pin.cost for pin in pins if pin.id in gained) <= 600 / 11 + 5


class _Counted(float):
    """A cost that counts how often costs are compared, or looked up."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        _Counted.compared += 1
        return super().__lt__(other)

    def __gt__(self, other: float) -> bool:
        _Counted.compared += 1
        return super().__gt__(other)

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        _Counted.compared += 1
        return super().__hash__()


@pytest.mark.parametrize(('nodes', 'count'), [(2, 600), (200, 1000)])
def test_the_plan_for_more_nodes_does_not_search_all_items_for_each_that_moves(nodes: int, count: int) -> None:
    """A node that was alone has all items. To search for the dearest before each move took minutes for a hundred thousand.

    So did sorting them anew for each of hundreds of nodes.
    """
    names = [f'n{number}' for number in range(nodes)]
    alone = [PinRequest(n, 'n0', frozenset(names), None, 'g', _Counted(1 + n * 7919 % 1000)) for n in range(count)]
    _Counted.compared = 0
    plan = placed(dict.fromkeys(names, 1.0), alone)
    assert sum(plan[item.id] != 'n0' for item in alone) > count / 4
    assert _Counted.compared < 100 * count


def test_a_dear_item_does_not_have_all_others_searched_for_each_that_moves() -> None:
    """Nodes that differ by less than a dear item are evened out by cheap ones, of which a hundred thousand took minutes."""
    count = 1000
    alone = [PinRequest(n, 'n0', frozenset(['n0', 'n1']), None, 'g', _Counted(1 + n / count)) for n in range(count)]
    alone.append(PinRequest(count, 'n1', frozenset(['n1']), None, 'g', _Counted(count / 2)))
    _Counted.compared = 0
    plan = placed(dict.fromkeys(['n0', 'n1'], 1.0), alone)
    assert sum(plan[item.id] == 'n1' for item in alone) > count / 10
    assert _Counted.compared < 100 * count


def test_plans_for_items_of_different_costs_come_to_an_end() -> None:
    """Heavy nodes that have too much, and light ones on which an item is worse off, do not swap items for ever."""
    weights = {f'n{number}': 6.0 if number < 3 else 1.0 for number in range(6)}
    at = [('n4', '134'), ('n0', '12345'), ('n4', '1235'), ('n4', '1235'), (None, '12345'), ('n4', '12345'), ('n0', '1235')]
    pins = [
        PinRequest(n, place, frozenset(f'n{number}' for number in allowed), None, 'g', 1.0 if n == 5 else 50.0)
        for n, (place, allowed) in enumerate(at)
    ]
    for _ in range(2):
        plan = placed(weights, pins)
        before, pins = pins, [pin._replace(place=plan[pin.id]) for pin in pins]
    assert pins == before
