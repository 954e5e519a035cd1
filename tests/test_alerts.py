"""Each alert rule, tested by causing what it is for: the rule's expression over what ``/metrics`` says then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from tests.job.waiting import wait_until
from tests.support.promql import Scrape, evaluate

from jobsync import Cluster, CoordinationConfig, Job
from jobsync.backends.memory import MemoryBackend
from jobsync.metrics import JobMetrics
from jobsync.testing import Fault, FaultyBackend, Namespace, When
from jobsync.testing.editable_store import EditableStore

RULES: Mapping[str, str] = {
    rule['alert']: rule['expr']
    for group in yaml.safe_load((Path(__file__).parents[1] / 'docs/operate/alerts.yml').read_text())['groups']
    for rule in group['rules']
}


class Worker:
    """A worker with metrics, on a store that fails as a test wants it, and the scrapes of its metrics so far."""

    def __init__(self, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stack, self._monkeypatch = stack, monkeypatch
        self.store = EditableStore()
        self.backend = FaultyBackend(MemoryBackend(self.store), sleep=self._advance)
        self.cluster = Cluster(MemoryBackend(self.store))
        self.registry = CollectorRegistry()
        self.scrapes: list[Scrape] = []

    def _advance(self, seconds: float) -> None:
        """Let the clock by which calls are measured go on."""
        before = time.perf_counter
        self._monkeypatch.setattr('jobsync.metrics.time.perf_counter', lambda: before() + seconds)

    def start(self, *others: Job, **settings: Any) -> Job:
        """Enter the job, scrape, and enter other jobs of the process."""
        own = {'minimum_nodes': 1, 'total_tokens': 20, 'heartbeat_interval_sec': 0.1, 'rebalance_delay_sec': 0, **settings}
        job = Job('w1', coordination_config=CoordinationConfig(backend=self.backend, **own))
        JobMetrics(job, *others, registry=self.registry)
        self._stack.enter_context(job)
        self._stack.callback(self.backend.faults.clear)
        wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything')
        self.scrape(0)
        for other in others:
            self._stack.enter_context(other)
            wait_until(other.am_i_leader, 'the other one leads')
        return job

    def scrape(self, at: float) -> None:
        """Scrape at a time of the test's own."""
        self.scrapes.append(Scrape(at, generate_latest(self.registry).decode()))

    def value(self, name: str) -> float:
        """Return a metric of the worker as it is."""
        found = self.registry.get_sample_value(name, {'node': 'w1'})
        assert found is not None
        return found


def cut_off(worker: Worker) -> None:
    job = worker.start(heartbeat_timeout_sec=0.5)
    worker.backend.faults.append(Fault(times=1_000_000))
    wait_until(lambda: not job.am_i_healthy(), 'the lease ends')
    worker.scrape(60)


def two_clusters(worker: Worker) -> None:
    elsewhere = CoordinationConfig(backend=MemoryBackend(EditableStore()), minimum_nodes=1, total_tokens=20)
    worker.start(Job('w2', coordination_config=elsewhere))
    worker.scrape(60)


def slow_heartbeats(worker: Worker) -> None:
    worker.start()
    worker.backend.faults.append(Fault('heartbeat', When.NEVER, times=3, delay_sec=4))
    wait_until(lambda: not worker.backend.faults or worker.backend.faults[0].times == 0, 'heartbeats are slow')
    worker.scrape(60)


def failing_calls(worker: Worker) -> None:
    worker.start()
    worker.backend.faults.append(Fault('heartbeat', times=8))
    wait_until(lambda: not worker.backend.faults or worker.backend.faults[0].times == 0, 'heartbeats fail')
    worker.scrape(60)


def evicted_again_and_again(worker: Worker) -> None:
    job = worker.start()
    for count in (1, 2, 3):
        worker.cluster.evict('w1')
        wait_until(lambda count=count: worker.value('jobsync_evictions_total') == count, 'it notices')  # type: ignore[misc]
        wait_until(lambda: len(job.my_tokens) == 20, 'it is back')
    worker.scrape(3600)


def restless(worker: Worker) -> None:
    worker.start()
    for number in range(61):
        before = worker.value('jobsync_plans_total')
        worker.cluster.add_lock(f'task {number}', 'w1')
        wait_until(lambda before=before: worker.value('jobsync_plans_total') > before, 'the leader plans')  # type: ignore[misc]
    worker.scrape(3600)


def lock_without_match(worker: Worker) -> None:
    worker.start()
    worker.cluster.add_lock('x', 'gpu-%')
    wait_until(lambda: worker.value('jobsync_locks_unmatched') > 0, 'no node matches')
    worker.scrape(300)


def spoilt_record(worker: Worker) -> None:
    worker.start()
    Namespace(MemoryBackend(worker.store)).join('w2')
    worker.store.spoil_node('sync_', 'w2')
    wait_until(lambda: worker.value('jobsync_records_unreadable') > 0, 'it is read')
    worker.scrape(300)


def hanging_task(worker: Worker) -> None:
    assert worker.start().add_task('x')
    worker.scrape(3600)


def deadly_task(worker: Worker) -> None:
    job = worker.start(max_attempts=2)
    namespace = Namespace(MemoryBackend(worker.store))
    for name in ('w2', 'w3'):
        lost = namespace.join(name)
        namespace.backend.append_claims(lost, ['x'], job.date, 1)
        namespace.backend.remove_node(lost)
    assert not job.add_task('x')
    worker.scrape(60)


FAULTS: Mapping[str, Callable[[Worker], None]] = {
    'JobsyncNodeUnhealthy': cut_off,
    'JobsyncNoLeader': cut_off,
    'JobsyncTwoLeaders': two_clusters,
    'JobsyncHeartbeatSlow': slow_heartbeats,
    'JobsyncStoreFails': failing_calls,
    'JobsyncEvicted': evicted_again_and_again,
    'JobsyncRestless': restless,
    'JobsyncLockWithoutMatch': lock_without_match,
    'JobsyncUnreadable': spoilt_record,
    'JobsyncStuckTasks': hanging_task,
    'JobsyncQuarantine': deadly_task,
}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that is not started yet."""
    with ExitStack() as stack:
        yield Worker(stack, monkeypatch)


@pytest.mark.parametrize('rule', RULES)
def test_a_rule_fires(worker: Worker, rule: str) -> None:
    """The fault that the rule is for makes it fire; before the fault it was silent."""
    FAULTS[rule](worker)
    assert not evaluate(RULES[rule], worker.scrapes[:1])
    assert evaluate(RULES[rule], worker.scrapes)


def test_no_rule_fires_without_a_fault(worker: Worker) -> None:
    """A worker that does its tasks sets off nothing, though one is in hand."""
    job = worker.start()
    assert list(job.claim(range(20))) == list(range(20))
    assert job.add_task('open')
    wait_until(lambda: worker.value('jobsync_audits_total') == 20, 'the completions are recorded')
    worker.scrape(3600)
    assert [rule for rule, expression in RULES.items() if evaluate(expression, worker.scrapes)] == []
