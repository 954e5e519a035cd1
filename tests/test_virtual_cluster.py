"""The kit for users' tests: real jobs in virtual time, one thread at a time."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from jobsync import (
    AsyncJob,
    BackendUnavailable,
    Cluster,
    ConfigError,
    CoordinationConfig,
    Job,
    NodeNameInUse,
    NotOwned,
    RebalanceEvent,
)
from jobsync._cluster import actions
from jobsync._event_log import event_log
from jobsync.testing import Fault, VirtualCluster, When
from jobsync.testing.pytest_plugin import jobsync_cluster

TIMEOUT = CoordinationConfig().heartbeat_timeout_sec
TASKS = [f't{number}' for number in range(40)]

cluster = jobsync_cluster


def shares(*jobs: Job) -> list[set[str]]:
    return [{task for task in TASKS if job.can_claim_task(task)} for job in jobs]


def failover(seed: int) -> list[tuple[float, str]]:
    """What happens as a node dies and an outage follows, with the moment of each."""
    happened: list[tuple[float, str]] = []
    with VirtualCluster(seed) as cluster:

        def record(event: RebalanceEvent) -> None:
            happened.append((cluster.now, repr(event)))

        for name in 'abc':
            cluster.join(name, on_rebalance=record)
        cluster.kill('a')
        cluster.settle()
        cluster.cut_off()
        cluster.advance(2 * TIMEOUT)
        cluster.reconnect()
        cluster.settle()
    return happened


def test_two_runs_are_the_same() -> None:
    """Every callback comes at the same moment and in the same order, whatever else the machine does."""
    assert len(first := failover(1)) > 8
    assert failover(1) == first


def test_two_runs_make_the_same_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that follow an action of an operator in a share of all cases: faults are for calls that a test counts."""
    monkeypatch.setattr(actions, '_TRIMMED_SHARE', 0.5)

    def calls() -> list[str]:
        with VirtualCluster(1) as cluster:
            job = cluster.join('a', coordination_config=CoordinationConfig(max_attempts=3))
            for task in TASKS:
                job.release_quarantined(task)
            return list(cluster.faulty('a').calls)

    assert calls() == calls()


def test_a_death_hands_its_tokens_on_within_the_promised_time(cluster: VirtualCluster) -> None:
    """P3, in the time of the nodes: one heartbeat timeout and two seconds. No second of it is waited for."""
    gained: list[RebalanceEvent] = []
    a, b = cluster.join('a'), cluster.join('b', on_rebalance=gained.append)
    mine, others = shares(a, b)
    assert mine
    assert others
    assert mine | others == set(TASKS)
    assert not mine & others
    cluster.kill('a')
    took = cluster.wait_until(lambda: shares(b) == [set(TASKS)])
    assert took <= TIMEOUT + 2
    assert gained[-1].gained == a.my_tokens or not a.my_tokens


def test_a_process_that_is_paused_has_lost_everything_when_it_goes_on(cluster: VirtualCluster) -> None:
    """It is in the midst of a task: what it asks next is refused, and ``on_lost`` has its tokens."""
    lost: list[frozenset[int]] = []
    a = cluster.join('a', on_lost=lost.append)
    b = cluster.join('b')
    tokens = a.my_tokens
    done: list[str] = []
    for task in a.claim(TASKS):
        if not done:
            cluster.pause('a')
            cluster.wait_until(lambda: shares(b) == [set(TASKS)])
            cluster.resume('a')
            assert not a.can_claim_task(task)
        done.append(task)
    assert len(done) == 1
    cluster.settle()
    assert frozenset().union(*lost) == tokens


def test_a_paused_process_that_is_to_stop_goes_on(cluster: VirtualCluster) -> None:
    """The waiting of its threads has ended twice by then, by time and by the signal: each goes on once, and ends."""
    a, b = cluster.join('a'), cluster.join('b')
    cluster.pause('a')
    cluster.advance(TIMEOUT / 2)
    cluster.stop('a')
    cluster.advance(1)
    cluster.resume('a')
    cluster.advance(1)
    assert a.get_coordination_status()['state'] == 'left'
    assert shares(a, b) == [set(), set(TASKS)]


