"""Workers without one rule, and the fault that shows the lack of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from tests.faults.breaks import BREAK
from tests.faults.cluster import Stage
from tests.faults.run import Report, run

__all__ = ['ATTEMPTS', 'SHOWN_BY', 'one_fault']

SHOWN_BY: Mapping[str, str] = {
    'lease': 'stop until others own all',
    'acknowledgement': 'stop an owner as it reads of a hand-over',
    'guard': 'wake while being evicted',
}
ATTEMPTS = 15
"""On a starved machine the moment may be missed; a break that none of the seeds shows is a failure."""


def one_fault(name: str, seed: int, broken: str = '', **changed: Any) -> Report:
    """Play one fault on SQLite, with workers that are broken or not. ``changed``: fields of the stage."""
    stage = Stage(workers=2, tasks=5, timeouts=(1.5,)) if broken == 'lease' else Stage(workers=3, tasks=5)
    stage = attrs.evolve(stage, **changed)
    environment = {BREAK: broken} if broken else {}
    return run('sqlite', seed, 0.0, stage=stage, names=[name], most=1, settle_sec=0.0, environment=environment)
