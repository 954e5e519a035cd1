"""Tokens go back to the node that lost them."""

from __future__ import annotations

import random
from array import array
from collections import Counter

import attrs
import pytest
from tests.core.rebalance_oracle import Case, cost_of, exhaustive, items_of, optimum, outcome, random_case

from jobsync._core.planner.rebalance import FREE, PinRequest


def carried_out(case: Case) -> Case:
    """The case after its plan, without the homes of tokens that are there."""
    place, home = case.place[:], case.home[:]
    for node, tokens in case.plan().moves.items():
        for token in tokens:
            place[token] = case.names.index(node)
            home[token] = -1 if home[token] == place[token] else home[token]
    return attrs.evolve(case, place=place, home=home)


def leaving(case: Case, *names: str) -> Case:
    """The case after these nodes have left, and what they had has been given away."""
    gone = {case.names.index(name) for name in names}
    home = array('i', (at if at in gone else back for at, back in zip(case.place, case.home, strict=True)))
    weights = {name: weight for name, weight in case.weights.items() if name not in names}
    return carried_out(attrs.evolve(case, weights=weights, home=home))


def settled(nodes: int, tokens: int, weights: tuple[float, ...] = (1.0,)) -> Case:
    """A cluster in balance."""
    names = tuple(f'n{number}' for number in range(nodes))
    shares = {name: weights[number % len(weights)] for number, name in enumerate(names)}
    return carried_out(Case(shares, names, array('i', [FREE]) * tokens, array('i', [-1]) * tokens))


def went_home(case: Case, placed: list[str]) -> int:
    """How many tokens come to their home by this placement."""
    return sum(
        item.now != node and case.home[item.token] >= 0 and case.names[case.home[item.token]] == node
        for item, node in zip(items_of(case), placed, strict=True)
        if not item.pin
    )


@pytest.mark.parametrize('weights', [(1.0,), (1.0, 2.0, 0.7)])
@pytest.mark.parametrize(('nodes', 'tokens'), [(2, 9), (7, 10_000), (12, 50_000), (40, 1_000), (20, 13)])
def test_leave_and_return(nodes: int, tokens: int, weights: tuple[float, ...]) -> None:
    """All that moves to a node that returns are tokens it had when it left."""
    before = settled(nodes, tokens, weights)
    for name in before.names:
        mine = {token for token, at in enumerate(before.place) if before.names[at] == name}
        back = attrs.evolve(leaving(before, name), weights=before.weights)
        moves = back.plan().moves
        assert len(mine) - 1 <= len(moves.get(name, ())) <= len(mine)
        assert set(moves.get(name, ())) <= mine


def test_return_after_a_newcomer() -> None:
    """A newcomer takes none of an absent node's tokens: only what it must give up itself is not coming home later."""
    before = settled(9, 9_000)
    mine = {token for token, at in enumerate(before.place) if before.names[at] == 'n4'}
    away = leaving(before, 'n4')
    others = {name: 1.0 for name in [*before.names, 'new'] if name != 'n4'}
    grown = attrs.evolve(away, weights=others, names=(*before.names, 'new'))
    assert not set(grown.plan().moves['new']) & mine
    moved = attrs.evolve(carried_out(grown), weights=others | {'n4': 1.0}).plan().moves['n4']
    assert len(moved) == 900
    assert len(set(moved) & mine) == 800


@pytest.mark.slow
def test_as_many_as_can_be() -> None:
    """Of all outcomes with the fewest moves, none brings more tokens home to the one node that returns."""
    for seed in range(250):
        rng = random.Random(seed)
        names = rng.sample(['a', 'b', 'c', 'd'], rng.randint(2, 4))
        tokens = rng.randint(1, 6)
        places = [*range(1, len(names)), *[FREE] * (rng.random() < 0.2)]
        case = Case(
            weights={name: rng.choice([1.0, 1.0, 2.0]) for name in names},
            names=tuple(names),
            place=array('i', (rng.choice(places) for _ in range(tokens))),
            home=array('i', (rng.choice([0, -1]) for _ in range(tokens))),
        )
        best, outcomes = exhaustive(case)
        placed = outcome(case, case.plan())
        assert cost_of(case, items_of(case), placed) == best, seed
        assert went_home(case, placed) == max(went_home(case, other) for other in outcomes), seed


