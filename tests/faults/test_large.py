"""The cluster of many nodes, as far as it is arithmetic: ``python -m tests.faults --nodes 200`` is the rest."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.faults.catalogue import FAULTS
from tests.faults.cluster import Scene, Stage
from tests.faults.fault import NETWORK, Happening
from tests.faults.large import LARGE, NAMES, faults_of_many, large_stage
from tests.faults.places import FEW, PLACES
from tests.faults.process_faults import quarter
from tests.faults.run import bound_of

from jobsync import CoordinationConfig


def settings(stage: Stage) -> CoordinationConfig:
    """The configuration of a worker."""
    return CoordinationConfig(**Scene.settings(cast('Scene', SimpleNamespace(stage=stage)), 0))


def test_the_timings_are_the_defaults() -> None:
    """A worker of many differs from a user's in its tokens and in how many nodes it waits for."""
    stage = large_stage(200)
    assert settings(stage) == CoordinationConfig(total_tokens=stage.tokens, minimum_nodes=1)
    assert settings(Stage()).heartbeat_timeout_sec < settings(stage).heartbeat_timeout_sec
    assert FEW < LARGE <= stage.workers


@pytest.mark.parametrize('store', PLACES)
def test_each_store_has_faults_of_many(store: str) -> None:
    """Each name is that of a fault, and a store has those that it can have."""
    assert set(NAMES) <= set(FAULTS)
    assert ('the store stopped' in faults_of_many(store)) == (store in NETWORK)
    assert {'kill a quarter', 'kill the leader', 'join', 'leave'} <= set(faults_of_many(store))


@pytest.mark.parametrize(
    ('name', 'push', 'few', 'many'),
    [
        ('join', True, 1, 1),
        ('join', False, 1.25, 6),
        ('kill a quarter', True, 4.5, 17),
        ('the store stopped', True, 12.25, 17),
        ('flushed', True, 14.5, 27),
        ('kill all', True, None, None),
    ],
)
def test_bounds_follow_the_timings(name: str, push: bool, few: float | None, many: float | None) -> None:
    """What a promise allows is counted from the interval and the timeout of the stage."""
    found = []
    for stage in (Stage(), large_stage(200)):
        scene: Any = SimpleNamespace(stage=stage, place=SimpleNamespace(push=push), longest_timeout=max(stage.timeouts))
        found.append(bound_of(FAULTS[name], scene, Happening((FAULTS[name],), begin=5.0, end=15.0)))
    assert found == [few, many]


@pytest.mark.parametrize(('running', 'drawn'), [(4, 1), (5, 2), (200, 50)])
def test_a_quarter(running: int, drawn: int) -> None:
    """Rounded up."""
    workers: Any = list(range(running))
    scene: Any = SimpleNamespace(running=workers, random=Random(1))
    assert len(set(quarter(scene))) == drawn
