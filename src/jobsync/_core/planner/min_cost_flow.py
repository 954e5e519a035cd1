"""Minimum-cost flow by successive shortest paths, all paths of one cost at once.

The primal-dual method (Ford and Fulkerson, *Flows in Networks*, 1962; Ahuja, Magnanti and Orlin, *Network Flows*, 1993, section
9.8): find the cheapest path with room to the sink from every point (Bellman-Ford), send as much as fits along all cheapest paths
at once (Dinic's blocking flows: breadth first for the levels, then depth first along them), and repeat while the source reaches
the sink. Each round raises the cost of a path, and here few costs occur, so the time is a few passes over the arcs for any
amounts.

Arcs are numbered in pairs: ``arc ^ 1`` runs the other way, and its room is the flow on ``arc``.
"""

from __future__ import annotations

from collections import deque

__all__ = ['FlowNetwork']


class FlowNetwork:
    """Arcs with room and cost between numbered points, and the flow on them."""

    def __init__(self, points: int) -> None:
        self._out: list[list[int]] = [[] for _ in range(points)]
        self._head: list[int] = []
        self._room: list[int] = []
        self._cost: list[int] = []

    def add(self, tail: int, head: int, capacity: int, cost: int = 0, flow: int = 0) -> int:
        """Add an arc and return its number. The ``flow`` it begins with must be part of the cheapest flow of that amount."""
        arc = len(self._head)
        self._head += (head, tail)
        self._room += (capacity - flow, flow)
        self._cost += (cost, -cost)
        self._out[tail].append(arc)
        self._out[head].append(arc + 1)
        return arc

    def flow(self, arc: int) -> int:
        """Return how much flows through an arc now."""
        return self._room[arc ^ 1]

    def send(self, source: int, sink: int) -> None:
        """Send as much as the network carries, at the least cost for that much."""
        while True:
            costs = self._costs_to(sink)
            if costs[source] is None:
                return
            cheapest = self._cheapest(costs)
            while levels := self._levels(cheapest, source, sink):
                self._block(cheapest, levels, source, sink)

    def reachable(self, source: int) -> set[int]:
        """Return the points to which more could still be sent from ``source``."""
        seen, open_points = {source}, [source]
        while open_points:
            for arc in self._out[open_points.pop()]:
                head = self._head[arc]
                if self._room[arc] and head not in seen:
                    seen.add(head)
                    open_points.append(head)
        return seen

    def _costs_to(self, sink: int) -> list[int | None]:
        """Return the cost of the cheapest path with room from each point to the sink (Bellman-Ford by a queue)."""
        costs: list[int | None] = [None] * len(self._out)
        costs[sink] = 0
        queue, queued = deque([sink]), bytearray(len(self._out))
        out, heads, room, arc_costs = self._out, self._head, self._room, self._cost
        while queue:
            point = queue.popleft()
            queued[point] = 0
            here = costs[point] or 0
            for arc in out[point]:
                if room[arc ^ 1]:
                    tail, known = heads[arc], costs[heads[arc]]
                    cost = here - arc_costs[arc]
                    if known is None or cost < known:
                        costs[tail] = cost
                        if not queued[tail]:
                            queued[tail] = 1
                            queue.append(tail)
        return costs

    def _cheapest(self, costs: list[int | None]) -> list[list[int]]:
        """Return for each point the arcs on cheapest paths, and their reverses."""
        heads, arc_costs = self._head, self._cost
        chosen: list[list[int]] = []
        for point, arcs in enumerate(self._out):
            here = costs[point]
            chosen.append([])
            if here is not None:
                for arc in arcs:
                    there = costs[heads[arc]]
                    if there is not None and here == there + arc_costs[arc]:
                        chosen[-1].append(arc)
        return chosen

    def _levels(self, arcs: list[list[int]], source: int, sink: int) -> list[int]:
        """Return how many arcs each point is from the source (-1: not reached); empty if the sink is not reached."""
        levels = [-1] * len(arcs)
        levels[source] = 0
        queue = deque([source])
        while queue:
            point = queue.popleft()
            for arc in arcs[point]:
                head = self._head[arc]
                if levels[head] < 0 and self._room[arc]:
                    levels[head] = levels[point] + 1
                    if head == sink:
                        return levels
                    queue.append(head)
        return []

    def _block(self, arcs: list[list[int]], levels: list[int], source: int, sink: int) -> None:
        """Fill paths that go up one level at each step, until each has an arc without room."""
        heads, room = self._head, self._room
        tried = [0] * len(arcs)
        path: list[int] = []
        point = source
        while True:
            if point == sink:
                amount = min(room[arc] for arc in path)
                for arc in path:
                    room[arc] -= amount
                    room[arc ^ 1] += amount
                full = next(step for step, arc in enumerate(path) if not room[arc])
                point = heads[path[full] ^ 1]
                del path[full:]
            chosen, onward = arcs[point], levels[point] + 1
            for choice in range(tried[point], len(chosen)):
                arc = chosen[choice]
                if room[arc] and levels[heads[arc]] == onward:
                    tried[point] = choice
                    path.append(arc)
                    point = heads[arc]
                    break
            else:
                if not path:
                    return
                tried[point] = len(chosen)
                point = heads[path.pop() ^ 1]
                tried[point] += 1
