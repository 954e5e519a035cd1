"""Targets as data, and how a run compares with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import attrs

from jobsync_bench.figures import Series, ratio

__all__ = ['Pick', 'Target', 'TargetResult', 'compare']


@attrs.frozen
class Pick:
    """Selects one number of each series that fits."""

    figure: str
    who: str = 'ours'
    case: str = '*'
    """A pattern, as for file names."""
    stores: tuple[str, ...] = ()
    """The stores whose series fit; empty for all stores."""
    statistic: str = 'median'
    """The field of the series' summary."""

    def fits(self, series: Series) -> bool:
        """Return True if the series fits."""
        here = not self.stores or series.store in self.stores
        return here and (series.figure, series.who) == (self.figure, self.who) and fnmatchcase(series.case, self.case)

    def of(self, series: Series) -> float:
        """Return the number of a series."""
        number: float = getattr(series.summary, self.statistic)
        return number

    @property
    def is_pattern(self) -> bool:
        """Whether several cases may fit."""
        return any(letter in self.case for letter in '*?[')


@attrs.frozen
class Target:
    """A bound for a number, or for the quotient of two numbers."""

    what: str
    """The text of the report."""
    number: Pick
    at_most: float | None = None
    at_least: float | None = None
    against: Pick | None = None
    """The divisor, if the bound is for a quotient: of the same store, and of the same case if its case is a pattern."""

    @property
    def bound(self) -> float:
        """The bound that is given."""
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None
        return bound

    def holds(self, value: float) -> bool:
        """Return True if the value reaches the target."""
        return value <= self.bound if self.at_most is not None else value >= self.bound


@attrs.frozen
class TargetResult:
    """A target and the worst fitting value of a run, or None if no series fits."""

    target: Target
    value: float | None = None
    where: str = ''
    """Store and case of the worst value."""

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached; None if it was not measured."""
        return None if self.value is None else self.target.holds(self.value)


def compare(target: Target, series: Iterable[Series]) -> TargetResult:
    """Compare the series of a scenario with one of its targets."""
    values = list(_values(target, list(series)))
    if not values:
        return TargetResult(target)
    worst = max if target.at_most is not None else min
    value, where = worst(values)
    return TargetResult(target, value, where)


def _values(target: Target, series: list[Series]) -> Iterator[tuple[float, str]]:
    number, against = target.number, target.against
    for one in series:
        if not number.fits(one):
            continue
        where = f'{one.store}: {one.case}' if one.store else one.case
        if against is None:
            yield number.of(one), where
            continue
        for other in series:
            if against.fits(other) and other.store == one.store and (not against.is_pattern or other.case == one.case):
                yield ratio(number.of(one), against.of(other)), where
