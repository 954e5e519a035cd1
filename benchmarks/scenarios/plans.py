"""Changes to a cluster, each as the arguments of a plan."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from benchmarks.libraries.placing import names_of
from jobsync._core.planner.rebalance import FREE, PinRequest, Placement, rebalance


@attrs.frozen
class Task:
    """The arguments of one plan, and those of the peer."""

    weights: dict[str, float]
    names: Sequence[str]
    place: array[int]
    home: array[int]
    pins: Sequence[PinRequest] = ()
    peer: str | None = None

    def plan(self) -> Placement:
        """Make the plan."""
        return rebalance(self.weights, self.names, self.place, self.home, self.pins)

    def then(self, plan: Placement) -> Task:
        """Return the task after the plan."""
        position = {name: number for number, name in enumerate(self.names)}
        place = self.place[:]
        for name, tokens in plan.moves.items():
            for token in tokens:
                place[token] = position[name]
        pins = [pin._replace(place=plan.pins[pin.id]) for pin in self.pins]
        return attrs.evolve(self, place=place, pins=pins)


def everyone(nodes: int, tokens: int, pins: Sequence[PinRequest] = ()) -> Task:
    """Make a task in which all nodes are present, and the tokens belong to them in turn."""
    names = names_of(nodes)
    place = array('i', range(nodes)) * (tokens // nodes) + array('i', range(tokens % nodes))
    return Task(dict.fromkeys(names, 1.0), names, place, array('i', [-1]) * tokens, pins)


def without(task: Task, gone: set[str]) -> Task:
    """Return the task without some nodes, as if they had never been present."""
    weights = {name: weight for name, weight in task.weights.items() if name not in gone}
    smaller = attrs.evolve(task, weights=weights)
    return smaller.then(smaller.plan())


def returning(task: Task, gone: set[str]) -> Task:
    """Return the task after some nodes have left and come back."""
    home = array('i', (position if task.names[position] in gone else -1 for position in task.place))
    return attrs.evolve(without(task, gone), weights=task.weights, home=home)


def join(nodes: int, tokens: int) -> Task:
    task = everyone(nodes, tokens)
    return attrs.evolve(without(task, {task.names[-1]}), weights=task.weights, peer='join')


def join_in_blocks(nodes: int, tokens: int) -> Task:
    task = join(nodes, tokens)
    return attrs.evolve(task, place=array('i', sorted(task.place)), peer=None)


def leave(nodes: int, tokens: int) -> Task:
    task = everyone(nodes, tokens)
    return attrs.evolve(task, weights=dict.fromkeys(task.names[:-1], 1.0), peer='leave')


def nothing(nodes: int, tokens: int) -> Task:
    return attrs.evolve(everyone(nodes, tokens), peer='nothing')


def first(nodes: int, tokens: int) -> Task:
    return attrs.evolve(everyone(nodes, tokens), place=array('i', [FREE]) * tokens, peer='first')


def one_back(nodes: int, tokens: int) -> Task:
    return returning(everyone(nodes, tokens), {names_of(nodes)[nodes // 2]})


def half_back(nodes: int, tokens: int) -> Task:
    return returning(everyone(nodes, tokens), set(names_of(nodes)[::2]))


def weighted_join(nodes: int, tokens: int) -> Task:
    task = join(nodes, tokens)
    weights = {name: 1.0 + number % 7 / 10 for number, name in enumerate(task.names)}
    joined = attrs.evolve(task, weights=weights, peer=None)
    return attrs.evolve(without(joined, {task.names[-1]}), weights=weights)


def single_pins(nodes: int, tokens: int) -> list[PinRequest]:
    """Return pins of 5 % of the tokens, each on one node."""
    only = [frozenset({name}) for name in names_of(nodes)]
    return [PinRequest(tokens + number, None, only[number % nodes]) for number in range(tokens // 20)]


def group_pins(nodes: int, tokens: int, groups: int = 20) -> list[PinRequest]:
    """Return pins of 5 % of the tokens, by overlapping patterns that match 50 to 100 nodes each."""
    names = names_of(nodes) * 2
    wide = [50 + 50 * group // groups for group in range(groups)]
    allowed = [frozenset(names[group * 37 % nodes :][: min(nodes, wide[group])]) for group in range(groups)]
    return [PinRequest(tokens + number, None, allowed[number % groups]) for number in range(tokens // 20)]


def pinned(pins: Callable[[int, int], list[PinRequest]], *, settled: bool) -> Callable[[int, int], Task]:
    """Make a task in which a node joins a cluster with pins, all placed or all new."""

    def make(nodes: int, tokens: int) -> Task:
        task = everyone(nodes, tokens, pins(nodes, tokens))
        if settled:
            before = without(task, {task.names[-1]})
            return attrs.evolve(before.then(before.plan()), weights=task.weights)
        return attrs.evolve(join(nodes, tokens), pins=task.pins, peer=None)

    return make


def crowded_pins(nodes: int, tokens: int) -> Task:
    """Make a task with all pins of a group on one of its nodes, twenty times more pins than tokens."""
    few = max(1, tokens // 400)
    pins = [pin._replace(place=min(pin.allowed)) for pin in group_pins(nodes, tokens)]
    return everyone(nodes, few, pins)


def items(nodes: int, count: int, groups: int = 1, costs: int = 1) -> list[PinRequest]:
    """Return items that any node may own, each on a random node. The dearest costs ``costs`` times the cheapest."""
    names = names_of(nodes)
    chance, anywhere = random.Random(nodes), frozenset(names)
    return [
        PinRequest(count + number, chance.choice(names), anywhere, None, f'group-{number % groups}', 1.0 + number % costs)
        for number in range(count)
    ]


def shared_items(nodes: int, count: int, **kinds: int) -> Task:
    """Make a task in which items are declared anew, in a cluster whose tokens are as many, and are shared out."""
    return everyone(nodes, count, items(nodes, count, **kinds))


def join_with_items(nodes: int, count: int, **kinds: int) -> Task:
    """Make a task in which a node joins a cluster that has shared its items out."""
    task = shared_items(nodes, count, **kinds)
    pins = [pin._replace(place=pin.place if pin.place != task.names[-1] else None) for pin in task.pins]
    before = without(attrs.evolve(task, pins=pins), {task.names[-1]})
    return attrs.evolve(before, weights=task.weights)


ITEMS: dict[str, Callable[[int, int], Task]] = {
    f'{what}, items{suffix}': partial(make, **kinds)
    for suffix, kinds in (('', {}), (' in 20 groups', {'groups': 20}), (' with costs', {'costs': 7}))
    for what, make in (('declared', shared_items), ('one joins', join_with_items))
}
"""The changes to a cluster with as many items as tokens."""
TASKS: dict[str, Callable[[int, int], Task]] = {
    'one joins': join,
    'one joins, blocks': join_in_blocks,
    'one joins, weights': weighted_join,
    'one leaves': leave,
    'nothing to do': nothing,
    'first plan': first,
    'one is back': one_back,
    'half are back': half_back,
    'one joins, pins on 1 node': pinned(single_pins, settled=True),
    'one joins, pins in 20 groups': pinned(group_pins, settled=True),
    'new pins on 1 node': pinned(single_pins, settled=False),
    'new pins in 20 groups': pinned(group_pins, settled=False),
    'crowded pins, few tokens': crowded_pins,
}
