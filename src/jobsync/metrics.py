"""Metrics of jobs for Prometheus: the extra ``metrics``.

    from prometheus_client import start_http_server

    from jobsync.metrics import JobMetrics

    job = Job('worker-01', coordination_config=coordination)
    JobMetrics(job)
    start_http_server(9100)
    with job:
        ...

What a job is and owns is read when the metrics are scraped, from memory. What it requests of the store is measured around each
call. ``can_claim_task`` is not touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobsync._worker import status
from jobsync.backend import Backend, Plan
from jobsync.errors import ConfigError, Evicted, JobsyncError
from jobsync.job import Job

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from jobsync.aio import AsyncJob

__all__ = ['JobMetrics']

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CALL = ('node', 'operation')
_UNMEASURED = frozenset({'close', 'connection', 'wait'})
"""What is no call to the store, or is meant to last."""

_GAUGES: dict[str, tuple[str, Callable[[Job], float]]] = {
    'jobsync_healthy': ('1 if the node may claim what it owns, else 0', lambda job: job.am_i_healthy()),
    'jobsync_leader': ('1 if the node leads the cluster, else 0', lambda job: job.am_i_leader()),
    'jobsync_tokens_owned': ('Tokens and pins that the node may claim now', lambda job: len(job.my_tokens)),
    'jobsync_lease_seconds': ('Seconds until the lease of the node ends', lambda job: status.lease_left_sec(job._session)),
    'jobsync_assignment_version': ('Version of the assignment that the node has applied', lambda job: job.token_version),
    'jobsync_tasks_open': ('Tasks that the node has begun and not ended', lambda job: _status(job)['open_tasks']),
    'jobsync_locks_unmatched': ('Task locks that no live node matches', lambda job: _status(job)['unplaced_locks']),
    'jobsync_records_unreadable': ('Records in the store that cannot be read', lambda job: len(_status(job)['unreadable'])),
    'jobsync_log_lines_dropped': ('Lines that the log was too slow for', lambda job: _status(job)['log_lines_dropped']),
}


class JobMetrics(Collector):
    """The metrics of the jobs of a process, each with the label ``node``.

    Args:
        jobs: Each a ``Job`` or ``AsyncJob`` that has not been entered.
        registry: Where the metrics are registered; each process has a default one, and a registry takes one ``JobMetrics``.

    Raises:
        ConfigError: A job has been entered already.
    """

    def __init__(self, *jobs: Job | AsyncJob, registry: CollectorRegistry = REGISTRY) -> None:
        self._jobs = [job if isinstance(job, Job) else job._job for job in jobs]
        for job in self._jobs:
            try:
                job._session.check_enterable()
            except JobsyncError as error:
                raise ConfigError(f'job {job.node_name!r} has been entered: make its JobMetrics before') from error
        self._own = CollectorRegistry()
        self._seconds = Histogram(
            'jobsync_store_call_seconds', 'Duration of calls to the store', _CALL, buckets=_BUCKETS, registry=self._own
        )
        self._failures = self._counter('jobsync_store_call_failures', 'Calls to the store that failed', _CALL)
        self._evictions = self._counter('jobsync_evictions', 'How often the node found itself evicted')
        self._plans = self._counter('jobsync_plans', 'Plans that the node has committed as leader')
        self._moved = self._counter('jobsync_tokens_moved', 'Tokens and pins that those plans gave to another owner')
        self._claims = self._counter('jobsync_claims', 'Claims that the node has recorded')
        self._audits = self._counter('jobsync_audits', 'Completions that the node has recorded')
        registry.register(self)
        for job in self._jobs:
            job._session.instrument = partial(self._measured, job.node_name)

    def _counter(self, name: str, about: str, labels: tuple[str, ...] = ('node',)) -> Counter:
        return Counter(name, about, labels, registry=self._own)

    def collect(self) -> Iterator[Metric]:
        """Yield the present values. Called at each scrape, by any thread."""
        for name, (about, read) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, about, labels=['node'])
            for job in self._jobs:
                gauge.add_metric([job.node_name], float(read(job)))
            yield gauge
        yield from self._own.collect()

    def describe(self) -> Iterator[Metric]:
        """Yield the names, so that registering reads no values."""
        for name, (about, _) in _GAUGES.items():
            yield GaugeMetricFamily(name, about)
        yield from self._own.collect()

    # --- calls to the store -------------------------------------------------------------------------------------------------

    def _measured(self, node: str, backend: Backend) -> Backend:
        return cast('Backend', _MeasuredBackend(backend, partial(self._call, node)))

    def _call(self, node: str, operation: str, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        """Make a call to the store, and measure it."""
        started = time.perf_counter()
        try:
            answer = call(*values, **named)
        except Evicted:
            self._evictions.labels(node).inc()
            raise
        except Exception:
            self._failures.labels(node, operation).inc()
            raise
        finally:
            self._seconds.labels(node, operation).observe(time.perf_counter() - started)
        self._count(node, operation, values)
        return answer

    def _count(self, node: str, operation: str, values: tuple[Any, ...]) -> None:
        if operation == 'append_claims':
            self._claims.labels(node).inc(len(values[1]))
        elif operation == 'append_audits':
            self._audits.labels(node).inc(len(values[1]))
        elif operation == 'commit':
            plan: Plan = values[1]
            self._plans.labels(node).inc()
            self._moved.labels(node).inc(plan.moved)


class _MeasuredBackend:
    """A backend whose calls are measured. Everything else is the backend's own."""

    def __init__(self, backend: Backend, call: Callable[..., Any]) -> None:
        self._backend, self._call = backend, call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if name in _UNMEASURED or not callable(found):
            return found

        def measured(*values: Any, **named: Any) -> Any:
            return self._call(name, found, *values, **named)

        setattr(self, name, measured)
        return measured


def _status(job: Job) -> Any:
    return job.get_coordination_status()
