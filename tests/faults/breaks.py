"""Three one-line breaks of the protocol, which the fault tests must turn red: the proof that they can.

The environment variable ``JOBSYNC_FAULTS_BREAK`` has a worker of ``tests.faults`` apply one of them. Nothing in jobsync reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace

from tests.simulation.broken_rules import r3_no_acknowledgement
from tests.support.patching import patched

import jobsync.job
from jobsync.backends.sql import commits

__all__ = ['BREAK', 'BREAKS']

BREAK = 'JOBSYNC_FAULTS_BREAK'


class Early:
    """A time before every other, also before the end of a lease whose end was declared: that is minus infinity."""

    def __lt__(self, other: float) -> bool:
        return True


def no_lease_check() -> AbstractContextManager[None]:
    """``can_claim_task`` does not compare the clock with the end of the lease."""
    return patched(jobsync.job, 'clock', SimpleNamespace(now=Early))


@contextmanager
def no_commit_guard() -> Iterator[None]:
    """On SQL a commit compares nothing: neither leader nor version nor the heartbeats of nodes that it evicts."""
    with patched(commits, 'check_guard', lambda *_, **__: None), patched(commits, 'check_nodes', lambda *_: None):
        yield


BREAKS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    'lease': no_lease_check,
    'acknowledgement': r3_no_acknowledgement,
    'guard': no_commit_guard,
}
