"""Items of different costs: shared out so that no node is far above what it must have, with few moves.

To find the most even shares is NP-hard, and they would change with every node. So items stay where they are, within these bounds:

- Items without a place go to the node with the most room, the dearest first.
- *No node is over by more than the dearest item.* The nodes of a part could all have the same load for each unit of weight, the
  mean, if items could be divided. Items of nodes that have more than the mean and the dearest item go, along shortest paths, to
  nodes that have at most the mean (Gairing, Luecking, Mavronicolas and Monien 2004). If no path is left, the nodes over and all
  that their items may be on are a part of their own: its mean is higher, and no shares of its items come below it.
- *No item could go where it would be better off.* While a node is so far above another that the other would stay below it with
  the dearest item added, the highest gives the other the item that evens out most.

So the load of each node, for each unit of weight, is at most the optimum and the dearest item. Costs are integers here, in the
ratios of the costs given, so no rounding decides.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from operator import attrgetter

from jobsync._core.planner.apportionment import integers
from jobsync._core.planner.pins import PinRequest
from jobsync._core.planner.transport import FREE

__all__ = ['share_costs']

ItemPlaces = defaultdict[str | None, list[PinRequest]]
"""Items by where they are: a node, a name without a weight, or None."""

_ID, _COST = attrgetter('id'), attrgetter('cost')


class AllowedNodes(tuple[int, ...]):
    """The nodes that an item may be on, rising. There is one object for each choice, so the hash of the object will do."""

    __hash__ = object.__hash__

    def __init__(self, nodes: Sequence[int]) -> None:
        self.has = frozenset(nodes).__contains__
        """Returns whether a node is among them, sooner than the tuple does."""


def share_costs(items: Sequence[PinRequest], numbers: Mapping[str, int], weights: Sequence[int]) -> dict[int, int]:
    """Return the node of each item; ``FREE`` for an item that is allowed on none.

    ``numbers`` gives the nodes by name, in the order in which they win ties, and ``weights`` the weight of each.
    """
    alike: defaultdict[frozenset[str], ItemPlaces] = defaultdict(lambda: defaultdict(list))
    for item in items:  # the only loop over all of them
        alike[item.allowed][item.place].append(item)
    balance = _Balance(numbers, weights, items)
    unique: dict[tuple[int, ...], AllowedNodes] = {}
    choices: dict[frozenset[str], AllowedNodes] = {}
    loose: list[PinRequest] = []
    placed: dict[int, int] = {}
    for allowed, places in alike.items():
        found = AllowedNodes(sorted(numbers[name] for name in allowed if name in numbers))
        choice = choices[allowed] = unique.setdefault(tuple(found), found)
        for place, there in places.items():
            node = FREE if place is None else numbers.get(place, FREE)
            if choice.has(node):
                balance.put(there, choice, node)
            elif choice:
                loose += there
            else:
                placed.update(dict.fromkeys(map(_ID, there), FREE))
    balance.place(loose, choices)
    balance.settle({choice: choice for choice in unique.values() if choice})
    for node, on_node in enumerate(balance.on):
        for there in on_node.values():
            placed.update(dict.fromkeys(map(_ID, there), node))
    return placed


class _Balance:
    """The items on each node in the making. Loads are compared as integers, multiplied by the weights."""

    def __init__(self, numbers: Mapping[str, int], weights: Sequence[int], items: Sequence[PinRequest]) -> None:
        self.names, self.numbers, self.weights = [*numbers], numbers, weights
        counts = Counter(map(_COST, items))
        self.whole = dict(zip(counts, integers(counts), strict=True))
        """For each cost, the integer that it counts as."""
        self.total = sum(self.whole[cost] * count for cost, count in counts.items())
        self.dearest = max(self.whole.values())
        self.unit = max(weights) ** 2
        self.load = [0] * len(weights)
        self.on: list[defaultdict[AllowedNodes, list[PinRequest]]] = [defaultdict(list) for _ in weights]
        """For each node its items, by the nodes that they may be on."""

    def put(self, items: Sequence[PinRequest], choice: AllowedNodes, node: int) -> None:
        self.on[node][choice] += items
        self.load[node] += sum(map(self.whole.__getitem__, map(_COST, items)))

    def move(self, item: PinRequest, choice: AllowedNodes, node: int, to: int) -> None:
        """Put an item on another node that has been taken from ``on`` of its own."""
        self.load[node] -= self.whole[item.cost]
        self.put([item], choice, to)

    def settle(self, usable: Mapping[AllowedNodes, Sequence[int]]) -> None:
        """Move items until no more moves make the nodes more even."""
        # t=0  a light node has the least for its weight, and is given a dear item of a heavy node, which is over by more
        # t=1  that is better off on the heavy node, and goes back; another item has made room for it meanwhile, and stays there
        # t=2  the next plan finds the heavy node over as before, and moves the other item back, and so on for ever
        # So moves count only if the highest node gets lower, or of equals the next one. What is then left can go on no circle.
        while True:
            on = [{choice: [*items] for choice, items in there.items()} for there in self.on]
            load, before = [*self.load], self._heights()
            self.relieve(range(len(load)), usable)
            self.even_out()
            if self._heights() > before:
                continue
            self.on, self.load = [defaultdict(list, there) for there in on], load
            self.even_out()
            if self._heights() == before:
                return

    def _heights(self) -> list[int]:
        """Return the negative height of each node, those of the highest first: a greater list is of nodes that are more even."""
        return sorted(self._height(node)[0] for node in range(len(self.weights)))

    # --- items without a place ----------------------------------------------------------------------------------------------

    def place(self, loose: Iterable[PinRequest], choices: Mapping[frozenset[str], AllowedNodes]) -> None:
        """Put each of these items home if there is room, else where there is the most room; the dearest first."""
        whole = sum(self.weights)
        excess = [load * whole - weight * self.total for load, weight in zip(self.load, self.weights, strict=True)]
        least: dict[AllowedNodes, list[tuple[int, int]]] = {}
        coming: defaultdict[tuple[int, AllowedNodes], list[PinRequest]] = defaultdict(list)
        more_for = {cost: number * whole for cost, number in self.whole.items()}
        for item in sorted(sorted(loose, key=_ID), key=_COST, reverse=True):  # of equal cost, those with lower ids first
            choice, home, more = choices[item.allowed], item.home, more_for[item.cost]
            node = FREE if home is None else self.numbers.get(home, FREE)
            if node == FREE or not choice.has(node) or excess[node] + more > 0:
                heap = least.get(choice)
                if heap is None:
                    heap = least[choice] = [(excess[each], each) for each in choice]
                    heapify(heap)
                # Loads only rise here, so what is in the heap is too low, if wrong.
                while heap[0][0] != (now := excess[node := heap[0][1]]):
                    heapreplace(heap, (now, node))
            excess[node] += more
            coming[node, choice].append(item)
        for (node, choice), items in coming.items():
            self.put(items, choice, node)

    # --- no node over by more than the dearest item -------------------------------------------------------------------------

    def relieve(self, nodes: Sequence[int], usable: Mapping[AllowedNodes, Sequence[int]]) -> None:
        """Move items until no node of this part has more than the mean and the dearest item; of each part that is cut off, too.

        ``usable`` has the choices of the part's items, and which nodes of them are in this part.
        """
        while True:
            whole, total = sum(self.weights[node] for node in nodes), sum(self.load[node] for node in nodes)
            excess = {node: self.load[node] * whole - self.weights[node] * total for node in nodes}
            most = self.dearest * whole
            over = [node for node in nodes if excess[node] > most]
            if not over:
                return
            steps = self._steps([node for node in nodes if excess[node] <= 0], nodes, usable)
            if steps.keys().isdisjoint(over):
                break
            for node in sorted(steps, key=lambda node: (-steps[node], node)):
                for choice, ways in self._ways(node, steps, usable):
                    if excess[node] <= most:
                        break
                    items, order = self.on[node][choice], None
                    homes = {item.home for item in items}
                    for to in ways:  # once an item cannot go there, none can
                        home = self.names[to] if self.names[to] in homes else ''
                        if order != home:
                            self._sort(items, home)
                            order = home
                        while items and excess[node] > most and (steps[to] or excess[to] <= 0):
                            item = items.pop()
                            self.move(item, choice, node, to)
                            excess[node] -= self.whole[item.cost] * whole
                            excess[to] += self.whole[item.cost] * whole
        crowded = self._reached(over, usable)
        within: dict[AllowedNodes, Sequence[int]] = {}
        outside: dict[AllowedNodes, Sequence[int]] = {}
        for choice, here in usable.items():
            left = tuple(node for node in here if node not in crowded)
            (outside if left else within)[choice] = left or here
        self.relieve([node for node in nodes if node in crowded], within)
        self.relieve([node for node in nodes if node not in crowded], outside)

    def _sort(self, items: list[PinRequest], home: str) -> None:
        """Sort items so that the last goes first to a node: the dearest, of those one that has this home, then by their ids."""
        # t=0  a node that was alone has a hundred thousand items, and others join
        # t=1  if the dearest were searched for before each of the moves, the leader would plan for minutes; so it would if all
        #      were sorted anew for each of hundreds of newcomers, where none of the items has its home
        items.sort(key=lambda item: (item.cost, item.home == home, -item.id))

    def _steps(self, ends: Sequence[int], nodes: Sequence[int], usable: Mapping[AllowedNodes, Sequence[int]]) -> dict[int, int]:
        """Return for each node how many items have to move, each to the next node, until one reaches one of the ``ends``."""
        steps = dict.fromkeys(ends, 0)
        new = set(ends)
        while new:
            new = {
                node
                for node in nodes
                if node not in steps
                for choice, items in self.on[node].items()
                if items and choice in usable and not new.isdisjoint(usable[choice])
            }
            steps.update(dict.fromkeys(new, 1 + max(steps.values())))
        return steps

    def _ways(
        self, node: int, steps: Mapping[int, int], usable: Mapping[AllowedNodes, Sequence[int]]
    ) -> Iterator[tuple[AllowedNodes, Sequence[int]]]:
        """Yield the choices of a node's items that can take the next step, and where to."""
        for choice in sorted(choice for choice, items in self.on[node].items() if items and choice in usable):
            if ways := [to for to in usable[choice] if steps.get(to) == steps[node] - 1]:
                yield choice, ways

    def _reached(self, start: Iterable[int], usable: Mapping[AllowedNodes, Sequence[int]]) -> set[int]:
        """Return the nodes to which items of these nodes, and what they push aside, can go."""
        reached = set(start)
        new = list(reached)
        while new:
            choices = {choice for node in new for choice, items in self.on[node].items() if items and choice in usable}
            new = sorted(set(chain.from_iterable(usable[choice] for choice in choices)) - reached)
            reached.update(new)
        return reached

    # --- no item better off elsewhere ---------------------------------------------------------------------------------------

    def even_out(self) -> None:
        """Move items from the highest node, as long as one could take the dearest item and stay below it."""
        in_order: set[tuple[int, AllowedNodes]] = set()
        has_moved = True
        while has_moved:
            has_moved = False
            heap = [self._height(node) for node in range(len(self.weights))]
            heapify(heap)
            while heap:
                height, node = heappop(heap)
                if height != self._height(node)[0] or not (found := self._lower(node)):
                    continue
                has_moved = True
                choice, to, even = found
                for place in ((node, choice), (to, choice)):
                    if place not in in_order:
                        in_order.add(place)
                        self.on[place[0]][choice].sort(key=self._order)
                items = self.on[node][choice]
                item = items.pop(self._nearest(items, even, to))
                insort(self.on[to][choice], item, key=self._order)
                self.load[node] -= self.whole[item.cost]
                self.load[to] += self.whole[item.cost]
                heappush(heap, self._height(node))
                heappush(heap, self._height(to))

    def _height(self, node: int) -> tuple[int, int]:
        """Return a number that orders nodes by their load for each unit of weight, the highest first, and the node."""
        return -(self.load[node] * self.unit // self.weights[node]), node

    def _lower(self, node: int) -> tuple[AllowedNodes, int, int] | None:
        """Return the choice of an item that a node is to give, the node to which it goes, and the cost that would even them out.

        None if no node is so low.
        """
        weights, load = self.weights, self.load
        mine, weight = load[node], weights[node]
        found: tuple[int, AllowedNodes, int] | None = None
        for choice, items in sorted(self.on[node].items()):
            if items:
                gaps = [mine * weights[to] - load[to] * weight for to in choice]
                gap = max(gaps)
                if gap > self.dearest * weight and (found is None or gap > found[0]):
                    found = gap, choice, choice[gaps.index(gap)]
        if found is None:
            return None
        gap, choice, to = found
        return choice, to, gap // (weight + weights[to])

    def _order(self, item: PinRequest) -> tuple[float, int, int]:
        """Return the cost of an item, the node that has lost it by leaving or dying, if that is there, and its id."""
        return item.cost, self.numbers.get(item.home or '', FREE), item.id

    def _nearest(self, items: Sequence[PinRequest], cost: int, to: int) -> int:
        """Return the position of the item, of some in their order, whose cost is nearest to this one.

        Of several it is the first by their ids; of those that the node ``to`` has lost, if there are any.
        """
        # t=0  a node has a hundred thousand items, and one of them costs as much as half of the others together
        # t=1  if each of the thousands that it gives were searched for among all, the leader would plan for minutes
        above = bisect_left(items, cost, key=lambda item: self.whole[item.cost])
        off = {item.cost: abs(self.whole[item.cost] - cost) for item in items[max(0, above - 1) : above + 1]}
        least = min(off.values())
        found: list[tuple[bool, int, int]] = []
        for near in (near for near in off if off[near] == least):
            at = bisect_left(items, near, key=_COST)
            while at < len(items) and items[at].cost == near:
                _, home, item_id = self._order(items[at])
                found.append((home != to, item_id, at))
                at = bisect_left(items, (near, home + 1), lo=at, key=lambda item: self._order(item)[:2])
        return min(found)[2]
