"""What must be reached, as data, and whether it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import attrs

from jobsync_bench.figures import Series, ratio

__all__ = ['Pick', 'Standing', 'Target', 'standing']


@attrs.frozen
class Pick:
    """One number of each series that fits."""

    figure: str
    who: str = 'ours'
    case: str = '*'
    """A pattern, as of file names."""
    stores: tuple[str, ...] = ()
    """Those of these stores; empty: of any."""
    statistic: str = 'median'
    """Of the series' summary."""

    def fits(self, series: Series) -> bool:
        """Whether the series is meant."""
        here = not self.stores or series.store in self.stores
        return here and (series.figure, series.who) == (self.figure, self.who) and fnmatchcase(series.case, self.case)

    def of(self, series: Series) -> float:
        """Its number."""
        number: float = getattr(series.summary, self.statistic)
        return number

    @property
    def is_pattern(self) -> bool:
        """Whether several cases may fit."""
        return any(letter in self.case for letter in '*?[')


@attrs.frozen
class Target:
    """A bound for a number, or for how many times another number it is."""

    what: str
    """In the words of the report."""
    number: Pick
    at_most: float | None = None
    at_least: float | None = None
    against: Pick | None = None
    """Given: the bound is for the quotient of the two, in the same store, and in the same case if its case is a pattern."""

    @property
    def bound(self) -> float:
        """The one that is given."""
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None
        return bound

    def holds(self, value: float) -> bool:
        """Whether this is good enough."""
        return value <= self.bound if self.at_most is not None else value >= self.bound


@attrs.frozen
class Standing:
    """How a run stands to a target: the worst of what fits, or nothing if nothing does."""

    target: Target
    value: float | None = None
    where: str = ''
    """Store and case of the worst."""

    @property
    def is_reached(self) -> bool | None:
        """None: not measured."""
        return None if self.value is None else self.target.holds(self.value)


def standing(target: Target, series: Iterable[Series]) -> Standing:
    """How the series of a scenario stand to a target of it."""
    values = list(_values(target, list(series)))
    if not values:
        return Standing(target)
    worst = max if target.at_most is not None else min
    value, where = worst(values)
    return Standing(target, value, where)


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
