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
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from jobsync._core.redact import safe_repr
from jobsync._metadata import version_of
from jobsync._worker import status
from jobsync.backend import Backend, Plan
from jobsync.errors import ConfigError, Evicted, JobsyncError
from jobsync.job import Job

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Info
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("jobsync.metrics needs prometheus-client: pip install 'jobsync[metrics]'") from error

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from jobsync.aio import AsyncJob

__all__ = ['JobMetrics']

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CALL = ('node', 'operation')
_UNMEASURED = frozenset({'close', 'connection', 'wait'})
"""What is no call to the store, or is meant to last."""


def _job_of(given: Job | AsyncJob) -> Job:
    found = given if isinstance(given, Job) else getattr(given, '_job', None)
    if not isinstance(found, Job):
        raise ConfigError(f'job is {safe_repr(given)}: must be a Job or an AsyncJob')
    return found


def _oldest(job: Job) -> float:
    return job._task_log.oldest_open_sec()


def _quarantined(job: Job) -> float:
    # A task that has passed to another node may be released and done there, and this node would never know.
    # And job.owns would count as progress of the user's code.
    return sum(status.owns(job._session, job.task_to_token(key)) for key in job._task_log.attempts.quarantined)


_GAUGES: dict[str, tuple[str, Callable[[Job], float]]] = {
    'jobsync_healthy': ('1 if the node may claim what it owns and has not stalled, else 0', lambda job: job.am_i_healthy()),
    'jobsync_leader': ('1 if the node leads the cluster, else 0', lambda job: job.am_i_leader()),
    'jobsync_tokens_owned': ('Tokens and pins that the node may claim now', lambda job: status.count_owned(job._session)),
    'jobsync_lease_seconds': ('Seconds until the lease of the node ends', lambda job: status.lease_left_sec(job._session)),
    'jobsync_assignment_version': ('Version of the assignment that the node has applied', lambda job: job.token_version),
    'jobsync_tasks_open': ('Tasks that the node has begun and not ended', lambda job: _status(job)['open_tasks']),
    'jobsync_task_oldest_seconds': ('How long ago the oldest of them was begun; 0 if there is none', _oldest),
    'jobsync_tasks_quarantined': ('Tasks that the node owns and was refused since they are in quarantine', _quarantined),
    'jobsync_locks_unmatched': ('Task locks and items that no live node matches', lambda job: _status(job)['unplaced_locks']),
    'jobsync_records_unreadable': ('Records in the store that cannot be read', lambda job: len(_status(job)['unreadable'])),
    'jobsync_log_lines_dropped': (
        'Log lines that were dropped: the log was too slow, or raised',
        lambda job: _status(job)['log_lines_dropped'],
    ),
}