def test_a_killed_process_starts_nothing(cluster: VirtualCluster) -> None:
    """What is to run after the death runs in the next process of that name, not silently nowhere."""
    cluster.join('a')
    cluster.kill('a')
    with pytest.raises(ValueError, match=r"node 'a' was killed .*; job and join make another process"):
        cluster.start('a', print)
    cluster.join('a')
    program = cluster.start('a', lambda job: job.node_name)
    cluster.wait_until(lambda: program.is_over)
    assert program.result == 'a'


@pytest.mark.parametrize('signal', ['pause', 'resume'])
def test_a_process_that_was_killed_stays_so(cluster: VirtualCluster, signal: str) -> None:
    """Neither SIGSTOP nor SIGCONT is for a process that is over: it would go on with what it owned."""
    a, b = cluster.join('a'), cluster.join('b')
    cluster.kill('a')
    with pytest.raises(ValueError, match="node 'a' was killed"):
        getattr(cluster, signal)('a')
    cluster.settle()
    assert a.get_coordination_status()['token_count'] == 0
    assert shares(b) == [set(TASKS)]


def test_an_outage_of_the_store_moves_nothing(cluster: VirtualCluster) -> None:
    """P4: while it lasts no node may claim, and afterwards each has what it had."""
    jobs = [cluster.join(name) for name in 'abc']
    before = shares(*jobs)
    cluster.cut_off()
    cluster.advance(3 * TIMEOUT)
    assert shares(*jobs) == [set(), set(), set()]
    cluster.reconnect()
    cluster.settle()
    assert shares(*jobs) == before


def claim_all(job: Job, done: list[str]) -> None:
    for task in job.claim(TASKS):
        time.sleep(1)
        done.append(task)


def claim_all_once(job: Job, done: list[str]) -> None:
    for task in job.claim(TASKS, once=True):
        time.sleep(0.5)
        done.append(task)


def do_one_by_one(job: Job, done: list[str]) -> None:
    for task in TASKS:
        with suppress(NotOwned), job.task(task):
            time.sleep(1)
            done.append(task)


def do_as_a_batch(job: Job, done: list[str]) -> None:
    for task in job.batch(TASKS):
        time.sleep(1)
        done.append(task)
    assert len(job.get_audit()) == len(TASKS)


@pytest.mark.parametrize('outage_sec', [12, 30], ids=['shorter than the lease', 'longer than the lease'])
@pytest.mark.parametrize('work', [claim_all, claim_all_once, do_one_by_one, do_as_a_batch])
def test_a_loop_outlives_an_outage(cluster: VirtualCluster, work: Callable[[Job, list[str]], None], outage_sec: float) -> None:
    """It goes on, and ends as ever; what is done is recorded when the store is back, and a batch waits for that."""
    done: list[str] = []
    a = cluster.join('a')
    program = cluster.start('a', work, done)
    cluster.advance(6.3)
    cluster.cut_off()
    cluster.advance(outage_sec)
    before = len(done)
    cluster.reconnect()
    cluster.wait_until(lambda: program.is_over)
    cluster.advance(2)
    assert sorted(row['item'] for row in a.get_audit()) == sorted(done)
    assert before < len(TASKS)
    if work is do_as_a_batch:
        assert sorted(done) == sorted(TASKS)
    assert a.can_claim_task('any')


def test_programs_share_a_batch_and_one_of_them_dies(cluster: VirtualCluster) -> None:
    """The others do what it has left; only the task in its hand is done again, and the dead one does not finish it."""
    done: list[tuple[str, str]] = []

    def work(job: Job) -> None:
        with job:
            for task in job.batch(TASKS):
                time.sleep(1)
                done.append((job.node_name, task))

    programs = []
    for name in 'abc':
        cluster.job(name)
        programs.append(cluster.start(name, work))
    cluster.wait_until(lambda: len(done) > 6)
    cluster.kill('a')
    of_the_dead = [task for name, task in done if name == 'a']
    cluster.wait_until(lambda: all(program.is_over for program in programs[1:]))
    assert not programs[0].is_over
    assert sorted(task for _, task in done) == sorted(TASKS)
    assert [task for name, task in done if name == 'a'] == of_the_dead
    with Cluster(cluster.backend) as observer:
        assert observer.why(TASKS[0]).owner != 'a'


