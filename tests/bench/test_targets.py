"""Targets: which numbers are meant, and whether they are good enough."""

from __future__ import annotations

import pytest
from tests.bench.made_up import FIVE_TIMES, made_up_results, series

from jobsync_bench.targets import Pick, Target, compare


def test_a_quotient_that_reaches_its_bound() -> None:
    found = compare(FIVE_TIMES, made_up_results().series)
    assert found.value == pytest.approx(5.0)
    assert found.is_reached is True
    assert found.where == 'uphill'


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    found = compare(FIVE_TIMES, [])
    assert (found.value, found.is_reached) == (None, None)


@pytest.mark.parametrize(('values', 'reached'), [((1.0, 2.0), True), ((1.0, 2.1), False)])
def test_the_worst_case_decides(values: tuple[float, float], reached: bool) -> None:
    target = Target('walking', Pick('time', case='*hill'), at_most=2.0)
    each = [series('time', (value,), case=case) for value, case in zip(values, ('uphill', 'downhill'), strict=True)]
    found = compare(target, [*each, series('time', (99.0,), case='at home')])
    assert found.is_reached is reached
    assert (found.value, found.where) == (max(values), 'downhill')


def test_the_worst_of_at_least_is_the_lowest() -> None:
    target = Target('walking', Pick('speed'), at_least=1.5)
    found = compare(target, [series('speed', (value,), store=store) for value, store in ((1.0, 'redis'), (2.0, 'etcd'))])
    assert (found.value, found.where, found.is_reached) == (1.0, 'redis: uphill', False)


def test_quotients_are_of_one_store_and_one_case() -> None:
    """Else the slow store's time would be held against the fast one's."""
    target = Target('walking', Pick('time', who='peer'), at_least=2.0, against=Pick('time'))
    measured = [
        series('time', (ours * factor,), who, case, store)
        for ours, case, store in ((1.0, 'uphill', 'redis'), (100.0, 'uphill', 'etcd'), (10.0, 'downhill', 'etcd'))
        for who, factor in (('ours', 1), ('peer', 3))
    ]
    assert compare(target, measured).value == pytest.approx(3.0)


def test_one_case_against_another() -> None:
    target = Target('walking', Pick('time', case='uphill'), at_most=1.5, against=Pick('time', case='downhill'))
    assert compare(target, [series('time', (3.0,)), series('time', (2.0,), case='downhill')]).value == pytest.approx(1.5)


def test_a_statistic_other_than_the_median_and_only_some_stores() -> None:
    target = Target('walking', Pick('time', stores=('redis',), statistic='p99'), at_most=5.0)
    measured = [series('time', (1.0, 1.0, 9.0), store='redis'), series('time', (50.0,), store='sqlite')]
    assert compare(target, measured).value == 9.0