def test_several_return() -> None:
    """When several nodes return at once, each gets its own tokens back as far as the fewest moves allow."""
    before = settled(6, 6_000)
    back = attrs.evolve(leaving(before, 'n1', 'n3', 'n5'), weights=before.weights)
    moves = back.plan().moves
    for name in ('n1', 'n3', 'n5'):
        assert {before.names[before.place[token]] for token in moves[name]} == {name}


def test_swapped_choices() -> None:
    """A token that only one node can take home leaves room for one that has no other way home."""
    names, home = ('a', 'b', 'c', 'd'), [2, 3, 2, -1]
    case = Case(dict.fromkeys(names, 1.0), names, array('i', [0, 0, 1, 1]), array('i', home))
    placed = outcome(case, case.plan())
    assert sorted(placed) == ['a', 'b', 'c', 'd']
    assert went_home(case, placed) == 2


def test_homes_of_absent_nodes_stay_spread() -> None:
    """Tokens without a home go before those whose home is absent."""
    names = ('a', 'b', 'gone')
    case = Case(dict.fromkeys('ab', 1.0), names, array('i', [0] * 6), array('i', [2, 2, -1, 2, -1, 2]))
    assert case.plan().moves == {'b': array('i', [0, 2, 4])}


def test_free_tokens_go_home_first() -> None:
    """A token without a place goes to its home if that gets any."""
    names = ('a', 'b', 'c')
    case = Case(dict.fromkeys(names, 1.0), names, array('i', [FREE] * 6), array('i', [2, 1, 0, 2, 1, 0]))
    assert case.plan().moves == {'a': array('i', [2, 5]), 'b': array('i', [1, 4]), 'c': array('i', [0, 3])}


def test_many_free_tokens() -> None:
    """In a long run of tokens without a place, those with a home go there and each token goes once."""
    names = ('a', 'b', 'c')
    home = array('i', [-1]) * 900 + array('i', [2]) * 100 + array('i', [-1]) * 2_000
    case = Case(dict.fromkeys(names, 1.0), names, array('i', [FREE]) * 3_000, home)
    assert Counter(outcome(case, case.plan())) == dict.fromkeys(names, 1_000)
    assert set(range(900, 1_000)) <= set(case.plan().moves['c'])


def test_homes_cost_no_moves() -> None:
    """A token stays away from its home if the balance does not ask for a move."""
    names = ('a', 'b')
    case = Case(dict.fromkeys(names, 1.0), names, array('i', [0, 0, 1, 1]), array('i', [1, 1, 0, 0]))
    assert case.plan().moves == {}


def test_homes_beside_pins() -> None:
    """A returning node gets its own tokens back beside its pins."""
    before = settled(5, 1_000)
    back = attrs.evolve(leaving(before, 'n2'), weights=before.weights)
    pins = [PinRequest(1_000 + number, None, frozenset({'n2', 'n3'})) for number in range(100)]
    plan = attrs.evolve(back, pins=tuple(pins)).plan()
    assert Counter(plan.pins.values())['n2'] > 0
    assert {before.names[before.place[token]] for token in plan.moves['n2']} == {'n2'}


# --- pins -------------------------------------------------------------------------------------------------------------------


def with_pins(case: Case, rng: random.Random, count: int) -> Case:
    """The case with pins in their places, each allowed on two nodes or more."""
    groups = [frozenset(rng.sample(case.nodes, rng.randint(2, len(case.nodes)))) for _ in range(4)]
    case = attrs.evolve(case, pins=tuple(PinRequest(10_000 + number, None, rng.choice(groups)) for number in range(count)))
    return pins_carried_out(case)


