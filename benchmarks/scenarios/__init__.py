"""All scenarios of ``jobsync_bench`` and of the repository, in the order of the run and of the report."""

from __future__ import annotations

from benchmarks.scenarios import assignment, imports, items, placement, plan, rolling, signals, where
from jobsync_bench import scenarios as shipped
from jobsync_bench.scenario import Scenario

__all__ = ['SCENARIOS']

_ORDER = (
    'floors',
    'imports',
    'ownership',
    'plan',
    'placement',
    'assignment',
    'calls',
    'commit',
    'bulk',
    'tasks',
    'claim',
    'batch',
    'items',
    'where',
    'idle',
    'pool',
    'takeover',
    'timeouts',
    'growth',
    'scale',
    'rolling',
    'signals',
)
_OWN = (
    imports.SCENARIO,
    plan.SCENARIO,
    placement.SCENARIO,
    assignment.SCENARIO,
    items.SCENARIO,
    where.SCENARIO,
    rolling.SCENARIO,
    signals.SCENARIO,
)
_ALL = {each.name: each for each in (*shipped.SCENARIOS, *_OWN)}

SCENARIOS: tuple[Scenario, ...] = tuple(_ALL[name] for name in _ORDER)
assert len(SCENARIOS) == len(_ALL), 'each has its place'
