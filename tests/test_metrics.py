"""The metrics of a job, as a scrape shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient
from tests.job.waiting import wait_until
from tests.support.promql import Scrape, evaluate

from jobsync import AsyncJob, Cluster, ConfigError, CoordinationConfig, Job, Task
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.metrics import JobMetrics
from jobsync.testing import Fault, FaultyBackend, Namespace
from jobsync.web import cluster_app
from jobsync.web.gauges import CLUSTER_GAUGES

ROOT = Path(__file__).parents[1]


def metrics() -> set[str]:
    """The names of all metrics, as rules and dashboards write them."""
    registry = CollectorRegistry()
    JobMetrics(Job('w1', coordination_config=config(MemoryBackend(MemoryStore()))), registry=registry)
    ends = {'counter': '_total', 'info': '_info'}
    found = {family.name + ends.get(family.type, '') for family in registry.collect()}
    return found | {f'{name}_{part}' for name in found if name.endswith('_seconds') for part in ('bucket', 'sum', 'count')}


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """Return the samples of a scrape, by their names and labels."""
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(' ', 1) for line in lines if not line.startswith('#'))
    return {name: float(value) for name, value in pairs}


def config(backend: object) -> CoordinationConfig:
    return CoordinationConfig(backend=backend, minimum_nodes=1, total_tokens=100)  # type: ignore[arg-type]


def test_a_scrape_shows_what_a_job_is_and_has_done() -> None:
    """Ownership and lease as they are now; claims, completions, plans and calls as they were counted."""
    registry = CollectorRegistry()
    job = Job('w1', coordination_config=config(MemoryBackend(MemoryStore())))
    JobMetrics(job, registry=registry)
    before = scraped(registry)
    assert (before['jobsync_healthy{node="w1"}'], before['jobsync_tokens_owned{node="w1"}']) == (0, 0)
    with job:
        assert list(job.claim(range(10))) == list(range(10))
        job.add_task('open')
        found = scraped(registry)
        assert found['jobsync_healthy{node="w1"}'] == found['jobsync_leader{node="w1"}'] == 1
        assert found['jobsync_tokens_owned{node="w1"}'] == 100
        assert 0 < found['jobsync_lease_seconds{node="w1"}'] <= 13.5
        assert found['jobsync_tasks_open{node="w1"}'] == 1
        assert found['jobsync_claims_total{node="w1"}'] == 11
        assert found['jobsync_plans_total{node="w1"}'] >= 1
        assert found['jobsync_tokens_moved_total{node="w1"}'] == 100
        assert found['jobsync_assignment_version{node="w1"}'] == job.token_version
        assert found['jobsync_store_call_seconds_count{node="w1",operation="heartbeat"}'] >= 1
    after = scraped(registry)
    assert after['jobsync_audits_total{node="w1"}'] == 10
    assert after['jobsync_tokens_owned{node="w1"}'] == 0


def test_failures_are_counted() -> None:
    """A call that fails is counted with its operation, and measured too; a call that is repeated is measured each time."""
    registry = CollectorRegistry()
    backend = FaultyBackend(MemoryBackend(MemoryStore()), Fault('append_claims', times=2))
    job = Job('w1', coordination_config=config(backend))
    JobMetrics(job, registry=registry)
    with job:
        assert job.add_task('x')
        found = scraped(registry)
    labels = '{node="w1",operation="append_claims"}'
    assert found[f'jobsync_store_call_failures_total{labels}'] == 2
    assert found[f'jobsync_store_call_seconds_count{labels}'] == 3
    assert found['jobsync_claims_total{node="w1"}'] == 1


def kill_two(namespace: Namespace, job: Job) -> None:
    """Have two other nodes die at the task ``deadly``."""
    for name in ('x', 'y'):
        lost = namespace.join(name)
        namespace.backend.append_claims(lost, ['deadly'], job.date, 1)
        namespace.backend.remove_node(lost)


def test_hand_overs_attempts_and_quarantine() -> None:
    """The leader's hand-overs with their durations; the oldest open task; claims that count as attempts; tasks in quarantine."""
    registry, store = CollectorRegistry(), MemoryStore()
    fast = {'minimum_nodes': 1, 'total_tokens': 100, 'rebalance_delay_sec': 0, 'max_attempts': 2}
    jobs = [Job(name, coordination_config=CoordinationConfig(backend=MemoryBackend(store), **fast)) for name in ('w1', 'w2')]  # type: ignore[arg-type]
    JobMetrics(jobs[0], registry=registry)
    namespace = None
    with jobs[0] as job:
        namespace = Namespace(MemoryBackend(store))
        kill_two(namespace, job)
        assert not job.add_task('deadly')
        assert job.add_task('long')
        refused = scraped(registry)
        with jobs[1]:
            wait_until(lambda: len(jobs[1].my_tokens) == 50, 'the newcomer has its share')
            found = scraped(registry)
    assert found['jobsync_hand_over_seconds_count{node="w1"}'] >= 1
    assert found['jobsync_hand_over_seconds_sum{node="w1"}'] > 0
    assert found['jobsync_task_oldest_seconds{node="w1"}'] > 0
    assert found['jobsync_attempts_total{node="w1"}'] == found['jobsync_claims_total{node="w1"}'] == 1
    assert refused['jobsync_tasks_quarantined{node="w1"}'] == 1


