"""Numbers for readers, and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from jobsync_bench.figures import Unit

__all__ = ['number', 'quantity', 'spread', 'table', 'times']

_SECONDS = ((1.0, 's'), (1e-3, 'ms'), (1e-6, 'µs'), (1e-9, 'ns'))


def number(value: float) -> str:
    """Return the number with three digits, or with all digits before the point."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f'{value:,.0f}'
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f'{value:.{min(digits, 4)}f}'


def quantity(value: float, unit: Unit) -> str:
    """Return the number with its unit. A time gets the unit that suits its size."""
    if unit is not Unit.SECONDS:
        return f'{number(value)} {unit.sign}'.strip()
    size, sign = next(((size, sign) for size, sign in _SECONDS if abs(value) >= size), _SECONDS[-1])
    return f'{number(value / size)} {sign}' if value else '0 s'


def spread(lower: float, upper: float, unit: Unit) -> str:
    """Return a range, with the unit once if both ends have one unit."""
    one, other = quantity(lower, unit), quantity(upper, unit)
    if one == other:
        return one
    sign = other.partition(' ')[2]
    return f'{one.removesuffix(sign).strip()} to {other}' if sign and one.endswith(f' {sign}') else f'{one} to {other}'


def times(value: float) -> str:
    """Return a quotient with an ``x``, or a dash if it is infinite."""
    return f'{number(value)}x' if math.isfinite(value) else '-'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns. Empty columns are left out; all but the first are set right."""
    lines = [list(columns), *map(list, rows)]
    kept = [index for index, column in enumerate(zip(*lines, strict=True)) if any(column[1:])]
    lines = [[line[index].replace('|', '\\|') for index in kept] for line in lines]
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ['-' * widths[0]] + ['-' * (width - 1) + ':' for width in widths[1:]]
    lines.insert(1, rule)
    return '\n'.join(f'| {" | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])} |' for line in lines)
