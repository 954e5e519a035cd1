"""The metrics of a cluster, as an observer reads it, for Prometheus: what ``jobsync web`` serves under ``/metrics``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobsync.web.frame import Frame

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ['CLUSTER_GAUGES', 'cluster_metrics']

CLUSTER_GAUGES = {
    'jobsync_cluster_up': '1 if the store has answered, else 0',
    'jobsync_cluster_read_age_seconds': 'Seconds since the store was read',
    'jobsync_cluster_nodes': 'Nodes at work',
    'jobsync_cluster_nodes_silent': 'Registered nodes without a heartbeat for their timeout',
    'jobsync_cluster_tokens_owned': 'Tokens that have an owner',
    'jobsync_cluster_tokens_unowned': 'Tokens without an owner',
    'jobsync_cluster_tokens_moving': 'Tokens and pins that are being handed over',
    'jobsync_cluster_leader': '1 if the node that leads is at work, else 0',
    'jobsync_cluster_epoch': 'How often the leadership has changed',
    'jobsync_cluster_locks': 'Task locks',
    'jobsync_cluster_locks_unmatched': 'Task locks and items that no live node matches',
    'jobsync_cluster_items': 'Items',
    'jobsync_cluster_tasks_incomplete': 'Tasks that were begun more than five minutes ago and are not complete',
    'jobsync_cluster_tasks_quarantined': 'Tasks in quarantine today',
    'jobsync_cluster_problems': 'What needs attention, as jobsync status lists it',
}
"""The names of the metrics, and what each says."""


def cluster_metrics(frame: Frame | None, error: str | None) -> bytes:
    """Return the exposition of a frame; without one, only that there is none."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(frame, error))
    return generate_latest(registry)


class _Gauges(Collector):
    def __init__(self, frame: Frame | None, error: str | None) -> None:
        self._values = {'jobsync_cluster_up': float(error is None and frame is not None)} | (
            {} if frame is None else _values(frame)
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the values."""
        for name, value in self._values.items():
            yield GaugeMetricFamily(name, CLUSTER_GAUGES[name], value=value)


def _values(frame: Frame) -> dict[str, float]:
    part = {name: json.loads(frame.parts[name]) for name in ('status', 'health', 'locks', 'incomplete', 'quarantined')}
    status = part['status']
    read = [name for name in ('incomplete', 'quarantined') if part[name]['is_read']]
    silent = len([node for node in frame.reading.snapshot.nodes if frame.reading.is_silent(node)])
    return {
        'jobsync_cluster_read_age_seconds': time.monotonic() - frame.read_at,
        'jobsync_cluster_nodes_silent': silent,
        'jobsync_cluster_leader': float(status['leader'] in frame.reading.live),
        'jobsync_cluster_locks_unmatched': part['locks']['unmatched'],
        **{f'jobsync_cluster_tasks_{name}': part[name]['total'] for name in read},
        'jobsync_cluster_problems': part['health']['total'],
        **{
            f'jobsync_cluster_{name}': status[name]
            for name in ('nodes', 'tokens_owned', 'tokens_unowned', 'tokens_moving', 'epoch', 'locks', 'items')
        },
    }