class JobMetrics(Collector):
    """The metrics of the jobs of a process, each with the label ``node``.

    Args:
        jobs: Each a ``Job`` or ``AsyncJob`` that has not been entered.
        registry: Where the metrics are registered; each process has a default one, and a registry takes one ``JobMetrics``.

    Raises:
        ConfigError: A job has been entered already, an argument is no job, two jobs have one name, or the registry has a
            ``JobMetrics``.
    """

    def __init__(self, *jobs: Job | AsyncJob, registry: CollectorRegistry = REGISTRY) -> None:
        self._jobs = list(map(_job_of, jobs))
        for name, number in Counts(job.node_name for job in self._jobs).items():
            if number > 1:  # two values of one metric with equal labels, of which Prometheus would take one
                raise ConfigError(f'{number} of the jobs are {name!r}: must have different names, or a registry each')
        for job in self._jobs:
            try:
                job._session.check_enterable()
            except JobsyncError as error:
                raise ConfigError(f'job {job.node_name!r} has been entered: make its JobMetrics before') from error
        self._own = CollectorRegistry()
        self._joined: set[str] = set()
        """The nodes that have registered a first time."""
        self._seconds = Histogram(
            'jobsync_store_call_seconds', 'Duration of calls to the store', _CALL, buckets=_BUCKETS, registry=self._own
        )
        self._failures = self._counter('jobsync_store_call_failures', 'Calls to the store that failed', _CALL)
        self._evictions = self._counter('jobsync_evictions', 'How often the node had to join anew')
        self._plans = self._counter('jobsync_plans', 'Plans that the node has committed as leader')
        self._hand_overs = Histogram(
            'jobsync_hand_over_seconds',
            'How long hand-overs took: from the first plan until the tokens had passed',
            ('node',),
            buckets=_BUCKETS,
            registry=self._own,
        )
        self._moved = self._counter('jobsync_tokens_moved', 'Tokens and pins that those plans gave to another owner')
        self._claims = self._counter('jobsync_claims', 'Claims that the node has recorded')
        self._attempts = self._counter('jobsync_attempts', 'Those of the claims that count as attempts (max_attempts)')
        self._audits = self._counter('jobsync_audits', 'Completions that the node has recorded')
        build = Info('jobsync_build', 'The version of this library', registry=self._own)
        build.info({'version': version_of('jobsync') or 'unknown'})
        for job in self._jobs:
            self._begin(job.node_name)
        try:
            registry.register(self)
        except ValueError as error:  # whose text is the names of all metrics
            raise ConfigError(
                'the registry has a JobMetrics: give it all jobs, as in JobMetrics(a, b), or this one a registry of its own; if '
                'its jobs have left, take it out first, by registry.unregister(metrics)'
            ) from error
        for job in self._jobs:
            job._session.instrument = partial(self._measured, job.node_name, job._session.instrument)

    def _counter(self, name: str, about: str, labels: tuple[str, ...] = ('node',)) -> Counter:
        return Counter(name, about, labels, registry=self._own)

    def _begin(self, node: str) -> None:
        """Begin every counter at 0. One that begins with its first event does not rise by it, and no alert can wait for none."""
        for counter in (self._evictions, self._plans, self._moved, self._claims, self._attempts, self._audits, self._hand_overs):
            counter.labels(node)
        for operation in vars(Backend):
            if not operation.startswith('_') and operation not in {*_UNMEASURED, 'info'}:
                self._failures.labels(node, operation)

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

    def _measured(self, node: str, inner: Callable[[Backend], Backend], backend: Backend) -> Backend:
        """Return the backend as measured here, and by ``inner``: the ``JobMetrics`` of another registry, if the job has one."""
        return cast('Backend', _MeasuredBackend(inner(backend), partial(self._call, node)))

    def _call(self, node: str, operation: str, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        """Make a call to the store, and measure it."""
        started = time.perf_counter()
        try:
            answer = call(*values, **named)
        except Evicted:
            raise  # an answer
        except Exception:
            self._failures.labels(node, operation).inc()
            raise
        finally:
            self._seconds.labels(node, operation).observe(time.perf_counter() - started)
        self._count(node, operation, values, answer)
        return answer

    def _count(self, node: str, operation: str, values: tuple[Any, ...], answer: Any) -> None:
        if operation == 'append_claims':
            recorded = len(values[1]) - len(answer.completed) - len(answer.lost_attempts)
            self._claims.labels(node).inc(recorded)
            self._attempts.labels(node).inc(0 if values[3:] in ((), (None,)) else recorded)
        elif operation == 'register':
            # A node that finds its record gone in a reading starts over without a call that is refused, so no error shows it.
            self._evictions.labels(node).inc(node in self._joined)
            self._joined.add(node)
        elif operation == 'append_audits':
            self._audits.labels(node).inc(len(values[1]))
        elif operation == 'commit':
            plan: Plan = values[1]
            self._plans.labels(node).inc()
            self._moved.labels(node).inc(plan.moved)
            if plan.moved and plan.duration_ms:
                self._hand_overs.labels(node).observe(plan.duration_ms / 1000)


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
