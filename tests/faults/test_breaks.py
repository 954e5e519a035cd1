"""Each one-line break of the protocol turns the fault tests red: they can."""

from __future__ import annotations

import pytest
from tests.faults.breaks import BREAKS
from tests.faults.broken import ATTEMPTS, SHOWN_BY, one_fault


@pytest.mark.slow
@pytest.mark.parametrize('broken', [name if name == 'lease' else pytest.param(name, marks=pytest.mark.full) for name in BREAKS])
def test_break_is_seen(broken: str) -> None:
    """Workers without this rule have two owners."""
    assert any(not one_fault(SHOWN_BY[broken], seed, broken).is_sound for seed in range(ATTEMPTS))


@pytest.mark.slow
def test_lease_is_missed_though_the_thread_that_asks_goes_on_last() -> None:
    """Without the check of the lease there are two owners at the first try, whatever other threads do first after the stop."""
    assert not one_fault(SHOWN_BY['lease'], 0, 'lease', late_sec=0.5).is_sound


@pytest.mark.full
@pytest.mark.parametrize('broken', BREAKS)
def test_whole_workers_pass(broken: str) -> None:
    """The fault that shows a break shows nothing without it."""
    report = one_fault(SHOWN_BY[broken], 0)
    assert report.is_right, (report.details, report.trace)
