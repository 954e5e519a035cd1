"""Each alert rule, tested by causing what it is for.

The fault is real, and so is what ``/metrics`` says before it and during it. Of these scrapes a timeline is made, with times of
its own: so the rule's expression and its ``for`` are evaluated over hours of a fault, and nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.job.waiting import wait_until
from tests.support.alerting import INTERVAL_SEC, AlertState, rules, timeline
from tests.support.promql import Scrape

from jobsync import Cluster, CoordinationConfig, Job
from jobsync.backends.memory import MemoryBackend
from jobsync.metrics import JobMetrics
from jobsync.testing import Fault, FaultyBackend, Namespace, When
from jobsync.testing.editable_store import EditableStore

RULES = rules(Path(__file__).parents[1] / 'docs/operate/alerts.yml')


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
        self.scrape()
        for other in others:
            self._stack.enter_context(other)
            wait_until(other.am_i_leader, 'the other one leads')
        return job

    def scrape(self) -> None:
        """Scrape: before the fault, then during it."""
        self.scrapes.append(Scrape.of(0, generate_latest(self.registry).decode()))

    def value(self, name: str) -> float:
        """Return a metric of the worker as it is."""
        found = self.registry.get_sample_value(name, {'node': 'w1'})
        assert found is not None
        return found


def cut_off(worker: Worker) -> None:
    job = worker.start(heartbeat_timeout_sec=0.5)
    worker.backend.faults.append(Fault(times=1_000_000))
    wait_until(lambda: not job.am_i_healthy(), 'the lease ends')
    worker.scrape()


def all_gone(worker: Worker) -> None:
    worker.start()
    worker.scrapes.append(Scrape.of(0, ''))


def two_clusters(worker: Worker) -> None:
    elsewhere = CoordinationConfig(backend=MemoryBackend(EditableStore()), minimum_nodes=1, total_tokens=20)
    worker.start(Job('w2', coordination_config=elsewhere))
    worker.scrape()


def slow_heartbeats(worker: Worker) -> None:
    worker.start()
    worker.backend.faults.append(Fault('heartbeat', When.NEVER, times=3, delay_sec=4))
    wait_until(lambda: not worker.backend.faults or worker.backend.faults[0].times == 0, 'heartbeats are slow')
    worker.scrape()


def failing_calls(worker: Worker) -> None:
    worker.start()
    worker.backend.faults.append(Fault('heartbeat', times=8))
    wait_until(lambda: not worker.backend.faults or worker.backend.faults[0].times == 0, 'heartbeats fail')
    worker.scrape()


def evicted_again_and_again(worker: Worker) -> None:
    job = worker.start()
    for count in (1, 2, 3):
        worker.cluster.evict('w1')
        wait_until(lambda count=count: worker.value('jobsync_evictions_total') == count, 'it notices')  # type: ignore[misc]
        wait_until(lambda: len(job.my_tokens) == 20, 'it is back')
        worker.scrape()


def restless(worker: Worker) -> None:
    worker.start()
    for number in range(61):
        before = worker.value('jobsync_plans_total')
        worker.cluster.add_lock(f'task {number}', 'w1')
        wait_until(lambda before=before: worker.value('jobsync_plans_total') > before, 'the leader plans')  # type: ignore[misc]
        worker.scrape()


def lock_without_match(worker: Worker) -> None:
    worker.start()
    worker.cluster.add_lock('x', 'gpu-%')
    wait_until(lambda: worker.value('jobsync_locks_unmatched') > 0, 'no node matches')
    worker.scrape()


def spoilt_record(worker: Worker) -> None:
    worker.start()
    Namespace(MemoryBackend(worker.store)).join('w2')
    worker.store.spoil_node('sync_', 'w2')
    wait_until(lambda: worker.value('jobsync_records_unreadable') > 0, 'it is read')
    worker.scrape()


def hanging_task(worker: Worker) -> None:
    assert worker.start().add_task('x')
    worker.scrape()


def deadly_task(worker: Worker) -> None:
    job = worker.start(max_attempts=2)
    namespace = Namespace(MemoryBackend(worker.store))
    for name in ('w2', 'w3'):
        lost = namespace.join(name)
        namespace.backend.append_claims(lost, ['x'], job.date, 1)
        namespace.backend.remove_node(lost)
    wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything again, where one of these has owned a token for a moment')
    assert not job.add_task('x')
    worker.scrape()


@attrs.frozen
class Trouble:
    """What an alert is for."""

    cause: Callable[[Worker], None]
    """Causes it, with one scrape before it, one as it has happened once, and one as it goes on: the last two may be one."""
    harmless_sec: float | None
    """How long it may last without an alert, as in daily work: a restart, a failover, a deployment. None: not at all."""
    noticed_sec: float
    """When the alert must fire at the latest."""


MINUTE, HOUR = 60.0, 3600.0
FAULTS: Mapping[str, Trouble] = {
    'JobsyncNodeUnhealthy': Trouble(cut_off, 0.5 * MINUTE, 2 * MINUTE),
    'JobsyncNoWorker': Trouble(all_gone, 1.5 * MINUTE, 5 * MINUTE),
    'JobsyncNoLeader': Trouble(cut_off, 0.5 * MINUTE, 2 * MINUTE),
    'JobsyncTwoLeaders': Trouble(two_clusters, 0.5 * MINUTE, 2 * MINUTE),
    'JobsyncHeartbeatSlow': Trouble(slow_heartbeats, 4 * MINUTE, 15 * MINUTE),
    'JobsyncStoreFails': Trouble(failing_calls, 4 * MINUTE, 15 * MINUTE),
    'JobsyncEvicted': Trouble(evicted_again_and_again, INTERVAL_SEC, INTERVAL_SEC),
    'JobsyncRestless': Trouble(restless, INTERVAL_SEC, INTERVAL_SEC),
    'JobsyncLockWithoutMatch': Trouble(lock_without_match, 2 * MINUTE, 10 * MINUTE),
    'JobsyncUnreadable': Trouble(spoilt_record, 2 * MINUTE, 10 * MINUTE),
    'JobsyncStuckTasks': Trouble(hanging_task, 0.5 * HOUR, 1.5 * HOUR),
    'JobsyncQuarantine': Trouble(deadly_task, None, INTERVAL_SEC),
}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that is not started yet."""
    with ExitStack() as stack:
        yield Worker(stack, monkeypatch)


