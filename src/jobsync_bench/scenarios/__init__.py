"""The scenarios that need a backend's URL and nothing else, in the order in which they are played and shown."""

from __future__ import annotations

from jobsync_bench.scenario import Scenario
from jobsync_bench.scenarios import bulk, calls, commit, floors, growth, idle, ownership, takeover, tasks

__all__ = ['SCENARIOS']

SCENARIOS: tuple[Scenario, ...] = (
    floors.SCENARIO,
    ownership.SCENARIO,
    calls.SCENARIO,
    commit.SCENARIO,
    bulk.SCENARIO,
    tasks.SCENARIO,
    idle.SCENARIO,
    takeover.SCENARIO,
    growth.SCENARIO,
)