def test_a_task_in_quarantine_is_counted_by_its_owner() -> None:
    """A task that has passed to another node may be released and done there: the node that had it counts it no longer."""
    registry, store = CollectorRegistry(), MemoryStore()
    settings = CoordinationConfig(
        backend=MemoryBackend(store), minimum_nodes=1, total_tokens=10, rebalance_delay_sec=0, max_attempts=2
    )
    job = Job('w1', coordination_config=settings)
    JobMetrics(job, registry=registry)
    with job:
        namespace = Namespace(MemoryBackend(store))
        kill_two(namespace, job)
        assert not job.add_task('deadly')
        lease = job._session.lease
        assert lease is not None
        lease.has_progressed = False
        assert scraped(registry)['jobsync_tasks_quarantined{node="w1"}'] == 1
        assert not lease.has_progressed, 'a scrape counts as progress of the user code'
        Cluster(MemoryBackend(store)).add_lock('deadly', 'elsewhere')
        wait_until(lambda: job.task_to_token('deadly') >= 10, 'it is bound to another node')
        wait_until(lambda: not job.can_claim_task('deadly'), 'it is not its task any more')
        assert scraped(registry)['jobsync_tasks_quarantined{node="w1"}'] == 0


def test_without_the_extra_the_import_says_what_to_install() -> None:
    """A program that imports the module meets no name of a library that it has not heard of."""
    code = "import sys; sys.modules['prometheus_client'] = None; import jobsync.metrics"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert "ImportError: jobsync.metrics needs prometheus-client: pip install 'jobsync[metrics]'" in done.stderr


def test_what_has_no_metrics() -> None:
    """What is no job is refused by name, and so is a second ``JobMetrics`` of a registry, which says what to do."""
    registry = CollectorRegistry()
    JobMetrics(Job('w1', coordination_config=config(MemoryBackend(MemoryStore()))), registry=registry)
    with pytest.raises(ConfigError, match=r'the registry has a JobMetrics: give it all jobs'):
        JobMetrics(Job('w2', coordination_config=config(MemoryBackend(MemoryStore()))), registry=registry)
    with pytest.raises(ConfigError, match=r"2 of the jobs are 'w1': must have different names, or a registry each"):
        JobMetrics(*(Job('w1', coordination_config=config(MemoryBackend(MemoryStore()))) for _ in 'ab'), registry=registry)
    with pytest.raises(ConfigError, match=r"job is 'w1' \(str\): must be a Job or an AsyncJob"):
        JobMetrics('w1', registry=registry)  # type: ignore[arg-type]


def test_one_job_after_the_other() -> None:
    """A program makes a job for each day: what the refusal of the second ``JobMetrics`` advises works."""
    registry, store = CollectorRegistry(), MemoryStore()

    def job() -> Job:
        return Job('w1', coordination_config=config(MemoryBackend(store)))

    first, second = job(), job()
    metrics = JobMetrics(first, registry=registry)
    with first:
        assert scraped(registry)['jobsync_healthy{node="w1"}'] == 1
    with pytest.raises(ConfigError, match=r'if its jobs have left, take it out first, by registry\.unregister\(metrics\)'):
        JobMetrics(second, registry=registry)
    registry.unregister(metrics)
    assert not any(name.startswith('jobsync') for name in scraped(registry))
    JobMetrics(second, registry=registry)
    with second:
        assert scraped(registry)['jobsync_healthy{node="w1"}'] == 1


def test_metrics_cost_no_call_to_the_store() -> None:
    """A scrape calls nothing, and each call of the job reaches the store once: idle calls with metrics are those without."""
    registry, here = CollectorRegistry(), threading.get_ident()
    calls: list[tuple[str, int]] = []

    class Watched(FaultyBackend):
        def _fault(self, method: str) -> Fault | None:
            calls.append((method, threading.get_ident()))
            return super()._fault(method)

    job = Job('w1', coordination_config=config(Watched(MemoryBackend(MemoryStore()))))
    JobMetrics(job, registry=registry)
    with job:
        before = [name for name, thread in calls if thread == here]
        for _ in range(100):
            generate_latest(registry)
        assert [name for name, thread in calls if thread == here] == before
    measured = scraped(registry)
    for name, count in Counter(name for name, _ in calls).items():
        if name != 'wait':
            assert measured[f'jobsync_store_call_seconds_count{{node="w1",operation="{name}"}}'] == count, name


