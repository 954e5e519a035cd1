"""The scenarios that need only the URL of a backend, in the order of the run and of the report."""

from __future__ import annotations

from jobsync_bench.scenario import Scenario
from jobsync_bench.scenarios import (
    batch,
    bulk,
    calls,
    claim,
    commit,
    floors,
    growth,
    idle,
    ownership,
    pool,
    scale,
    takeover,
    tasks,
    timeouts,
)

__all__ = ['SCENARIOS']

SCENARIOS: tuple[Scenario, ...] = (
    floors.SCENARIO,
    ownership.SCENARIO,
    calls.SCENARIO,
    commit.SCENARIO,
    bulk.SCENARIO,
    tasks.SCENARIO,
    claim.SCENARIO,
    batch.SCENARIO,
    idle.SCENARIO,
    pool.SCENARIO,
    takeover.SCENARIO,
    timeouts.SCENARIO,
    growth.SCENARIO,
    scale.SCENARIO,
)