def test_a_name_starts_again_while_its_former_process_is_paused(cluster: VirtualCluster) -> None:
    """The name is in use until the lease of the paused process is over, and the former process never owns anything again."""
    a = cluster.join('a')
    cluster.pause('a')
    again = cluster.join('a')
    assert cluster.now >= TIMEOUT
    assert shares(again, a) == [set(TASKS), set()]
    with pytest.raises(NodeNameInUse):
        cluster.join('a')


def test_an_outage_is_one_for_nodes_that_start_in_it(cluster: VirtualCluster) -> None:
    """Also for the first node of all; one that is connected by its name is the only one that is."""
    cluster.cut_off()
    with pytest.raises(BackendUnavailable):
        cluster.join('a')
    cluster.job('b')
    cluster.reconnect('b')
    with pytest.raises(BackendUnavailable):
        cluster.join('c')
    cluster.reconnect()
    assert len(cluster.join('d').my_tokens) == CoordinationConfig().total_tokens


def test_a_call_of_the_store_may_fail(cluster: VirtualCluster) -> None:
    """A fault of one node's store is repeated as ever, in virtual time."""
    a = cluster.join('a')
    cluster.faulty('a').faults.append(Fault('append_claims', When.AFTER, times=3))
    assert a.add_task('x')
    a.complete('x')
    assert [row['item'] for row in a.get_audit()] == ['x']


def test_a_slow_call_takes_virtual_time(cluster: VirtualCluster) -> None:
    """The delay of a fault passes on the clock of the cluster, on which the other nodes go on."""
    a, started = cluster.join('a'), cluster.now
    cluster.faulty('a').faults.append(Fault('append_claims', When.NEVER, delay_sec=0.1))
    assert a.add_task('x')
    assert cluster.now - started >= 0.1


def test_on_revoke_has_until_its_deadline(cluster: VirtualCluster) -> None:
    """The deadline is on ``time.monotonic``, which is that of the cluster; nothing passes on before."""
    kept: list[float] = []

    def finish(tokens: frozenset[int], deadline: float) -> None:
        kept.append(deadline - time.monotonic())
        time.sleep(deadline - time.monotonic() - 1)

    cluster.join('a', on_revoke=finish)
    b = cluster.join('b', wait_on_enter=0)
    cluster.advance(kept[0] - 3)
    assert not b.my_tokens
    cluster.advance(5)
    assert b.my_tokens


def test_tokens_pass_on_as_soon_as_on_revoke_returns(cluster: VirtualCluster) -> None:
    """No thread of the node sleeps on, and no heartbeat in turn is waited for."""
    config, returned = CoordinationConfig(heartbeat_interval_sec=60, heartbeat_timeout_sec=240), list[float]()

    def revoke(_: frozenset[int], __: float) -> None:
        time.sleep(7.3)
        returned.append(cluster.now)

    cluster.join('a', coordination_config=config, on_revoke=revoke)
    cluster.join('b', coordination_config=config)
    assert len(returned) == 1
    assert cluster.now < returned[0] + 2


def test_nothing_moves_while_frozen(cluster: VirtualCluster) -> None:
    """A node dies, and its tokens stay unowned until the assignment thaws."""
    a, b = cluster.join('a'), cluster.join('b')
    before = shares(b)
    cluster.freeze()
    cluster.kill('a')
    cluster.advance(3 * TIMEOUT)
    assert shares(b) == before
    cluster.thaw()
    cluster.settle()
    assert shares(b) == [set(TASKS)]
    assert a.node_name == 'a'


def test_a_scheduled_function_runs_on_the_node_that_is_left(cluster: VirtualCluster) -> None:
    """The schedule goes by the store's clock, which is the cluster's."""
    ticks: list[str] = []
    jobs = {name: cluster.join(name) for name in 'ab'}
    for name, job in jobs.items():
        job.every(60, name='report')(partial(ticks.append, name))
    cluster.advance(185)
    assert len(ticks) >= 3
    (dead,) = set(ticks)
    cluster.kill(dead)
    cluster.advance(120)
    assert ticks[-1] != dead