def functions_of(ask: Callable[[], object]) -> list[str]:
    """Return the functions, of Python and of C, that a call goes through."""
    found: list[str] = []

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event in ('call', 'c_call'):
            found.append(frame.f_code.co_qualname if event == 'call' else function.__qualname__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        ask()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize('task', [7, 'x', Task('x')])
def test_metrics_are_not_on_the_path_of_a_question(task: object) -> None:
    """``can_claim_task`` goes through the same functions with metrics as without, and none of them measures."""
    plain, measured = (Job(name, coordination_config=config(MemoryBackend(MemoryStore()))) for name in ('w1', 'w1'))
    JobMetrics(measured, registry=CollectorRegistry())
    with plain, measured:
        path = functions_of(lambda: plain.can_claim_task(task))
        assert 'Job.can_claim_task' in path
        assert functions_of(lambda: measured.can_claim_task(task)) == path


def test_a_job_in_two_registries() -> None:
    """Each counts all of the job's calls: a second ``JobMetrics`` takes nothing from the first."""
    first, second = CollectorRegistry(), CollectorRegistry()
    job = Job('w1', coordination_config=config(MemoryBackend(MemoryStore())))
    JobMetrics(job, registry=first)
    JobMetrics(job, registry=second)
    with job:
        assert list(job.claim(range(10))) == list(range(10))
        job.write_audit()
    for registry in (first, second):
        found = scraped(registry)
        assert (found['jobsync_claims_total{node="w1"}'], found['jobsync_audits_total{node="w1"}']) == (10, 10)


def test_two_jobs_of_a_process() -> None:
    """The label tells the jobs of a process apart."""
    registry, store = CollectorRegistry(), MemoryStore()
    jobs = [Job(name, coordination_config=config(MemoryBackend(store))) for name in ('w1', 'w2')]
    JobMetrics(*jobs, registry=registry)
    assert {'jobsync_healthy{node="w1"}', 'jobsync_healthy{node="w2"}'} <= scraped(registry).keys()


def test_an_async_job_has_the_same() -> None:
    """An ``AsyncJob`` is measured as its ``Job`` is."""
    registry = CollectorRegistry()
    JobMetrics(AsyncJob('w1', coordination_config=config(MemoryBackend(MemoryStore()))), registry=registry)
    assert scraped(registry)['jobsync_healthy{node="w1"}'] == 0


def test_it_is_made_before_the_job_is_entered() -> None:
    """Calls that were made before would be missing, so it is refused."""
    with Job('w1', coordination_config=config(MemoryBackend(MemoryStore()))) as job, pytest.raises(ConfigError, match='entered'):
        JobMetrics(job, registry=CollectorRegistry())


@pytest.mark.parametrize('name', sorted(name for name in metrics() if not re.search('_(bucket|sum|count)$', name)))
def test_a_metric_is_documented(name: str) -> None:
    """Each metric is in the table of the page."""
    assert f'| `{name}` |' in (ROOT / 'docs/operate/metrics.md').read_text()


def test_rules_use_metrics_that_exist() -> None:
    """No alert waits for a metric that no job has."""
    used = set(re.findall(r'jobsync_[a-z_]+', (ROOT / 'docs/operate/alerts.yml').read_text()))
    assert used
    assert used <= metrics()


PANELS: list[Any] = json.loads((ROOT / 'docs/operate/dashboard.json').read_text())['panels']
EXPRESSIONS = {target['expr']: panel['title'] for panel in PANELS for target in panel['targets']}


def test_every_metric_has_a_panel() -> None:
    """The dashboard shows each metric of a worker and of a cluster, and no other."""
    shown = set(re.findall(r'jobsync_[a-z_]+', ' '.join(EXPRESSIONS)))
    known = metrics() | CLUSTER_GAUGES.keys()
    assert shown <= known
    assert {re.sub('_(bucket|sum|count)$', '', name) for name in known} <= {name.removesuffix('_bucket') for name in shown}


def test_panels_have_places_of_their_own() -> None:
    """No panel lies on another one, and each has its own number."""
    squares = [
        (at['x'] + x, at['y'] + y)
        for at in (panel['gridPos'] for panel in PANELS)
        for x in range(at['w'])
        for y in range(at['h'])
    ]
    assert len(squares) == len(set(squares))
    assert len({panel['id'] for panel in PANELS}) == len(PANELS)


def test_every_panel_has_something_to_show() -> None:
    """Each expression selects series in what a worker at work, after a hand-over, and a server of the page expose."""
    registry, store, scrapes = CollectorRegistry(), MemoryStore(), list[Scrape]()
    backend = MemoryBackend(store)
    job = Job('w1', coordination_config=config(backend))
    JobMetrics(job, registry=registry)
    with job, TestClient(cluster_app(lambda: Cluster(backend)), base_url='http://localhost') as page:

        def scrape(at: float) -> None:
            scrapes.append(Scrape.of(at, generate_latest(registry).decode() + page.get('/metrics').text))

        scrape(0)
        with Job('w2', coordination_config=config(MemoryBackend(store))):
            wait_until(lambda: scraped(registry)['jobsync_hand_over_seconds_count{node="w1"}'] > 0, 'w2 has its share')
        scrape(60)
    assert [title for expression, title in EXPRESSIONS.items() if not evaluate(expression, scrapes)] == []
