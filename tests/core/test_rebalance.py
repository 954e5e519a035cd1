"""The plan: balanced, with the fewest moves, whatever the weights, the pins and the places before."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Sequence

import attrs
import pytest
from tests.core.rebalance_oracle import (
    Case,
    cost_of,
    exhaustive,
    improvable,
    items_of,
    optimum,
    outcome,
    random_case,
    unbalanced,
)

from jobsync._core.planner.rebalance import FREE, STUCK, PinRequest, rebalance

CROWDED = {'most_nodes': 9, 'most_tokens': 4, 'most_pins': 24}
"""Many pins and few tokens: pins in each other's way, and several prices."""


def nodes(count: int) -> list[str]:
    return [f'n{number:02}' for number in range(count)]


def ints(values: Sequence[int]) -> array[int]:
    return array('i', values)


def unhinted(weights: dict[str, float], place: Sequence[int], pins: Sequence[PinRequest] = ()) -> Case:
    return Case(weights, tuple(weights), ints(place), ints([-1] * len(place)), tuple(pins))


def loads(case: Case) -> Counter[str]:
    return Counter(dict.fromkeys(case.nodes, 0)) + Counter(outcome(case, case.plan()))


def after(case: Case) -> Case:
    """The same cluster once the plan has been carried out."""
    plan, place = case.plan(), case.place[:]
    for node, tokens in plan.moves.items():
        for token in tokens:
            place[token] = case.names.index(node)
    return attrs.evolve(case, place=place, pins=tuple(pin._replace(place=plan.pins[pin.id]) for pin in case.pins))


@pytest.mark.parametrize('block', range(10))
def test_optimum(block: int) -> None:
    """Balance, moves and moves of pins are exactly those of an independent optimum."""
    for seed in range(block * 200, block * 200 + 200):
        case = random_case(seed)
        items = items_of(case)
        assert cost_of(case, items, outcome(case, case.plan())) == optimum(case), seed


@pytest.mark.parametrize('block', range(10))
def test_optimum_among_crowded_pins(block: int) -> None:
    """The same where pins decide the balance."""
    for seed in range(block * 80, block * 80 + 80):
        case = random_case(seed, **CROWDED)
        items = items_of(case)
        assert cost_of(case, items, outcome(case, case.plan())) == optimum(case), seed


@pytest.mark.parametrize('size', [{}, CROWDED])
def test_resting_pins_are_placed_as_if_requested(size: dict[str, int]) -> None:
    """Pins that come counted are placed as they are when each is requested."""
    found = 0
    for seed in range(400):
        case = random_case(seed, **size)
        resting: dict[frozenset[str], dict[str | None, list[int]]] = {}
        requested = []
        for pin in case.pins:
            if pin.group or pin.home is not None or pin.id % 3 == 0:
                requested.append(pin)
            else:
                resting.setdefault(pin.allowed, {}).setdefault(pin.place, []).append(pin.id)
                found += 1
        plan = rebalance(case.weights, case.names, case.place, case.home, iter(requested), resting)
        assert plan == case.plan(), seed
    assert found > 400


@pytest.mark.parametrize('size', [{}, CROWDED])
def test_no_chain_improves(size: dict[str, int]) -> None:
    """Nothing can be handed on, by a chain perhaps, so that the balance gets better."""
    for seed in range(600):
        case = random_case(seed, **size)
        assert unbalanced(case, outcome(case, case.plan())) == [], seed


def test_oracle() -> None:
    """The oracle's optimum is what trying every placement finds."""
    tried = 0
    for seed in range(300):
        case = random_case(seed, most_nodes=3, most_tokens=4, most_pins=3)
        if case.nodes and items_of(case):
            assert optimum(case) == exhaustive(case)[0], seed
            tried += 1
    assert tried > 200


def test_oracle_sees_what_could_be_better() -> None:
    """The test for large cases finds fault with a placement exactly if it costs more than the optimum."""
    faults = 0
    for seed in range(400):
        case, rng = random_case(seed, most_nodes=3, most_tokens=5, most_pins=4), random.Random(seed)
        items = items_of(case)
        placed = [rng.choice(item.allowed) for item in items]
        if rng.random() < 0.5:
            placed = outcome(case, case.plan())
        if items:
            faulty = cost_of(case, items, placed) != optimum(case)
            assert improvable(case, placed) == faulty, seed
            faults += faulty
    assert 50 < faults < 350


