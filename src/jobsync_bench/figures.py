"""Measurements as values: a figure is a kind of number, and a series is the numbers of one figure, party and case."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence

import attrs

__all__ = ['Figure', 'Series', 'Side', 'Summary', 'Unit', 'ratio']


class Unit(enum.Enum):
    """A unit, and whether higher numbers are better."""

    SECONDS = 's', False
    PER_SECOND = '/s', True
    CALLS_A_MINUTE = 'calls/min', False
    A_MINUTE = '/min', False
    CALLS_A_SECOND = 'calls/s', False
    BYTES = 'B', False
    BYTES_A_MINUTE = 'B/min', False
    PERCENT_OF_A_CORE = '% of a core', False
    PERCENT = '%', False
    MEGABYTES = 'MB', False
    CORES = 'cores', False
    COUNT = '', False
    TIMES = 'x', False

    def __init__(self, sign: str, more_is_better: bool) -> None:
        self.sign, self.more_is_better = sign, more_is_better


class Side(enum.Enum):
    """The kind of party that a series belongs to."""

    OURS = 'ours'
    RIVAL = 'rival'
    """Software that a user could choose instead of jobsync."""
    FLOOR = 'floor'
    """The least that any implementation costs."""


@attrs.frozen
class Figure:
    """One kind of number that a scenario measures."""

    name: str
    unit: Unit
    description: str
    """One sentence on what is counted, from where to where."""
    tail: bool = False
    """Whether the 99th percentile matters as well as the median."""
    axis: str = ''
    """The axis that the numbers are drawn over, such as ``nodes``; empty for bars."""


def _frozen(values: Sequence[float]) -> Sequence[float]:
    return tuple(values)


@attrs.frozen
class Series:
    """One figure of one party in one case, measured ``len(values)`` times."""

    scenario: str
    figure: str
    store: str
    """The store's name; empty without a store."""
    case: str
    who: str
    side: Side
    values: Sequence[float] = attrs.field(converter=_frozen, validator=attrs.validators.min_len(1))
    at: float | None = None
    """The position on the figure's axis."""

    @property
    def summary(self) -> Summary:
        """The middle and the spread of the values."""
        return Summary.of(self.values)


@attrs.frozen
class Summary:
    """The middle and the spread of a series' values."""

    count: int
    least: float
    lower: float
    """The first quartile."""
    median: float
    upper: float
    """The third quartile."""
    p99: float
    """The 99th percentile; the highest of fewer than a hundred values."""
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summarise one value or more."""
        ordered = sorted(values)
        lower, median, upper = (_quantile(ordered, part) for part in (0.25, 0.5, 0.75))
        return cls(len(ordered), ordered[0], lower, median, upper, ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1])


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Interpolate between the two nearest values."""
    if len(ordered) == 1:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method='inclusive')[round(100 * part) - 1]


def ratio(one: float, other: float) -> float:
    """Return ``one / other``: infinity if only ``other`` is 0, and 1 if both are 0."""
    if other:
        return one / other
    return math.inf if one else 1.0
