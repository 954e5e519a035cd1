"""What a benchmark measures, as values: a figure is a kind of number, a series is one that was measured again and again."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence

import attrs

__all__ = ['Figure', 'Series', 'Side', 'Summary', 'Unit', 'ratio']


class Unit(enum.Enum):
    """What is counted, and whether more of it is better."""

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
    COUNT = '', False
    TIMES = 'x', False

    def __init__(self, sign: str, more_is_better: bool) -> None:
        self.sign, self.more_is_better = sign, more_is_better


class Side(enum.Enum):
    """Whose number it is."""

    OURS = 'ours'
    RIVAL = 'rival'
    """What a user could take instead of jobsync."""
    FLOOR = 'floor'
    """The least that any way of doing it costs."""


@attrs.frozen
class Figure:
    """One kind of number that a scenario measures."""

    name: str
    unit: Unit
    says: str
    """One sentence on what is counted, from where to where."""
    tail: bool = False
    """The 99th percentile matters as well as the median."""
    axis: str = ''
    """What the numbers are drawn over, such as ``nodes``; empty: they are drawn as bars."""


def _frozen(values: Sequence[float]) -> Sequence[float]:
    return tuple(values)


@attrs.frozen
class Series:
    """One figure of one party in one case, measured ``len(values)`` times."""

    scenario: str
    figure: str
    store: str
    """Empty where no store takes part."""
    case: str
    who: str
    side: Side
    values: Sequence[float] = attrs.field(converter=_frozen, validator=attrs.validators.min_len(1))
    at: float | None = None
    """The place on the figure's axis."""

    @property
    def summary(self) -> Summary:
        """Its middle and its spread."""
        return Summary.of(self.values)


@attrs.frozen
class Summary:
    """The middle of some measurements, and their spread."""

    count: int
    least: float
    lower: float
    """The first quartile."""
    median: float
    upper: float
    """The third quartile."""
    p99: float
    """The 99th percentile; of fewer than a hundred measurements the highest."""
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of one measurement or more."""
        ordered = sorted(values)
        lower, median, upper = (_quantile(ordered, part) for part in (0.25, 0.5, 0.75))
        return cls(len(ordered), ordered[0], lower, median, upper, ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1])


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Between the two nearest measurements, in proportion."""
    if len(ordered) == 1:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method='inclusive')[round(100 * part) - 1]


def ratio(one: float, other: float) -> float:
    """How many times ``other`` is ``one``; infinite if only the other is nothing, and 1 if both are."""
    if other:
        return one / other
    return math.inf if one else 1.0
