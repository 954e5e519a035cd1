"""Whether something grows: a robust slope of samples over time, and how much growth is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median

import attrs

__all__ = ['ALLOWED', 'Allowed', 'Growth', 'growth', 'slope']

Samples = Sequence[tuple[float, float]]
"""Times in seconds, and values, in order."""
FEWEST = 6
"""With fewer samples a slope says nothing."""


@attrs.frozen
class Allowed:
    """The growth over a whole measurement that counts as none: a fraction of the median, and a number besides."""

    fraction: float
    number: float
    unit: str = ''


ALLOWED: Mapping[str, Allowed] = {
    'memory': Allowed(0.08, 2048.0, 'KiB'),
    'threads': Allowed(0.0, 1.5),
    'files': Allowed(0.0, 3.5),
    'connections': Allowed(0.0, 3.5),
    'records': Allowed(0.10, 60.0),
}
"""By what is measured. Memory: pages that the allocator keeps in pieces. Files and connections: a pool that fills once more."""


@attrs.frozen
class Growth:
    """What one series of samples shows after its warm-up."""

    what: str
    """A name of ``ALLOWED``."""
    of: str
    """The process, or the store."""
    samples: int
    median: float
    grown: float
    """The slope times the length of the measurement."""
    allowed: float

    @property
    def is_growing(self) -> bool:
        """Whether more has come than is allowed, or too little was measured to say."""
        return self.samples < FEWEST or self.grown > self.allowed

    def __str__(self) -> str:
        mark = '  GROWS' if self.is_growing else ''
        unit = ALLOWED[self.what].unit
        return (
            f'{self.what} of {self.of}: median {self.median:.0f}{unit and " " + unit}, {self.samples} samples, '
            f'grown by {self.grown:+.1f} of {self.allowed:.1f} allowed{mark}'
        )


def slope(samples: Samples) -> float:
    """Return the change per second: the median of the slopes of all pairs (Theil and Sen), which no few outliers move."""
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in combinations(samples, 2) if t > s]
    return median(slopes) if slopes else 0.0


def growth(what: str, of: str, samples: Samples, warm_up_sec: float) -> Growth:
    """Judge one series, leaving out the samples of the warm-up."""
    begin = min((at for at, _ in samples), default=0.0) + warm_up_sec
    kept = [(at, value) for at, value in samples if at >= begin]
    middle = median([value for _, value in kept]) if kept else 0.0
    grown = slope(kept) * (kept[-1][0] - kept[0][0]) if kept else 0.0
    allowed = ALLOWED[what]
    return Growth(what, of, len(kept), middle, grown, allowed.fraction * middle + allowed.number)
