"""The three one-line breaks of ``tests.faults.breaks``, for the memory store of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tests.simulation.broken_rules import r1_lease_never_ends, r3_no_acknowledgement
from tests.support.patching import patched

from jobsync.backends.single_writer import namespace

__all__ = ['BREAKS', 'no_commit_guard']


@contextmanager
def no_commit_guard() -> Iterator[None]:
    """R5: a commit compares nothing: neither leader nor version nor the heartbeats of nodes that it evicts."""
    with patched(namespace, 'check_guard', lambda *_, **__: None), patched(namespace, 'check_nodes', lambda *_: None):
        yield


BREAKS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    'lease': r1_lease_never_ends,
    'acknowledgement': r3_no_acknowledgement,
    'guard': no_commit_guard,
}
