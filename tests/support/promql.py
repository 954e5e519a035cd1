"""The part of PromQL that the alert rules use, evaluated over scrapes of a worker. The parser is that of ``promql-parser``.

Faithful where the rules need it: selectors, ``sum`` and ``max``, ``rate`` and ``increase`` without extrapolation, quantiles of
histograms, ``absent``, comparisons with a number, and ``and``. Anything else is refused.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import promql_parser as ast
from prometheus_client.parser import text_string_to_metric_families

__all__ = ['Scrape', 'evaluate']

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]

COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    '>': operator.gt, '<': operator.lt, '==': operator.eq, '!=': operator.ne, '>=': operator.ge, '<=': operator.le,
}  # fmt: skip


@attrs.frozen
class Scrape:
    """What ``/metrics`` says at a time in seconds."""

    at: float
    gauges: Mapping[str, Vector]
    """By their names."""
    counters: Mapping[str, Vector]
    """Counters, and the counts and sums of histograms: what a lasting cause makes rise."""

    @classmethod
    def of(cls, at: float, text: str) -> Scrape:
        """Parse the text of ``/metrics``."""
        gauges, counters = defaultdict[str, Vector](dict), defaultdict[str, Vector](dict)
        for family in text_string_to_metric_families(text):
            kind = counters if family.type in ('counter', 'histogram') else gauges
            for sample in family.samples:
                kind[sample.name][frozenset(sample.labels.items())] = sample.value
        return cls(at, gauges, counters)

    def select(self, selector: Any) -> Vector:
        """Return the series of a selector, by their labels without the name."""
        found = self.gauges.get(selector.name) or self.counters.get(selector.name, {})
        wanted = selector.matchers.matchers
        if not wanted:
            return found
        assert all(matcher.op == ast.MatchOp.Equal for matcher in wanted)
        pairs = {(matcher.name, matcher.value) for matcher in wanted}
        return {labels: value for labels, value in found.items() if pairs <= labels}


def evaluate(expression: str, scrapes: Sequence[Scrape]) -> Vector:
    """Return what an expression selects at the time of the last scrape: an alert is pending or fires for each series."""
    found = _value(ast.parse(expression), scrapes)
    assert isinstance(found, dict)
    return found


def _value(node: Any, scrapes: Sequence[Scrape]) -> Any:
    match node:
        case ast.ParenExpr():
            return _value(node.expr, scrapes)
        case ast.NumberLiteral():
            return node.val
        case ast.VectorSelector():
            return scrapes[-1].select(node)
        case ast.Call():
            return FUNCTIONS[node.func.name](node.args, scrapes)
        case ast.AggregateExpr():
            return _aggregate(node, _value(node.expr, scrapes))
        case ast.BinaryExpr():
            left, right = _value(node.lhs, scrapes), _value(node.rhs, scrapes)
            if str(node.op) == 'and':
                return {labels: value for labels, value in left.items() if labels in right}
            return {labels: value for labels, value in left.items() if COMPARED[str(node.op)](value, right)}
    raise NotImplementedError(type(node).__name__)


def _aggregate(node: Any, vector: Vector) -> Vector:
    by = set() if node.modifier is None else set(node.modifier.labels)
    groups: defaultdict[Labels, list[float]] = defaultdict(list)
    for labels, value in vector.items():
        groups[frozenset(pair for pair in labels if pair[0] in by)].append(value)
    merged: Mapping[str, Callable[[list[float]], float]] = {'sum': sum, 'max': max}
    return {labels: merged[str(node.op)](values) for labels, values in groups.items()}


def _increase(args: Sequence[Any], scrapes: Sequence[Scrape]) -> Vector:
    """Sum what each counter has risen by within the range; a counter that falls has begun anew."""
    (matrix,) = args
    begins = scrapes[-1].at - matrix.range.total_seconds()
    vectors = [scrape.select(matrix.vector_selector) for scrape in scrapes if scrape.at >= begins]
    found: Vector = {}
    for before, after in pairwise(vectors):
        for labels, value in after.items():
            if labels in before:
                rise = value - before[labels]
                found[labels] = found.get(labels, 0.0) + (rise if rise >= 0 else value)
    return found


def _rate(args: Sequence[Any], scrapes: Sequence[Scrape]) -> Vector:
    begins = scrapes[-1].at - args[0].range.total_seconds()
    first = next(scrape.at for scrape in scrapes if scrape.at >= begins)
    return {labels: rise / (scrapes[-1].at - first) for labels, rise in _increase(args, scrapes).items()}


def _quantile(args: Sequence[Any], scrapes: Sequence[Scrape]) -> Vector:
    """Interpolate within the bucket in which the quantile is."""
    quantile, buckets = (_value(arg, scrapes) for arg in args)
    groups: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        groups[frozenset(pair for pair in labels if pair[0] != 'le')].append((float(dict(labels)['le']), count))
    found: Vector = {}
    for labels, bounds in groups.items():
        rank, below, lower = quantile * max(count for _, count in bounds), 0.0, 0.0
        for upper, count in sorted(bounds):
            if count >= rank and rank > 0:
                share = (rank - below) / (count - below) if count > below else 0.0
                found[labels] = lower if upper == float('inf') else lower + share * (upper - lower)
                break
            below, lower = count, upper
    return found


def _absent(args: Sequence[Any], scrapes: Sequence[Scrape]) -> Vector:
    return {} if _value(args[0], scrapes) else {frozenset(): 1.0}


FUNCTIONS: Mapping[str, Callable[[Sequence[Any], Sequence[Scrape]], Vector]] = {
    'absent': _absent,
    'increase': _increase,
    'rate': _rate,
    'histogram_quantile': _quantile,
}
