"""What the beginning of the block waits for."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.support.timings import FAST, TOKENS

from jobsync import ClusterTimeout, CoordinationConfig, Job, JobsyncError, NotOwned, plugins
from jobsync._core.agent.phase import Phase
from jobsync._core.records import NodeRef, NodeState, Registration
from jobsync._runtime import Status
from jobsync._runtime.startup import _Schedule, _waiting_for, _why, node_config
from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach
from jobsync.testing import Fault, FaultyBackend, When

pytestmark = pytest.mark.any_store

INFO = BackendInfo(name='own', durable=True, push=True, reach=Reach.HOST, max_tokens=100_000)
INFO_LEVEL = logging.INFO
FORMING = {name: value for name, value in FAST.items() if name != 'minimum_nodes'}


class InThread:
    """A job in a block of its own thread, until it is told to go."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.entered_at: float | None = None
        self.error: JobsyncError | None = None
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self.job:
                self.entered_at = time.monotonic()
                self._go.wait(DEADLINE_SEC)
        except JobsyncError as error:
            self.error = error

    def __enter__(self) -> InThread:
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join(DEADLINE_SEC)
        assert not self._thread.is_alive()


def forming(store: Store, name: str, **arguments: Any) -> Job:
    """A job without ``minimum_nodes``."""
    return Job(name, coordination_config=CoordinationConfig(backend=store.url, **FORMING), **arguments)


def test_first_distribution_waits_for_wait_on_enter(store: Store) -> None:
    """While a cluster forms, nobody enters before the oldest node's ``wait_on_enter``; then all have their share at once."""
    started = time.monotonic()
    with InThread(forming(store, 'a', wait_on_enter=3)) as a, InThread(forming(store, 'b', wait_on_enter=3)) as b:
        wait_until(lambda: a.entered_at and b.entered_at, 'both enter')
        assert a.entered_at is not None
        assert b.entered_at is not None
        assert min(a.entered_at, b.entered_at) - started >= 2.9
        assert len(a.job.my_tokens) == len(b.job.my_tokens) == TOKENS // 2


def test_first_share_of_a_slow_node(store: Store) -> None:
    """A node that hears of the first distribution right at its limit enters with its tokens, not a moment before it has them."""
    slow = FaultyBackend(
        plugins.connect(store.url, BackendOptions()), Fault('heartbeat', When.NEVER, times=1_000_000, delay_sec=0.4)
    )
    job = Job('b', coordination_config=CoordinationConfig(**{**FORMING, 'backend': slow}), wait_on_enter=1)
    with InThread(forming(store, 'a', wait_on_enter=1)), job:
        assert len(job.my_tokens) == TOKENS // 2
    slow.inner.close()


def test_zero_wait(store: Store) -> None:
    """``wait_on_enter=0`` makes the first distribution at once."""
    with forming(store, 'a', wait_on_enter=0) as job:
        assert len(job.my_tokens) == TOKENS


