"""The pytest plugin of jobsync, which pytest finds by itself where jobsync is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobsync.testing import VirtualCluster

__all__ = ['jobsync_cluster']


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line('markers', 'jobsync_cluster(seed, max_sec): the arguments of the VirtualCluster of jobsync_cluster')


@pytest.fixture
def jobsync_cluster(request: pytest.FixtureRequest) -> Iterator[VirtualCluster]:
    """Yield a cluster of jobsync in virtual time, without nodes at first (see ``jobsync.testing.VirtualCluster``).

    ``@pytest.mark.jobsync_cluster(max_sec=…)`` gives it other arguments.
    """
    from jobsync.testing import VirtualCluster  # only now: most tests that pytest runs here want no cluster

    marker = request.node.get_closest_marker('jobsync_cluster')
    with VirtualCluster(*(marker.args if marker else ()), **(marker.kwargs if marker else {})) as cluster:
        yield cluster
