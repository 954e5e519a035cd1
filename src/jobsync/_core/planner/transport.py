"""Nodes of one price as a transportation problem (Hitchcock 1941): which items stay, and where the others go.

See ``shares`` for the theory. Each node takes so many items, and ``spare`` of the nodes one more; groups of pins and the pool of
tokens send them. The bulk is placed in closed form. A flow network is built only if pins are left over by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from jobsync._core.planner.apportionment import QuotientScale
from jobsync._core.planner.min_cost_flow import FlowNetwork

__all__ = ['FREE', 'Group', 'Part', 'Transport', 'TransportProblem']

FREE = -1
"""In place of a node: none. A token or pin there needs a place now, and costs no move wherever it goes."""


@attrs.frozen
class Group:
    """Pins that are allowed on equal sets of nodes."""

    size: int
    allowed: tuple[int, ...]
    """Nodes, rising; at least one."""
    here: Mapping[int, int]
    """How many of them are on each allowed node now; the others need a place or have to move in any case."""


@attrs.frozen
class TransportProblem:
    """The items to share out. Nodes are numbers, in the order in which they win ties."""

    scale: QuotientScale
    fixed: Sequence[int]
    """For each node, the pins that are allowed on no other node: load that cannot move."""
    here: Sequence[int]
    """For each node, the tokens it has."""
    tokens: int
    """All tokens: the placed ones, and those that need a place."""
    groups: Sequence[Group]
    homes: Mapping[tuple[int, int], int]
    """How many tokens are on the first node (or ``FREE``) and were once lost by the second."""


@attrs.frozen
class Part:
    """Nodes, and the items that are shared out among them alone."""

    nodes: Sequence[int]
    groups: Sequence[tuple[int, Sequence[int]]]
    """The number of each group and which of these nodes it may use."""
    tokens: int
    items: int
    """Tokens and pins."""


class Transport:
    """The placing of a part's items at one price."""

    def __init__(self, problem: TransportProblem, part: Part, price: int) -> None:
        scale, fixed = problem.scale, problem.fixed
        self.problem, self.part = problem, part
        self.low = {node: max(0, scale.below(node, price) - fixed[node]) for node in part.nodes}
        """What each node takes at least: its marks below the price, fixed pins not counted."""
        self.top = {node: max(0, scale.upto(node, price) - fixed[node]) for node in part.nodes}
        """What each node takes at most: as many, or one more if it has a mark equal to the price (a tie)."""
        self.spare = part.items - sum(self.low.values())
        """How many more nodes may take a tie."""
        self.load = dict.fromkeys(part.nodes, 0)
        self.tokens = dict.fromkeys(part.nodes, 0)
        self.pins: list[dict[int, int]] = [{} for _ in part.groups]
        self.left = [problem.groups[number].size for number, _ in part.groups]
        """For each group, the pins without a place yet."""
        self.crowded: set[int] = set()
        """If pins remain without a place: the nodes to which they, and all items that they could push aside, are confined."""

    def fill(self) -> bool:
        """Place every item; return False if not all pins fit at this price, and set ``crowded``."""
        self._keep_pins()
        if self.part.tokens:
            self._keep_tokens()
        self._place_pins()
        if any(self.left):
            self._push_aside()
        if any(self.left):
            return False
        if self.part.tokens:
            self._place_tokens()
        return True

    def _take(self, node: int, items: int) -> int:
        """Let a node take up to so many items, a tie last; return how many it took."""
        load = self.load[node]
        taken = min(items, max(0, self.low[node] - load))
        if taken < items and self.spare and load + taken < self.top[node]:
            taken += 1
            self.spare -= 1
        self.load[node] = load + taken
        return taken

    def _put_pins(self, group: int, node: int, wanted: int) -> None:
        taken = self._take(node, wanted)
        if taken:
            pins = self.pins[group]
            pins[node] = pins.get(node, 0) + taken
            self.left[group] -= taken

    def _keep_pins(self) -> None:
        for group, (number, allowed) in enumerate(self.part.groups):
            here = self.problem.groups[number].here
            for node in allowed:
                if node in here:
                    self._put_pins(group, node, here[node])

    def _place_pins(self) -> None:
        for group, (_, allowed) in enumerate(self.part.groups):
            for node in allowed:
                if not self.left[group]:
                    break
                self._put_pins(group, node, self.left[group])

    def _keep_tokens(self) -> None:
        """Keep what fits below the price, then the ties: first where one more to go would not be going home."""
        here, load, low, top = self.problem.here, self.load, self.low, self.top
        for node in self.part.nodes:
            kept = min(here[node], max(0, low[node] - load[node]))
            self.tokens[node] = kept
            load[node] += kept
        tied = [node for node in self.part.nodes if here[node] > self.tokens[node] and load[node] < top[node]]
        homing = self._homing() if len(tied) > self.spare else {}
        tied.sort(key=lambda node: (homing.get(node, 0) >= here[node] - self.tokens[node], node))
        for node in tied[: self.spare]:
            self.tokens[node] += self._take(node, 1)

    def _homing(self) -> Counter[int]:
        """Return for each node how many of its tokens have their home on a node with room."""
        homing: Counter[int] = Counter()
        for (node, home), count in self.problem.homes.items():
            if home in self.load and self.load[home] < self.low[home]:
                homing[node] += count
        return homing

    def _place_tokens(self) -> None:
        """Fill up all room below the price, then the ties that are left: first where one more would be coming home."""
        here, load, low, top = self.problem.here, self.load, self.low, self.top
        for node in self.part.nodes:
            self.tokens[node] += self._take(node, max(0, low[node] - load[node]))
        if not self.spare:
            return
        away: Counter[int] = Counter()
        for (_, home), count in self.problem.homes.items():
            away[home] += count
        tied = [node for node in self.part.nodes if load[node] < top[node]]
        tied.sort(key=lambda node: (away[node] <= self.tokens[node] - here[node], node))
        for node in tied[: self.spare]:
            self.tokens[node] += self._take(node, 1)

    def _push_aside(self) -> None:
        """Find room for the pins left by moving as little as possible of what has been placed."""
        paths = _Paths(self)
        paths.network.send(paths.SOURCE, paths.SINK)
        paths.read_back()


