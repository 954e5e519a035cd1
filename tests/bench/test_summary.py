"""What becomes of measurements: their middle, their spread, and how they are written."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.made_up import series

from jobsync_bench.figures import Summary, Unit, ratio
from jobsync_bench.formatting import quantity, spread, table, times

numbers = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300)


def test_one_measurement_is_all_there_is() -> None:
    assert Summary.of([7.0]) == Summary(1, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0)


def test_the_middle_and_the_quarters() -> None:
    """Those of a textbook, by linear interpolation."""
    assert Summary.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Summary(5, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0)


def test_the_99th_percentile_of_many_is_not_the_highest() -> None:
    assert Summary.of([float(value) for value in range(1, 1001)]).p99 == 990.0


def test_of_fewer_than_a_hundred_it_is_the_highest() -> None:
    assert Summary.of([1.0] * 98 + [50.0]).p99 == 50.0


@given(numbers)
def test_they_are_in_order_and_within_the_measurements(values: list[float]) -> None:
    found = Summary.of(values)
    ordered = [found.least, found.lower, found.median, found.upper, found.most]
    assert all(one <= other or math.isclose(one, other) for one, other in pairwise(ordered))
    assert (found.least, found.most, found.count) == (min(values), max(values), len(values))
    assert found.p99 in values


@given(numbers)
def test_the_order_of_the_measurements_does_not_matter(values: list[float]) -> None:
    assert Summary.of(values) == Summary.of(values[::-1])


def test_a_series_without_measurements_is_refused() -> None:
    with pytest.raises(ValueError, match='values'):
        series('time', ())


def test_ratios_of_nothing() -> None:
    assert (ratio(6, 3), ratio(1, 0), ratio(0, 0)) == (2.0, math.inf, 1.0)


@pytest.mark.parametrize(
    ('value', 'unit', 'written'),
    [
        (0.0, Unit.SECONDS, '0 s'),
        (2.5e-8, Unit.SECONDS, '25.0 ns'),
        (0.00123, Unit.SECONDS, '1.23 ms'),
        (63.21, Unit.SECONDS, '63.2 s'),
        (12345.6, Unit.PER_SECOND, '12,346 /s'),
        (0.0412, Unit.PERCENT_OF_A_CORE, '0.0412 % of a core'),
        (3.0, Unit.COUNT, '3.00'),
        (0.0, Unit.CALLS_A_MINUTE, '0 calls/min'),
    ],
)
def test_quantities(value: float, unit: Unit, written: str) -> None:
    """Three digits that matter, with a unit that suits."""
    assert quantity(value, unit) == written


def test_a_spread_says_its_unit_once() -> None:
    assert spread(0.001, 0.002, Unit.SECONDS) == '1.00 to 2.00 ms'
    assert spread(0.0009, 0.002, Unit.SECONDS) == '900 µs to 2.00 ms'
    assert spread(2.0, 2.0, Unit.COUNT) == '2.00'
    assert (times(math.inf), times(2.0)) == ('-', '2.00x')


def test_a_table_leaves_out_empty_columns_and_keeps_its_bars() -> None:
    made = table(['case', 'none', 'b'], [['x|y', '', '1'], ['z', '', '']])
    assert made.splitlines() == [
        '| case |  b |',
        '| ---- | -: |',
        '| x\\|y |  1 |',
        '| z    |    |',
    ]
