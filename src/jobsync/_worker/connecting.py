"""What a job imports and makes as it is entered: its backend, and what it needs later."""

from __future__ import annotations

import importlib

from jobsync.backend import Backend
from jobsync.backends._common.importing import importing
from jobsync.config import CoordinationConfig

__all__ = ['backend_for', 'import_needed_later']

_NEEDED_LATER = ('tenacity', 'jobsync._core.leader.decide')
"""What repeats calls in an outage, and what plans once this node leads.

Not imported as jobsync is, which would take a tenth longer. And not when they are needed: the import may then fail for the same
reason as the store, because no descriptor is left to open a file, or find another version's files, put there by a deployment.
"""


def import_needed_later() -> None:
    """Import what is needed once the job is inside its block."""
    with importing():
        for module in _NEEDED_LATER:
            importlib.import_module(module)


def backend_for(config: CoordinationConfig) -> Backend | None:
    """Return the backend of a configuration, made from its URL if it has one; None if it has none."""
    if not isinstance(config.backend, str):
        return config.backend
    with importing():
        from jobsync import plugins  # only now: a process that does not enter a job needs none of it

    return plugins.connect(config.backend, config.options)
