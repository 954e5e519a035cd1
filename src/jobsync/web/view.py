"""A cluster's state as the page and the API show it, read once for all readers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

__all__ = ['ClusterView']

_FRESH_SEC = 1.0
"""How old a state may be that is shown. So many readers cost the store as much as one."""
_REBALANCES = 30


class ClusterView:
    """The state of a cluster, at most a second old. Thread-safe."""

    def __init__(self, connect: Callable[[], Cluster]) -> None:
        """Store how to connect: nothing is reached before the first question."""
        self._connect = connect
        self._cluster: Cluster | None = None
        self._lock = threading.Lock()
        self._read_at = float('-inf')
        self._state: Mapping[str, Any] = {}

    def state(self) -> Mapping[str, Any]:
        """Return the state of the cluster, or ``error`` with the reason why it cannot be read."""
        with self._lock:
            if time.monotonic() >= self._read_at + _FRESH_SEC:
                self._state = self._read()
                self._read_at = time.monotonic()
            return self._state

    def ask(self, question: Callable[[Cluster], Any]) -> Any:
        """Return what a question to the cluster is answered. Raises what ``Cluster`` raises."""
        with self._lock:
            return question(self._open())

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._cluster is not None:
                self._cluster.close()

    def _open(self) -> Cluster:
        if self._cluster is None:
            self._cluster = self._connect()
        return self._cluster

    def _read(self) -> Mapping[str, Any]:
        try:
            cluster = self._open()
            return {
                'status': cluster.status(),
                'nodes': cluster.nodes(),
                'hand_overs': cluster.hand_overs(),
                'map': _runs(cluster.tokens(), cluster.status()['total_tokens']),
                'rebalances': cluster.rebalances(_REBALANCES),
            }
        except JobsyncError as error:
            return {'error': f'{type(error).__name__}: {error}'}


def _runs(tokens: Mapping[str, Any], total: int) -> list[list[Any]]:
    """Return the owners of all tokens in order, as runs: the number of tokens, and their owner or None.

    At most some thousands: where owners alternate more often than that, a sample stands for its neighbours.
    """
    step = max(1, total // _MOST_RUNS)
    owners: list[str | None] = [None] * (-(-total // step))
    for name, numbers in tokens.items():
        for token in numbers:
            if token % step == 0:
                owners[token // step] = name
    runs: list[list[Any]] = []
    for owner in owners:
        if runs and runs[-1][1] == owner:
            runs[-1][0] += step
        else:
            runs.append([step, owner])
    return runs


_MOST_RUNS = 4000