class _Paths:
    """The flow network of a transport so far: which items could make room for which, and at what cost.

    Groups and the pool of tokens send to nodes: as many items as are there now by one arc, at no cost, and any number by another,
    each at the cost of a move. Nodes send to the sink what they take below the price, and one item by way of the spare.
    """

    SOURCE, SINK, SPARE, TOKENS = range(4)

    def __init__(self, transport: Transport) -> None:
        part, problem = transport.part, transport.problem
        self.transport = transport
        self.points = {node: point for point, node in enumerate(part.nodes, start=4)}
        self.network = FlowNetwork(4 + len(part.nodes) + len(part.groups))
        self.token_move = 1 + part.items
        """The cost of moving a token: more than the extra costs of moving all pins add up to."""
        self.sent = self._add_nodes()
        used = sum(transport.load[node] > transport.low[node] for node in part.nodes)
        self.ties = transport.spare + used
        self.spare = self.network.add(self.SPARE, self.SINK, self.ties, flow=used)
        self.tokens: dict[int, tuple[int, int]] = {}
        if part.tokens:
            here, moves = problem.here, self.token_move
            for node, point in self.points.items():
                self.tokens[node] = self._ways(self.TOKENS, point, here[node], transport.tokens[node], moves, part.tokens)
        self.pins: list[dict[int, tuple[int, int]]] = [self._add_group(group) for group in range(len(part.groups))]

    def _add_nodes(self) -> dict[int, tuple[int, int]]:
        transport, network = self.transport, self.network
        sent = {}
        for node, point in self.points.items():
            low, top, load = transport.low[node], transport.top[node], transport.load[node]
            sent[node] = (
                network.add(point, self.SINK, low, flow=min(load, low)),
                network.add(point, self.SPARE, top - low, flow=max(0, load - low)),
            )
        return sent

    def _add_group(self, group: int) -> dict[int, tuple[int, int]]:
        transport = self.transport
        number, allowed = transport.part.groups[group]
        pins, left = self.transport.problem.groups[number], transport.left[group]
        point = 4 + len(self.points) + group
        if left:
            self.network.add(self.SOURCE, point, left)
        placed, move = transport.pins[group], self.token_move + 1
        return {
            node: self._ways(point, self.points[node], pins.here.get(node, 0), placed.get(node, 0), move, pins.size)
            for node in allowed
        }

    def _ways(self, tail: int, head: int, here: int, placed: int, move: int, most: int) -> tuple[int, int]:
        kept = min(here, placed)
        return (
            self.network.add(tail, head, here, flow=kept),
            self.network.add(tail, head, most, move, flow=placed - kept),
        )

    def read_back(self) -> None:
        """Set the transport to the present flow and, if pins remain without a place, the nodes they are confined to."""
        transport, flow = self.transport, self.network.flow
        for node, (below, tie) in self.sent.items():
            transport.load[node] = flow(below) + flow(tie)
        for node, ways in self.tokens.items():
            transport.tokens[node] = sum(map(flow, ways))
        for group, arcs in enumerate(self.pins):
            placed = {node: sum(map(flow, ways)) for node, ways in arcs.items()}
            transport.pins[group] = {node: count for node, count in placed.items() if count}
            size = transport.problem.groups[transport.part.groups[group][0]].size
            transport.left[group] = size - sum(placed.values())
        transport.spare = self.ties - flow(self.spare)
        if any(transport.left):
            reached = self.network.reachable(self.SOURCE)
            transport.crowded = {node for node, point in self.points.items() if point in reached}