def test_a_stopped_node_ends_in_good_order(cluster: VirtualCluster) -> None:
    """As after SIGTERM: its loop ends after the task in hand, its block ends, and its tokens pass on at once."""
    done: list[str] = []

    def work(job: Job) -> str:
        with job:
            for task in job.claim(TASKS):
                time.sleep(1)
                done.append(task)
        return 'ended'

    b = cluster.join('b')
    cluster.job('a', handle_signals=True)
    program = cluster.start('a', work)
    cluster.wait_until(lambda: len(done) == 3)
    cluster.stop('a')
    assert cluster.wait_until(lambda: shares(b) == [set(TASKS)]) < 3
    assert program.result == 'ended'
    assert len(done) == 4


def test_leaving_waits_for_a_long_task_of_another_thread(cluster: VirtualCluster, caplog: pytest.LogCaptureFixture) -> None:
    """For as long as the timeouts of the node allow, though no call of the store may take so long: the task keeps its owner."""
    config = CoordinationConfig(shutdown_timeout_sec=600, handover_timeout_sec=600)
    a, b = (cluster.join(name, coordination_config=config) for name in 'ab')
    task, kept = min(shares(a)[0]), list[bool]()

    def work(job: Job) -> None:
        assert job.add_task(task)
        time.sleep(300)
        kept.append(not b.can_claim_task(task))
        job.complete(task)

    program = cluster.start('a', work)
    cluster.advance(1)
    cluster.leave('a')
    assert (program.is_over, kept) == (True, [True])
    assert cluster.wait_until(lambda: shares(b) == [set(TASKS)]) < 1
    assert 'in good order' not in caplog.text


def test_what_the_program_requests_of_a_node_is_heard_at_once(cluster: VirtualCluster) -> None:
    """Its threads sleep for seconds where nothing happens."""
    config = CoordinationConfig(heartbeat_interval_sec=60, heartbeat_timeout_sec=240)
    a, b = (cluster.join(name, coordination_config=config) for name in 'ab')
    cluster.advance(301.7)
    b.set_weight(3)
    assert cluster.wait_until(lambda: len(b.my_tokens) == 3 * len(a.my_tokens)) < 1
    cluster.advance(301.7)
    began = cluster.now
    cluster.leave('b')
    assert cluster.now < began + 1


def test_what_a_program_raises_reaches_the_test(cluster: VirtualCluster) -> None:
    """It is raised where the test waits."""
    cluster.join('a')
    cluster.start('a', lambda job: job.nonsense)
    with pytest.raises(AttributeError, match='nonsense'):
        cluster.advance(1)


def test_a_wait_for_what_never_comes_ends() -> None:
    """A loop that waits for ever is an error, and no hanging test."""
    with VirtualCluster(max_sec=60) as cluster:
        a = cluster.join('a')
        cluster.join('b')
        with pytest.raises(TimeoutError, match='60'):
            list(a.batch(TASKS))
        with pytest.raises(ValueError, match="no node 'c'"):
            cluster.kill('c')
        real = CoordinationConfig(backend='memory://of-no-cluster', minimum_nodes=1)
        with pytest.raises(ValueError, match="no node 'd'"), Job('d', coordination_config=real):
            pass


@pytest.mark.jobsync_cluster(max_sec=4000)
def test_a_cluster_of_more_than_an_hour(cluster: VirtualCluster) -> None:
    """A marker gives the fixture other arguments; a test that asks for more than these is told so."""
    cluster.join('a')
    cluster.advance(3700)
    with pytest.raises(ValueError, match=r'seconds is 300000: must be at most .* of max_sec=4000 .*VirtualCluster\(max_sec'):
        cluster.advance(300_000)
    cluster.advance(4000 - cluster.now - 1)
    with pytest.raises(TimeoutError, match='4000'):
        cluster.wait_until(lambda: False)


