"""Filling nodes of different weight like connected vessels, in whole items and without rounding.

A node that takes its k-th item then stands at the *mark* k / weight. To balance is to give each next item to the node
whose next mark is lowest. So the outcome is known, up to ties, by one number: the highest mark that was used, here
called the price. A node takes every mark of its own below the price, and perhaps the one that equals it.

Weights are floats, that is, fractions, and are made integers W without loss. Marks are compared as integers too: with S
the square of the largest W, two different marks a / W1 and b / W2 are at least 1 / (W1 * W2) >= 1 / S apart, so
floor(S * mark) keeps their order and tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapify, heapreplace

import attrs

__all__ = ['QuotientScale']


@attrs.frozen
class QuotientScale:
    """The weights of the nodes, numbered from 0, and the marks that follow from them."""

    weights: tuple[int, ...]
    """In the ratios of the weights given, each above 0."""
    unit: int
    """Marks are kept as integers: this many to one item per unit of weight."""

    @classmethod
    def of(cls, weights: Sequence[float]) -> QuotientScale:
        """The scale for these weights, each finite and above 0."""
        ratios = [weight.as_integer_ratio() for weight in weights]
        common = math.lcm(*(denominator for _, denominator in ratios))
        whole = [numerator * (common // denominator) for numerator, denominator in ratios]
        divisor = math.gcd(*whole) or 1
        scaled = tuple(weight // divisor for weight in whole)
        return cls(scaled, max(scaled, default=1) ** 2)

    def mark(self, node: int, load: int) -> int:
        """Where a node stands with its ``load``-th item."""
        return load * self.unit // self.weights[node]

    def below(self, node: int, price: int) -> int:
        """The largest load whose mark is lower than ``price``; -1 if even an empty node is not lower."""
        return (price * self.weights[node] - 1) // self.unit

    def upto(self, node: int, price: int) -> int:
        """The largest load whose mark is at most ``price``; ``below`` or one more."""
        return ((price + 1) * self.weights[node] - 1) // self.unit

    def price(self, nodes: Sequence[int], loads: Sequence[int], items: int) -> int:
        """The highest mark used when ``items`` are poured over these nodes' present loads; 0 for no items.

        Pours up to the level at which it would stand if items could be cut, rounded down at each node; fewer items than
        nodes remain, which go to the lowest next mark one by one.
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
