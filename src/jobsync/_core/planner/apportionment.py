"""Sharing out whole items among nodes of different weight, without rounding: a highest-averages apportionment.

Each next item goes to the node whose *mark*, (load + 1) / weight, is lowest: the rule of D'Hondt and Jefferson (Balinski and
Young, *Fair Representation*, 1982), read upside down, on top of the loads that the nodes have. So the outcome is known, up to
ties, by one number: the highest mark that was used, here called the *price* (one over the rule's divisor). A node takes every
mark of its own below the price, and perhaps the mark that equals it. A node with k items stands at the mark k / weight.

Weights are floats, that is, fractions, and are made integers W without loss. Marks are compared as integers too: with S
the square of the largest W, two different marks a / W1 and b / W2 are at least 1 / (W1 * W2) >= 1 / S apart, so
floor(S * mark) keeps their order and keeps them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace

import attrs

__all__ = ['QuotientScale', 'integers']


def integers(numbers: Iterable[float]) -> list[int]:
    """Return integers in the ratios of these numbers."""
    ratios = [number.as_integer_ratio() for number in numbers]
    common = math.lcm(*(denominator for _, denominator in ratios))
    return [numerator * (common // denominator) for numerator, denominator in ratios]


@attrs.frozen
class QuotientScale:
    """The weights of the nodes, numbered from 0, and the marks that follow from them."""

    weights: tuple[int, ...]
    """In the ratios of the weights given, each above 0."""
    unit: int
    """Marks are kept as integers: this many to one item per unit of weight."""

    @classmethod
    def of(cls, weights: Sequence[float]) -> QuotientScale:
        """Return the scale for these weights, each finite and above 0."""
        whole = integers(weights)
        divisor = math.gcd(*whole) or 1
        scaled = tuple(weight // divisor for weight in whole)
        return cls(scaled, max(scaled, default=1) ** 2)

    def mark(self, node: int, load: int) -> int:
        """Return the mark at which a node stands with its ``load``-th item."""
        return load * self.unit // self.weights[node]

    def below(self, node: int, price: int) -> int:
        """Return the largest load whose mark is lower than ``price``; -1 if even an empty node is not lower."""
        return (price * self.weights[node] - 1) // self.unit

    def upto(self, node: int, price: int) -> int:
        """Return the largest load whose mark is at most ``price``; ``below`` or one more."""
        return ((price + 1) * self.weights[node] - 1) // self.unit

    def price(self, nodes: Sequence[int], loads: Sequence[int], items: int) -> int:
        """Return the highest mark used when ``items`` are added to these nodes' loads; 0 for no items.

        Fills the nodes to the level that divisible items would reach, rounded down at each node. Fewer items than nodes remain,
        and go one by one to the lowest next mark.
        """
        if not items:
            return 0
        weights = self.weights
        poured, width, under = items, 0, []
        for _, node in sorted((self.mark(node, loads[node]), node) for node in nodes):
            if loads[node] * width >= poured * weights[node] and width:
                break
            poured += loads[node]
            width += weights[node]
            under.append(node)
        reached = {node: max(loads[node], poured * weights[node] // width) for node in under}
        left = poured - sum(reached.values())
        if not left:
            return max(self.mark(node, load) for node, load in reached.items() if load > loads[node])
        upcoming = [(self.mark(node, reached.get(node, loads[node]) + 1), node) for node in nodes]
        heapify(upcoming)
        price = 0
        for _ in range(left):
            price, node = upcoming[0]
            reached[node] = reached.get(node, loads[node]) + 1
            heapreplace(upcoming, (self.mark(node, reached[node] + 1), node))
        return price