@pytest.fixture
def around() -> Iterator[None]:
    """Check that real time is back, and that no thread is left."""
    before, sleep, monotonic = threading.active_count(), time.sleep, time.monotonic
    yield
    assert (time.sleep, time.monotonic) == (sleep, monotonic)
    deadline = time.monotonic() + 120
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.usefixtures('around')
def test_a_cluster_outside_its_block() -> None:
    """Before and after its block a cluster has no node and no time: a job would run in real time, and fail without end."""
    cluster = VirtualCluster()
    for _ in range(2):
        for call in (
            lambda: cluster.join('a'),
            lambda: cluster.job('a'),
            lambda: cluster.async_job('a'),
            lambda: cluster.advance(1),
        ):
            with pytest.raises(RuntimeError, match='in its block only'):
                call()
        with cluster:
            pass


@pytest.mark.parametrize('seconds', [-1, float('nan'), float('inf'), '5', None])
def test_seconds_that_are_none(cluster: VirtualCluster, seconds: Any) -> None:
    """A time that cannot pass is refused, not passed over."""
    with pytest.raises(ConfigError, match=r'seconds is .*must be a number of seconds, 0 or more'):
        cluster.advance(seconds)


def test_nothing_is_left_behind() -> None:
    """Threads that wait, that were killed and that are paused end with the cluster, each where it stands."""
    with VirtualCluster() as cluster:
        for name in 'abc':
            cluster.join(name, on_rebalance=lambda: time.sleep(1000))
            cluster.start(name, lambda job: time.sleep(1000))
        cluster.advance(1)
        cluster.kill('a')
        cluster.pause('b')
        with pytest.raises(RuntimeError, match='one cluster at a time'):
            VirtualCluster().__enter__()


async def work_through(job: AsyncJob, done: list[tuple[str, str]]) -> str:
    """A worker on an event loop, which waits there and in a thread."""
    async with job:
        async for task in job.batch(TASKS):
            await asyncio.sleep(1)
            await asyncio.to_thread(time.sleep, 1)
            done.append((job.node_name, task))
    return 'ended'


@pytest.mark.parametrize('outage_sec', [12, 30], ids=['shorter than the lease', 'longer than the lease'])
def test_a_loop_on_an_event_loop_outlives_an_outage(cluster: VirtualCluster, outage_sec: float) -> None:
    """A batch goes on as in a thread, and ends when all of it is recorded."""
    done: list[tuple[str, str]] = []
    cluster.async_job('a')
    program = cluster.start('a', work_through, done)
    cluster.wait_until(lambda: len(done) == 3)
    cluster.cut_off()
    cluster.advance(outage_sec)
    cluster.reconnect()
    cluster.wait_until(lambda: program.is_over)
    assert sorted(task for _, task in done) == sorted(TASKS)
    with Cluster(cluster.backend) as observer:
        assert all(observer.why(task).is_complete for task in TASKS)


def async_failover(seed: int) -> list[tuple[float, str, str]]:
    """What workers on event loops do as one of them dies, and what their coroutines are called with, with the moment of each."""
    done: list[tuple[str, str]] = []
    happened: list[tuple[float, str, str]] = []
    with VirtualCluster(seed) as cluster:

        async def record(event: RebalanceEvent) -> None:
            await asyncio.sleep(0.5)
            happened.append((cluster.now, 'rebalance', repr(event)))

        programs = []
        for name in 'abc':
            cluster.async_job(name, on_rebalance=record)
            programs.append(cluster.start(name, work_through, done))
        cluster.wait_until(lambda: len(done) > 6)
        cluster.kill('a')
        of_the_dead = [task for name, task in done if name == 'a']
        assert of_the_dead
        cluster.wait_until(lambda: all(program.is_over for program in programs[1:]))
        assert [program.result for program in programs] == [None, 'ended', 'ended']
        assert sorted(task for _, task in done) == sorted(TASKS)
        assert [task for name, task in done if name == 'a'] == of_the_dead
        happened.append((cluster.now, 'end', repr(done)))
    return happened


def test_event_loops_share_a_batch_and_one_of_them_dies() -> None:
    """As threads do: the others do what it has left, coroutines as callbacks are awaited, and two runs are the same."""
    first = async_failover(1)
    assert len(first) > 3
    assert async_failover(1) == first


