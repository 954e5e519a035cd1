"""Tools for tests of a backend, or of a program that uses jobsync.

* ``BackendSuite``: every sentence of ``jobsync.backend`` as a test. ``Harness`` and ``Ability`` describe the store under test.
* ``UrlHarness``: the harness of ``jobsync conformance``, for any store that is reached by its URL alone.
* ``MemoryHarness``: the harness of the reference that other backends are compared with.
* ``Namespace``: short ways to make nodes join, lead and commit on a backend without a job.
* ``FaultyBackend``, ``Fault`` and ``When``: a backend that fails on request, before or after the effect of a call.
* ``VirtualCluster``: real jobs on a clock that moves as fast as the code runs; also the pytest fixture ``jobsync_cluster``.
* ``LogWriter`` and ``log_tokens``: the log of a worker process in a fault test. ``read_log`` reads it back, and
  ``owned_at_once``, ``worked_at_once``, ``longest_gap`` and ``finished`` say what such logs prove.

The suite and the harnesses need the extra ``testing`` (pytest and hypothesis), so each name is imported when it is first read.
``python -m jobsync.testing.simulate`` tests the protocol itself: whole clusters in virtual time, against a seeded adversary.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobsync.testing.conformance import BackendSuite
    from jobsync.testing.conformance.harness import Ability, Harness
    from jobsync.testing.conformance.namespace import Namespace
    from jobsync.testing.conformance.reference import MemoryHarness
    from jobsync.testing.faults import Fault, FaultyBackend, When
    from jobsync.testing.url_harness import UrlHarness
    from jobsync.testing.verdict import finished, longest_gap, owned_at_once, worked_at_once
    from jobsync.testing.virtual_cluster import Program, VirtualCluster
    from jobsync.testing.worker_log import LogWriter, log_tokens, read_log

__all__ = [
    'Ability',
    'BackendSuite',
    'Fault',
    'FaultyBackend',
    'Harness',
    'LogWriter',
    'MemoryHarness',
    'Namespace',
    'Program',
    'UrlHarness',
    'VirtualCluster',
    'When',
    'finished',
    'log_tokens',
    'longest_gap',
    'owned_at_once',
    'read_log',
    'worked_at_once',
]

_MODULES = {
    'conformance': ('Ability', 'BackendSuite', 'Harness'),
    'conformance.namespace': ('Namespace',),
    'conformance.reference': ('MemoryHarness',),
    'faults': ('Fault', 'FaultyBackend', 'When'),
    'url_harness': ('UrlHarness',),
    'verdict': ('finished', 'longest_gap', 'owned_at_once', 'worked_at_once'),
    'virtual_cluster': ('Program', 'VirtualCluster'),
    'worker_log': ('LogWriter', 'log_tokens', 'read_log'),
}


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` when it is first read."""
    for module, names in _MODULES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(f'{__name__}.{module}'), name)
            except ModuleNotFoundError as error:
                needs = f"{__name__}.{name} needs {error.name}: pip install 'jobsync[testing]'"
                raise ModuleNotFoundError(needs, name=error.name) from error
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