@pytest.mark.parametrize('name', RULES)
def test_a_rule_fires_while_its_fault_lasts_and_not_for_a_burst(worker: Worker, name: str) -> None:
    """It is pending until ``for`` has passed, then fires in time and goes on; what ends as in daily work never fires."""
    rule, trouble = RULES[name], FAULTS[name]
    trouble.cause(worker)
    before, once, *_ = worker.scrapes
    lasts_sec = 2 * trouble.noticed_sec + rule.for_sec
    states = dict(rule.states(timeline(before, worker.scrapes[-1], lasts_sec, lasts_sec)))
    active = [at for at, state in states.items() if state is not AlertState.INACTIVE]
    assert active[0] > 0, 'silent before the fault'
    for at in active:
        assert states[at] is (AlertState.PENDING if at < active[0] + rule.for_sec else AlertState.FIRING)
    assert [at for at, state in states.items() if at >= trouble.noticed_sec and state is not AlertState.FIRING] == []
    if trouble.harmless_sec is not None:
        burst = dict(rule.states(timeline(before, once, trouble.harmless_sec, trouble.harmless_sec + 2 * HOUR)))
        assert [at for at, state in burst.items() if state is AlertState.FIRING] == []
        assert list(burst.values())[-1] is AlertState.INACTIVE


def test_no_rule_fires_without_a_fault(worker: Worker) -> None:
    """A worker that does its tasks hour by hour sets off nothing, though one is in hand."""
    job = worker.start()
    assert list(job.claim(range(20))) == list(range(20))
    assert job.add_task('open')
    wait_until(lambda: worker.value('jobsync_audits_total') == 20, 'the completions are recorded')
    worker.scrape()
    before, busy = worker.scrapes
    scrapes = timeline(before, busy, 2 * HOUR, 2 * HOUR)
    firing = {name for name, rule in RULES.items() for _, state in rule.states(scrapes) if state is AlertState.FIRING}
    assert firing == set()