@pytest.mark.parametrize('size', [{}, CROWDED])
def test_order_of_arguments(size: dict[str, int]) -> None:
    """The order of weights, names and pins makes no difference."""
    for seed in range(300):
        case, rng = random_case(seed, **size), random.Random(seed)
        names = rng.sample(case.names, len(case.names))
        positions = [names.index(name) for name in case.names]
        turned = Case(
            weights=dict(rng.sample(list(case.weights.items()), len(case.weights))),
            names=tuple(names),
            place=ints([positions[at] if at >= 0 else at for at in case.place]),
            home=ints([positions[at] if at >= 0 else at for at in case.home]),
            pins=tuple(rng.sample(case.pins, len(case.pins))),
        )
        assert turned.plan() == case.plan(), seed


@pytest.mark.parametrize('size', [{}, CROWDED])
def test_settled(size: dict[str, int]) -> None:
    """A plan carried out leaves nothing to do."""
    for seed in range(300):
        case = after(random_case(seed, **size))
        plan = case.plan()
        assert plan.moves == {}, seed
        assert plan.pins == {pin.id: pin.place for pin in case.pins}, seed


def test_arguments_stay_as_they_are() -> None:
    """Planning changes none of its arguments."""
    for seed in range(100):
        case = random_case(seed)
        place, home = case.place[:], case.home[:]
        case.plan()
        assert (case.place, case.home) == (place, home)


def test_pins_count_as_load() -> None:
    """2,000 pins on one of ten nodes with 10,000 tokens: that node has no token, the others share them all."""
    weights = dict.fromkeys(nodes(10), 1.0)
    pins = [PinRequest(10_000 + number, None, frozenset({'n03'})) for number in range(2_000)]
    case = unhinted(weights, [token % 10 for token in range(10_000)], pins)
    plan = case.plan()
    assert set(plan.pins.values()) == {'n03'}
    assert sum(map(len, plan.moves.values())) == 1_000
    assert loads(case) == {'n00': 1_112, 'n03': 2_000} | {f'n0{number}': 1_111 for number in (1, 2, 4, 5, 6, 7, 8, 9)}


@pytest.mark.parametrize(('tokens', 'count'), [(10_000, 7), (10, 3), (1, 5), (3, 12), (0, 4), (7, 7)])
def test_equal_weights(tokens: int, count: int) -> None:
    """With equal weights loads differ by at most one, also with more nodes than tokens."""
    found = loads(unhinted(dict.fromkeys(nodes(count), 1.0), [FREE] * tokens))
    assert sum(found.values()) == tokens
    assert max(found[node] for node in nodes(count)) - min(found[node] for node in nodes(count)) == (tokens % count > 0)


def test_weights_are_shares() -> None:
    """Loads are in the ratio of the weights where whole tokens allow."""
    assert loads(unhinted({'a': 0.5, 'b': 1.0, 'c': 2.5}, [FREE] * 4_000)) == {'a': 500, 'b': 1_000, 'c': 2_500}


def test_weights_are_exact() -> None:
    """0.1 + 0.2 is a little more than 0.3, and that little decides who is next."""
    pair = {'a': 0.3, 'b': 0.1 + 0.2}
    assert loads(unhinted(pair, [FREE] * 3)) == {'a': 1, 'b': 2}
    assert loads(unhinted({'a': 0.3, 'b': 0.3}, [FREE] * 3)) == {'a': 2, 'b': 1}
    assert loads(unhinted({'a': 5e-324, 'b': 1e308}, [FREE] * 3)) == {'b': 3}


def test_weight_zero() -> None:
    """A node of weight 0 keeps nothing, and counts as absent for patterns."""
    pins = (
        PinRequest(10, 'b', frozenset({'b'})),
        PinRequest(11, 'b', frozenset({'a', 'b'})),
        PinRequest(12, 'c', frozenset({'b', 'c'})),
    )
    plan = unhinted({'a': 1.0, 'b': 0.0, 'c': 1.0}, [1, 1, 0, 2], pins).plan()
    assert plan.moves == {'a': ints([0]), 'c': ints([1])}
    assert plan.pins == {10: None, 11: 'a', 12: 'c'}