def test_minimum_nodes(store: Store) -> None:
    """With ``minimum_nodes`` the first distribution is made as soon as they have joined, and everyone has its share."""
    jobs = [InThread(store.job(name, config={'minimum_nodes': 3}, wait_on_enter=120)) for name in 'ab']
    wait_until(lambda: sorted(store.node_names) == ['a', 'b'], 'two have joined')
    assert not any(each.entered_at for each in jobs)
    with jobs[0] as a, jobs[1] as b, store.job('c', config={'minimum_nodes': 3}, wait_on_enter=120) as c:
        wait_until(lambda: a.entered_at and b.entered_at, 'all enter')
        assert [len(job.my_tokens) for job in (a.job, b.job, c)] == [TOKENS // 3] * 3


def test_short_of_minimum_nodes(store: Store) -> None:
    """A cluster that is short of ``minimum_nodes`` at the limit: ``ClusterTimeout`` says how many there were; the node left."""
    message = r"'a' waited 1\.\d s \(wait_on_enter=1\) for 3 nodes \(minimum_nodes\), but only 1 joined"
    with (
        pytest.raises(ClusterTimeout, match=message),
        store.job('a', config={'minimum_nodes': 3, 'token_distribution_timeout_sec': 3600}, wait_on_enter=1),
    ):
        pass
    assert all(node.state is NodeState.LEFT for node in store.handle.snapshot().nodes)


def test_not_part_of_a_distribution(store: Store) -> None:
    """A node that no leader takes in: ``ClusterTimeout`` when ``token_distribution_timeout_sec`` past the limit is over."""
    slow = {'rebalance_delay_sec': 600}
    message = r'wait_on_enter=0\.5, and token_distribution_timeout_sec after it\) to become part of a distribution'
    with (
        store.job('a', config=slow),
        pytest.raises(ClusterTimeout, match=message),
        store.job('b', config={**slow, 'token_distribution_timeout_sec': 0.5}, wait_on_enter=0.5),
    ):
        pass


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """Where the node could not even register, ``ClusterTimeout`` says what the store said, after all of the time.

    What has succeeded until then was no heartbeat.
    """
    store = Store(f'sqlite:///{tmp_path}/jobs.db')
    assert store.handle.snapshot().nodes == ()
    job = store.job('a', config={'op_timeout_sec': 0.2, 'token_distribution_timeout_sec': 0.5}, wait_on_enter=0.5)
    with closing(sqlite3.connect(tmp_path / 'jobs.db', isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        with (
            pytest.raises(ClusterTimeout, match=r' waited [^0]\S* s .*registering.* failed: .*locked by another'),
            job,
        ):
            pass
    assert job.get_coordination_status()['last_heartbeat'] is None
    store.close()


def test_joiner_enters_with_its_whole_share(store: Store) -> None:
    """A node that joins a running cluster enters as soon as it owns its share, however long ``wait_on_enter`` is."""
    with store.job('a'), store.job('b', wait_on_enter=3600) as b:
        assert len(b.my_tokens) == TOKENS // 2
        with store.job('c', wait_on_enter=3600) as c:
            assert len(c.my_tokens) == TOKENS // 3
            wait_until(lambda: len(b.my_tokens) == TOKENS // 3, 'b has given up some')


def test_limit_of_a_joiner(store: Store) -> None:
    """Past the limit a node that is part of the plan enters even with no tokens; they come when the others are done."""
    with store.job('a') as a:
        tasks = {a.task_to_token(task): task for task in range(1000)}
        assert len(tasks) == TOKENS
        assert all(a.add_task(task) for task in tasks.values())
        with store.job('b', wait_on_enter=1) as b:
            assert b.my_tokens == frozenset()
            assert b.am_i_healthy()
            a.write_audit()
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')


MEMBER = Status(Phase.MEMBER, registered_nodes=1)


@pytest.mark.parametrize(
    ('status', 'changes', 'waits_for'),
    [
        (Status(Phase.OPENING), {}, 'waiting until the store is open with its settings; ClusterTimeout in 118 s at the latest'),
        (
            Status(Phase.REGISTERING),
            {},
            'waiting until it is registered under its name (registering); ClusterTimeout in 118 s at the latest',
        ),
        (
            MEMBER,
            {'minimum_nodes': 3},
            'waiting until 3 nodes have joined (1 node so far); ClusterTimeout in 58 s at the latest',
        ),
        (
            attrs.evolve(MEMBER, registered_nodes=3),
            {'minimum_nodes': 3},
            'waiting for the first distribution (3 nodes registered); ClusterTimeout in 118 s at the latest',
        ),
        (
            attrs.evolve(MEMBER, registered_nodes=3),
            {'minimum_nodes': 3, 'durable': False},
            (
                'waiting 13 s until every older lease is over, since the store may lose what it has confirmed'
                ' (on Redis, durable=yes '
                'in the URL declares a server that does not); ClusterTimeout in 118 s at the latest'
            ),
        ),
        (
            MEMBER,
            {},
            (
                'waiting for the cluster to form: 1 node so far, first distribution in 58 s; give minimum_nodes to start sooner; '
                'ClusterTimeout in 118 s at the latest'
            ),
        ),
        (
            attrs.evolve(MEMBER, registered_nodes=2, distributed=True),
            {'minimum_nodes': 1},
            'waiting until the leader gives it a share of the tokens (2 nodes registered); ClusterTimeout in 118 s at the latest',
        ),
        (
            attrs.evolve(MEMBER, registered_nodes=2, distributed=True, planned=True),
            {},
            (
                'waiting for the rest of its tokens, which b, c must release first; '
                'entering with the tokens it has in 58 s at the latest'
            ),
        ),
    ],
)
def test_what_a_node_is_said_to_wait_for(status: Status, changes: dict[str, Any], waits_for: str) -> None:
    """Each state names what is missing, and how long the wait takes at most."""
    made = node_config('a', CoordinationConfig(), INFO, create=True, wait_on_enter=60, announces=False)
    assert _waiting_for(status, attrs.evolve(made, **changes), 60.0, 2.0, 'b, c') == waits_for


@pytest.mark.parametrize(
    ('status', 'changes', 'is_named'),
    [
        (MEMBER, {}, True),
        (MEMBER, {'durable': True}, False),
        (MEMBER, {'heartbeat_timeout_sec': 15.0}, False),
        (attrs.evolve(MEMBER, distributed=True), {}, False),
        (Status(Phase.REGISTERING), {}, False),
    ],
)
def test_older_leases_that_outlast_entering(status: Status, changes: dict[str, Any], is_named: bool) -> None:
    """Where older leases outlast entering, what is logged and the error say so and what to set."""
    made = node_config('a', CoordinationConfig(), INFO, create=True, wait_on_enter=60, announces=False)
    config = attrs.evolve(made, **{'durable': False, 'heartbeat_timeout_sec': 300.0, 'minimum_nodes': 1, **changes})
    remedy = 'lower heartbeat_timeout_sec (300), or set wait_on_enter to as much'
    waiting = _waiting_for(status, config, 60.0, 10.0, '')
    assert waiting.endswith(f'; ClusterTimeout in 110 s at the latest, which is sooner: {remedy}') is is_named
    error = _why(status, config, 120.0, None)
    assert (f'until every older lease is over, since the store may lose what it has confirmed: {remedy}' in error) is is_named
    assert ('Can the leader reach the store?' in error) is not is_named
    assert 'failed: the store is away' in _why(status, config, 120.0, JobsyncError('the store is away'))


def test_the_end_of_a_wait_past_its_limit() -> None:
    """Past ``wait_on_enter`` the end comes nearer as before it."""
    made = node_config('a', CoordinationConfig(), INFO, create=True, wait_on_enter=60, announces=False)
    ends = [_waiting_for(Status(Phase.OPENING), made, 60.0, waited, '').rpartition('; ')[2] for waited in (60.0, 75.0, 115.0)]
    assert ends == [f'ClusterTimeout in {left} s at the latest' for left in (60, 45, 5)]
    waits_for = 'waiting for the first distribution (1 node registered); ClusterTimeout in 45 s at the latest'
    assert _waiting_for(MEMBER, made, 60.0, 75.0, '') == waits_for


def test_when_a_wait_is_logged() -> None:
    """After a second, every five seconds, and once as a warning after ten."""
    schedule = _Schedule()
    levels = {tenth / 10: level for tenth in range(300) if (level := schedule.level(tenth / 10)) is not None}
    assert levels == {1.0: INFO_LEVEL, 5.0: INFO_LEVEL, 10.0: logging.WARNING, **dict.fromkeys((15.0, 20.0, 25.0), INFO_LEVEL)}


def test_a_wait_is_shown_without_logging(tmp_path: Path) -> None:
    """A program that configures no logging reads on stderr what its node waits for."""
    program = (
        'from jobsync import ClusterTimeout, CoordinationConfig, Job\n'
        'from jobsync._runtime import startup\n'
        'startup._FIRST_SEC = startup._WARN_SEC = 0.2\n'
        'try:\n'
        '    with Job("a", wait_on_enter=1, coordination_config=CoordinationConfig(backend="memory://", minimum_nodes=2)):\n'
        '        pass\n'
        'except ClusterTimeout:\n'
        '    pass\n'
    )
    done = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert "node 'a': waiting until 2 nodes have joined" in done.stderr


def test_the_nodes_that_hold_the_tokens(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A node that waits for tokens names the nodes that own them."""
    caplog.set_level(logging.INFO, 'jobsync')
    with store.job('a', config={'handover_timeout_sec': 60}) as a:
        assert all(a.add_task(task) for task in range(1000))

        def enter() -> None:
            with store.job('b', wait_on_enter=DEADLINE_SEC):
                pass

        other = threading.Thread(target=enter)
        other.start()
        words = "node 'b': waiting for the rest of its tokens, which a must release first"
        wait_until(lambda: words in caplog.text, 'it says what it waits for')
        a.write_audit()
        other.join()


def test_more_nodes_than_tokens(store: Store) -> None:
    """A surplus node enters with no tokens."""
    config = {'total_tokens': 2}
    with store.job('a', config=config) as a, store.job('b', config=config) as b, store.job('c', config=config) as c:
        wait_until(lambda: sorted(len(job.my_tokens) for job in (a, b, c)) == [0, 1, 1], 'two own a token each')
        assert not c.can_claim_task(1)
        wait_until(c.am_i_healthy, 'the third is healthy without')


def test_weight_zero(store: Store) -> None:
    """A node of weight 0 enters and owns nothing, and one of weight 2 owns twice what one of weight 1 owns."""
    with store.job('a') as a, store.job('admin', config={'weight': 0}) as admin, store.job('b', config={'weight': 2}) as b:
        assert admin.my_tokens == frozenset()
        wait_until(lambda: (len(a.my_tokens), len(b.my_tokens)) == (TOKENS // 3, 2 * TOKENS // 3), 'loads by weight')


def test_left_while_entering(store: Store) -> None:
    """``__exit__`` from another thread ends the waiting of ``__enter__`` with an error that says so."""
    with InThread(store.job('a', config={'minimum_nodes': 5}, wait_on_enter=3600)) as waiting:
        wait_until(lambda: store.node_names == ['a'], 'it waits')
        waiting.job.__exit__(None, None, None)
        wait_until(lambda: waiting.error, 'it gives up')
        assert 'requested to leave while it was entering' in str(waiting.error)


def test_left_while_the_store_hangs(store: Store) -> None:
    """Leaving cannot wait for the node: it closes everything, and the wait to enter ends too."""
    is_registering, may_go_on = threading.Event(), threading.Event()

    class Hanging(FaultyBackend):
        def register(self, *arguments: Any) -> Any:
            is_registering.set()
            assert may_go_on.wait(240)
            return super().register(*arguments)

    backend = Hanging(plugins.connect(store.url, BackendOptions()))
    errors: list[BaseException] = []
    job = store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}, wait_on_enter=600)

    def enter() -> None:
        try:
            job.__enter__()
        except JobsyncError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    assert is_registering.wait(120)
    job.__exit__(None, None, None)
    thread.join(120)
    is_over = not thread.is_alive()
    may_go_on.set()
    assert is_over
    assert 'was requested to leave while it was entering' in str(*errors)
    backend.inner.close()


def test_left_by_the_lock_provider(store: Store) -> None:
    """A job that is left within its ``lock_provider`` never registers."""
    with (
        pytest.raises(JobsyncError, match='requested to leave'),
        store.job('a', lock_provider=lambda job: job.__exit__(None, None, None)),
    ):
        pass
    assert store.node_names == []


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_other_settings_after_a_crash_of_all_nodes(store: Store) -> None:
    """The records that the dead have left hold up a cluster with another pool for one timeout, not for ever."""
    timeline = store.handle.open(store.config().settings, create=True).timeline
    store.handle.register(Registration(NodeRef('dead', 'run'), timeout_sec=1.0), timeline, 0)
    with store.job('a', config={'total_tokens': TOKENS + 1}) as job:
        assert len(job.my_tokens) == TOKENS + 1
        assert store.node_names == ['a']


def test_nothing_is_begun_before_there_is_a_node(store: Store) -> None:
    """A task belongs to another node while a ``lock_provider`` runs, in which no method begins it, nor runs a tick."""
    ticks: list[str] = []
    answers: list[object] = []

    def provide(job: Job) -> None:
        @job.every(0.1)
        def tick() -> None:
            ticks.append('b')

        with pytest.raises(NotOwned), job.task('x'):
            answers.append('in the block')
        with job.singleton('s') as turn:
            answers.extend([job.can_claim_task('x'), job.add_task('x'), job.set_claim(['x', 'y']), bool(turn)])
        answers.append(job.owner_of('x'))
        job.write_audit()
        job.set_weight(0)
        time.sleep(0.5)
        answers.extend(ticks)

    with store.job('a') as a, store.job('b', lock_provider=provide) as b:
        assert answers == [False, False, False, False, 'a']
        assert (store.claims, store.audits) == ([], [])
        weights = {'a': 1, 'b': 0}
        wait_until(lambda: {node['name']: node['weight'] for node in a.nodes} == weights, 'b has the weight that it was given')
        wait_until(lambda: len(a.my_tokens) == TOKENS and not b.my_tokens, 'b is drained')


def test_nothing_is_begun_while_the_store_is_connected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's ``add_task`` returns False while the job is being entered, and True once the task is its own."""
    connect, answers = plugins.connect, list[bool]()
    job = store.job('a')

    def slow(url: str, options: BackendOptions) -> Backend:
        thread = threading.Thread(target=lambda: answers.append(job.add_task('x')))
        thread.start()
        thread.join(DEADLINE_SEC)
        return connect(url, options)

    monkeypatch.setattr(plugins, 'connect', slow)
    with job:
        assert answers == [False]
        assert job.add_task('x')
        job.write_audit()
