"""Functions on a schedule in real processes, whose owners are killed, stopped and ended: ``benchmarks.ticks`` in short."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.ticks import Plan, run
from tests.job.stores import Store


@pytest.mark.full
@pytest.mark.postgres
@pytest.mark.parametrize('schedule_error_sec', [120, 0])
def test_no_tick_by_two_and_none_twice(newest_postgres: object, tmp_path: Path, schedule_error_sec: int) -> None:
    """Whatever becomes of the owner, and whatever time it is there. How late a tick is, the long form measures."""
    store = Store(newest_postgres.new_schema())  # type: ignore[attr-defined]
    plan = Plan(
        processes=3,
        functions=8,
        period_sec=0.5,
        work_sec=0.2,
        seconds=8,
        timeout_sec=2,
        fault_every_sec=1,
        schedule_error_sec=schedule_error_sec,
    )
    outcome = run(store.url, plan, tmp_path)
    output = '\n'.join(path.read_text() for path in sorted(tmp_path.glob('*.txt')))
    assert (outcome.at_once, outcome.twice) == ((), []), output
    assert outcome.ticks > 8, output
    assert sum(outcome.faults.values()) > 1