@pytest.mark.parametrize('weights', [{}, {'a': 0.0, 'b': 0.0}])
def test_nobody(weights: dict[str, float]) -> None:
    """Without a node that may own something, nothing moves and no pin has a place."""
    plan = rebalance(weights, ('a', 'b'), ints([0, 1, FREE]), ints([-1] * 3), [PinRequest(3, 'a', frozenset({'a'}))])
    assert plan.moves == {}
    assert plan.pins == {3: None}


def test_stuck() -> None:
    """Stuck tokens are neither moved nor counted."""
    assert unhinted({'a': 1.0, 'b': 1.0}, [STUCK] * 50 + [0, 0, 0, FREE]).plan().moves == {'b': ints([50, 53])}


def test_names_without_weight() -> None:
    """A token or pin at a name that is no live node is free."""
    case = Case(
        {'a': 1.0, 'b': 1.0}, ('gone', 'a', 'b'), ints([0, 0, 1]), ints([-1] * 3), (PinRequest(3, 'gone', frozenset('b')),)
    )
    assert case.plan().moves == {'a': ints([0]), 'b': ints([1])}
    assert case.plan().pins == {3: 'b'}


def test_lowest_stay_or_go() -> None:
    """A node sheds its lowest tokens and keeps its lowest pins."""
    plan = unhinted({'a': 1.0, 'b': 1.0}, [0] * 6).plan()
    assert plan.moves == {'b': ints([0, 1, 2])}
    pins = [PinRequest(number, 'a', frozenset('ab')) for number in (9, 7, 8, 6)]
    assert unhinted({'a': 1.0, 'b': 1.0}, [], pins).plan().pins == {6: 'a', 7: 'a', 8: 'b', 9: 'b'}


def test_tokens_come_from_few_others() -> None:
    """What each node gets comes from as few others as a run through all that they give: the plan has few groups of tokens.

    With tokens dealt out one by one, hundreds of nodes that join would each get tokens of dozens: each reading would bring
    thousands of groups.
    """
    place = [token * 7919 % 20 for token in range(3_000)]
    case = unhinted(dict.fromkeys(nodes(100), 1.0), place)
    ways = {(place[token], node) for node, tokens in case.plan().moves.items() for token in tokens}
    assert len(ways) <= 20 + 80 - 1


def test_pins_move_only_if_they_must() -> None:
    """A newcomer gets tokens, not pins that may stay where they are."""
    pins = [PinRequest(100 + number, 'a', frozenset('abc')) for number in range(10)]
    plan = unhinted({'a': 1.0, 'b': 1.0, 'c': 1.0}, [0] * 5 + [1] * 15, pins).plan()
    assert set(plan.pins.values()) == {'a'}
    assert plan.moves == {'c': ints([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])}


def test_pins_make_room_for_each_other() -> None:
    """A pin that has one choice left pushes aside one that has two, and no further."""
    pins = [
        *(PinRequest(number, 'a', frozenset('ab')) for number in range(3)),
        *(PinRequest(number, 'b', frozenset('bc')) for number in range(10, 12)),
        *(PinRequest(number, 'c', frozenset('c')) for number in range(20, 21)),
    ]
    placed = unhinted({'a': 1.0, 'b': 1.0, 'c': 1.0}, [], pins).plan().pins
    assert Counter(placed.values()) == {'a': 2, 'b': 2, 'c': 2}
    assert placed == {0: 'a', 1: 'a', 2: 'b', 10: 'b', 11: 'c', 20: 'c'}


@pytest.mark.parametrize('tokens', [50_000, 0])
@pytest.mark.parametrize('spread', [1, 30])
def test_large(tokens: int, spread: int) -> None:
    """30 nodes of uneven weight, many tokens and 5,000 pins, on few nodes or all over them: nothing could be better."""
    rng = random.Random(spread)
    names = nodes(30)
    weights = {name: rng.choice([1.0, 0.5, 1.5]) for name in names}
    patterns = [frozenset(rng.sample(names, k=rng.randint(1, 8))) for _ in range(12)]
    pins = [PinRequest(tokens + number, names[rng.randrange(spread)], patterns[number % 12]) for number in range(5_000)]
    case = unhinted(weights, [rng.randrange(20) for _ in range(tokens)], pins)
    placed = outcome(case, case.plan())
    assert unbalanced(case, placed) == []
    assert not improvable(case, placed)
