"""Seeds that once found a fault, kept so that it stays mended."""

from __future__ import annotations

import pytest

from jobsync.testing.simulation import World


@pytest.mark.parametrize(
    ('seed', 'fault'),
    [
        (8, 'a leader whose snapshot was older than its assignment asked again and again for the same moment'),
        (14, 'without push, an early commit cost the stragglers a second heartbeat interval'),
        (110, 'a hint was lost to a look that was under way'),
        (407, 'a task in flight did not hold a token whose row was deleted by hand'),
    ],
)
def test_a_fault_once_found_stays_mended(seed: int, fault: str) -> None:
    """The world of the seed that found it holds every promise."""
    outcome = World(seed).run()
    assert outcome.is_good, f'{fault}: {outcome.violations or outcome.unsettled}'
