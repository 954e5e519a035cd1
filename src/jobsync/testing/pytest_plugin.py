"""The pytest plugin of jobsync, which pytest finds by itself where jobsync is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobsync.testing import VirtualCluster

__all__ = ['jobsync_cluster']


@pytest.fixture
def jobsync_cluster() -> Iterator[VirtualCluster]:
    """Yield a cluster of jobsync in virtual time, without nodes at first (see ``jobsync.testing.VirtualCluster``)."""
    from jobsync.testing import VirtualCluster  # only now: most tests that pytest runs here want no cluster

    with VirtualCluster() as cluster:
        yield cluster
