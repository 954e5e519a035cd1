"""Each one-line break of the protocol turns the fault tests red: they can."""

from __future__ import annotations

import pytest
from tests.faults.breaks import BREAK, BREAKS
from tests.faults.cluster import Stage
from tests.faults.run import Report, run

SHOWN_BY = {
    'lease': 'stop until others own all',
    'acknowledgement': 'stop an owner as it reads of a hand-over',
    'guard': 'wake while being evicted',
}
ATTEMPTS = 5
"""On a starved machine the moment may be missed; a break that none of the seeds shows is a failure."""


def one_fault(name: str, seed: int, broken: str = '') -> Report:
    """Play one fault on SQLite, with workers that are broken or not."""
    stage = Stage(workers=2, tasks=5, timeouts=(1.5,)) if broken == 'lease' else Stage(workers=3, tasks=5)
    environment = {BREAK: broken} if broken else {}
    return run('sqlite', seed, 0.0, stage=stage, names=[name], most=1, settle_sec=0.0, environment=environment)


@pytest.mark.slow
@pytest.mark.parametrize('broken', [name if name == 'lease' else pytest.param(name, marks=pytest.mark.full) for name in BREAKS])
def test_break_is_seen(broken: str) -> None:
    """Workers without this rule have two owners."""
    assert any(not one_fault(SHOWN_BY[broken], seed, broken).is_sound for seed in range(ATTEMPTS))


@pytest.mark.full
@pytest.mark.parametrize('broken', BREAKS)
def test_whole_workers_pass(broken: str) -> None:
    """The fault that shows a break shows nothing without it."""
    report = one_fault(SHOWN_BY[broken], 0)
    assert report.is_sound, report.details
