"""``progress_timeout_sec`` over hours of virtual time: real jobs whose tasks take long, and report or hang."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import pytest

from jobsync import CoordinationConfig, Job
from jobsync.testing import Fault, VirtualCluster, When

TIMEOUT = 10.0
TASK_SEC = 10 * TIMEOUT
HOUR = 3600.0


def work_for_an_hour(job: Job, done: list[str]) -> None:
    """Work on tasks ten times as long as the timeout, which report once in nearly each timeout."""
    until = time.monotonic() + HOUR
    for task in job.claim(f'task-{number}' for number in range(10_000)):
        end = time.monotonic() + TASK_SEC
        while time.monotonic() < end:
            job.keep_going()
            time.sleep(TIMEOUT - 1)
        done.append(task)
        if time.monotonic() > until:
            return


def hang(job: Job, tasks: list[str]) -> None:
    """Hang at the first task."""
    for _ in job.claim(tasks):
        time.sleep(HOUR)


def keep_going(job: Job) -> None:
    """Report each second."""
    while True:
        job.keep_going()
        time.sleep(1)


def work(job: Job) -> None:
    """Work on one short task after the other."""
    while True:
        for _ in job.claim(range(100)):
            time.sleep(1)


def stalled(cluster: VirtualCluster) -> list[str]:
    """The nodes whose records say that they make no progress."""
    return [node.name for node in cluster.backend.snapshot().nodes if node.stalled]


@pytest.mark.parametrize('handover_sec', [5.0, 30.0])
def test_an_hour_of_long_tasks_and_then_a_hung_one(handover_sec: float) -> None:
    """Tasks that report raise no alarm and move nothing. One that hangs costs its node its share within timeout + 2 s."""
    config = CoordinationConfig(progress_timeout_sec=TIMEOUT, handover_timeout_sec=handover_sec)
    with VirtualCluster(max_sec=2 * HOUR) as cluster:
        done: list[str] = []
        a, b = (cluster.join(name, coordination_config=config) for name in 'ab')
        cluster.settle()
        programs = [cluster.start(name, work_for_an_hour, done) for name in 'ab']
        cluster.advance(1)
        version, shares = cluster.backend.snapshot().version, [a.my_tokens, b.my_tokens]
        while cluster.now < HOUR:
            cluster.advance(TIMEOUT / 4)
            assert (cluster.backend.snapshot().version, stalled(cluster)) == (version, [])
        assert [a.my_tokens, b.my_tokens] == shares
        assert len(done) == 2 * int(HOUR // (TASK_SEC + 8))  # twelve reports of nine seconds each
        cluster.wait_until(lambda: all(program.is_over for program in programs), within=2 * TASK_SEC)

        tasks = [task for task in map(str, range(1_000)) if a.can_claim_task(task)]
        token = a.task_to_token(tasks[0])
        hung = cluster.start('a', hang, tasks)
        cluster.start('b', keep_going)
        cluster.advance(0.05)
        assert cluster.wait_until(lambda: a.my_tokens <= {token}) <= TIMEOUT + 2
        assert cluster.wait_until(lambda: len(b.my_tokens) >= config.total_tokens - 1) <= 2
        assert not a.am_i_healthy()
        assert stalled(cluster) == ['a']
        assert cluster.wait_until(lambda: b.can_claim_task(tasks[0])) <= handover_sec + 2
        assert not hung.is_over


def test_a_worker_that_waits_for_the_store_does_not_hang() -> None:
    """An outage that is longer than the timeout, and shorter than the lease, moves nothing."""
    config = CoordinationConfig(progress_timeout_sec=5)
    with VirtualCluster() as cluster:
        jobs = [cluster.join(name, coordination_config=config) for name in 'ab']
        cluster.settle()
        for name in 'ab':
            cluster.start(name, work)
        cluster.advance(10)
        version = cluster.backend.snapshot().version
        cluster.cut_off()
        cluster.advance(8)
        assert [job.get_coordination_status()['is_stalled'] for job in jobs] == [False, False]
        cluster.reconnect()
        cluster.advance(10)
        assert cluster.backend.snapshot().version == version


def work_through(job: Job) -> None:
    """Work on all tasks of a batch."""
    deque(job.batch(range(100)), maxlen=0)


@pytest.mark.parametrize(
    ('method', 'program'),
    [
        ('append_claims', work_through),
        ('append_audits', work_through),
        ('history', work_through),
        ('incomplete', Job.get_incomplete_tasks),
        ('read_locks', Job.list_locks),
    ],
)
def test_a_worker_in_one_long_call_of_the_store_does_not_hang(method: str, program: Callable[[Job], object]) -> None:
    """A claim, a completion, a reading of a batch or any other call that takes longer than the timeout moves nothing."""
    config = CoordinationConfig(progress_timeout_sec=5)
    with VirtualCluster() as cluster:
        jobs = [cluster.join(name, coordination_config=config) for name in 'ab']
        cluster.settle()
        cluster.start('b', keep_going)
        cluster.start('a', program)
        version = cluster.backend.snapshot().version
        cluster.faulty('a').faults.append(Fault(method, When.NEVER, delay_sec=20))
        cluster.advance(15)
        assert method in cluster.faulty('a').calls
        assert [job.get_coordination_status()['is_stalled'] for job in jobs] == [False, False]
        assert cluster.backend.snapshot().version == version