def pins_carried_out(case: Case) -> Case:
    """The case after its plan, pins included: those that lose their node by its death have their home there."""
    placed = case.plan().pins
    pins = []
    for pin in case.pins:
        at = placed[pin.id]
        left_by = pin.place if pin.place is not None and pin.place not in case.weights else pin.home
        pins.append(pin._replace(place=at, home=None if left_by == at else left_by))
    return attrs.evolve(carried_out(case), pins=tuple(pins))


@pytest.mark.parametrize(('nodes', 'tokens', 'pins'), [(3, 300, 20), (5, 1_000, 60), (9, 1_000, 40)])
def test_pins_leave_and_return(nodes: int, tokens: int, pins: int) -> None:
    """Where there are many more tokens than pins, what a node loses by leaving comes back to it, pins as well as tokens."""
    had = back = 0
    for seed in range(5):
        rng = random.Random(seed)
        before = with_pins(settled(nodes, tokens, (1.0, 2.0)), rng, pins)
        for name in before.names:
            mine = {pin.id for pin in before.pins if pin.place == name}
            gone = {at for at, other in enumerate(before.names) if other == name}
            home = array('i', (at if at in gone else back for at, back in zip(before.place, before.home, strict=True)))
            others = {other: weight for other, weight in before.weights.items() if other != name}
            away = pins_carried_out(attrs.evolve(before, weights=others, home=home))
            assert {pin.id for pin in away.pins if pin.home == name} == mine
            before = pins_carried_out(attrs.evolve(away, weights=before.weights))
            had, back = had + len(mine), back + len(mine & {pin.id for pin in before.pins if pin.place == name})
    assert back >= 0.97 * had > 0


@pytest.mark.parametrize('block', range(6))
def test_pins_go_home_at_no_cost(block: int) -> None:
    """With homes for pins too, the balance and the number of moves are the optimum, and so are the moves of pins elsewhere."""
    for seed in range(100 * block, 100 * block + 100):
        case, rng = random_case(seed), random.Random(seed)
        pins = tuple(pin._replace(home=rng.choice([None, *case.names])) for pin in case.pins)
        plan = attrs.evolve(case, pins=pins).plan()
        cost, best = cost_of(case, items_of(case), outcome(case, plan)), optimum(case)
        homeward = sum(pin.place in case.weights and plan.pins[pin.id] == pin.home != pin.place for pin in pins)
        assert cost[:2] == best[:2], seed
        assert cost[2] - homeward <= best[2], seed


def test_a_pin_goes_home_in_the_place_of_another() -> None:
    """Of two pins that may both go to the node that is back, the one goes that was lost by it."""
    both = frozenset('ab')
    pins = (PinRequest(10, 'a', both), PinRequest(11, 'a', both, home='b'))
    case = Case(dict.fromkeys('ab', 1.0), ('a', 'b'), array('i', []), array('i', []), pins)
    assert case.plan().pins == {10: 'a', 11: 'b'}


def test_a_pin_goes_home_in_the_place_of_a_token() -> None:
    """A node that is back gets the pin that it lost, and one token less."""
    pins = (PinRequest(10, 'a', frozenset('ab'), home='b'),)
    plan = Case(dict.fromkeys('ab', 1.0), ('a', 'b'), array('i', [0] * 3), array('i', [-1] * 3), pins).plan()
    assert plan.pins == {10: 'b'}
    assert plan.moves == {'b': array('i', [0])}


def test_a_pin_stays_away_from_home_where_nothing_is_to_move() -> None:
    """A pin's home is no reason to move anything."""
    pins = (PinRequest(10, 'a', frozenset('ab'), home='b'),)
    plan = Case(dict.fromkeys('ab', 1.0), ('a', 'b'), array('i', [1]), array('i', [-1]), pins).plan()
    assert (plan.pins, plan.moves) == ({10: 'a'}, {})
