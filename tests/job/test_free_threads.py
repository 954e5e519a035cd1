"""A Python whose threads run without the global interpreter lock."""

from __future__ import annotations

import sys

import attrs
import pytest

from jobsync import CoordinationConfig, Job, UnsupportedOperation

CONFIG = CoordinationConfig(backend='memory://free-threads', minimum_nodes=1)


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python say that it has no such lock."""
    monkeypatch.setattr(sys, '_is_gil_enabled', lambda: False, raising=False)


def test_refused() -> None:
    """Two nodes could own one task, so entering is refused, with the reason and what to do."""
    job = Job('a', coordination_config=CONFIG)
    with pytest.raises(UnsupportedOperation, match=r"node 'a': .* without the global interpreter lock, .* PYTHON_GIL=1"), job:
        pass


def test_without_coordination() -> None:
    """There is no other node then, and nothing to refuse."""
    with Job('a', coordination_config=attrs.evolve(CONFIG, enabled=False)) as job:
        assert job.can_claim_task(1)