def test_leaving_waits_in_virtual_time_for_a_coroutine_that_is_a_callback(cluster: VirtualCluster) -> None:
    """It is the last one, which reports that all tokens are gone; it ends as it would without leaving."""
    reported: list[int] = []

    async def report(event: RebalanceEvent) -> None:
        await asyncio.sleep(2)
        reported.append(event.token_count)

    async def come_and_go(job: AsyncJob) -> float:
        async with job:
            await asyncio.sleep(30)
        return cluster.now

    cluster.async_job('a', on_rebalance=report)
    program = cluster.start('a', come_and_go)
    cluster.wait_until(lambda: program.is_over)
    assert reported[0] > 0
    assert reported[-1] == 0
    assert program.result >= 32


def test_a_turn_on_an_event_loop_ends_with_the_lease(cluster: VirtualCluster) -> None:
    """``turn.wait`` waits in virtual time, and the place has another owner once the first one is cut off."""
    turns: list[tuple[str, str, float]] = []

    async def hold(job: AsyncJob) -> None:
        async with job:
            async for turn in job.singleton('place'):
                turns.append((job.node_name, 'begins', cluster.now))
                while await turn.wait(1):
                    pass
                turns.append((job.node_name, 'ends', cluster.now))

    for name in 'ab':
        cluster.async_job(name)
        cluster.start(name, hold)
    cluster.wait_until(lambda: turns)
    first = turns[0][0]
    cluster.cut_off(first)
    cluster.wait_until(lambda: len(turns) > 2)
    assert [(name == first, what) for name, what, _ in turns[:3]] == [(True, 'begins'), (True, 'ends'), (False, 'begins')]
    assert turns[1][2] < turns[2][2] <= turns[0][2] + TIMEOUT + 3


def test_a_call_that_is_cancelled_while_it_is_made(cluster: VirtualCluster) -> None:
    """It is made all the same, as in real time: its claim is recorded, and its task is not in flight."""

    async def give_up(job: AsyncJob) -> bool:
        async with job:
            cluster.faulty('a').faults.append(Fault('append_claims', When.NEVER, delay_sec=5))
            with suppress(TimeoutError):
                await asyncio.wait_for(job.add_task('x'), 1)
            await asyncio.sleep(10)
            lease = job._job._session.lease
            return lease is not None and not lease.in_flight

    cluster.async_job('a')
    program = cluster.start('a', give_up)
    cluster.wait_until(lambda: program.is_over)
    assert program.result
    with Cluster(cluster.backend) as observer:
        assert [row['item'] for row in observer.incomplete()] == ['x']


def test_what_a_coroutine_raises_reaches_the_test(cluster: VirtualCluster) -> None:
    """It is raised where the test waits."""

    async def broken(job: AsyncJob) -> None:
        async with job:
            raise ValueError('broken')

    cluster.async_job('a')
    cluster.start('a', broken)
    with pytest.raises(ValueError, match='broken'):
        cluster.advance(60)


@pytest.mark.usefixtures('around')
def test_nothing_of_an_event_loop_is_left_behind(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    """Loops that wait, that were killed and that are paused end with the cluster, without a word of asyncio."""
    with VirtualCluster() as cluster:
        for name in 'abc':
            cluster.async_job(name, on_rebalance=lambda: asyncio.sleep(1000))
            cluster.start(name, work_through, [])
        cluster.advance(10)
        cluster.kill('a')
        cluster.pause('b')
    gc.collect()
    assert not [record for record in caplog.records if record.name in ('asyncio', 'concurrent.futures')]
    assert not [str(warning.message) for warning in recwarn]


def test_an_event_loop_of_its_own_is_refused(cluster: VirtualCluster) -> None:
    """A loop of real time would never be woken: the error says so, and nothing hangs."""
    job = cluster.async_job('a')

    async def main() -> None:
        async with job:
            pass

    with pytest.raises(RuntimeError, match=r'cluster\.start'):
        asyncio.run(main())


def test_the_end_of_a_cluster_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nodes that are at work, killed or paused when the block ends are over without a traceback in the log; schedules too."""
    with VirtualCluster() as cluster:
        cluster.join('alone', coordination_config=CoordinationConfig(enabled=False)).every(60, name='poll')(lambda: None)
        for name in 'abc':
            cluster.join(name).every(60, name='poll')(lambda: None)
        cluster.kill('a')
        cluster.pause('b')
        cluster.advance(1)
    event_log.flush()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
