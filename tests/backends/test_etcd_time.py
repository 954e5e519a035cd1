"""The time in etcd, which has no clock: what most nodes' clocks say, never one caller's."""

# ruff: noqa: D102 - the actions of the tests

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import attrs
import pytest
from tests.job.waiting import wait_until
from tests.support.servers import EtcdServer
from tests.support.timings import FAST, TOKENS

from jobsync import Cluster as Observer
from jobsync import CoordinationConfig, Job
from jobsync._core.records import LockEdit, LockFilter, NodeRef, NodeState, Registration, Settings
from jobsync.backend import BackendOptions
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.node_record import NodeRecord
from jobsync.backends.etcd.plugin import connect
from jobsync.backends.etcd.storetime import StoreTime
from jobsync.testing import Namespace

MONTH, WEEK, DAY, SECOND = dt.timedelta(days=30), dt.timedelta(days=7), dt.timedelta(days=1), dt.timedelta(seconds=1)
START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
TIMEOUT_SEC, INTERVAL_SEC = 15.0, 5.0
DEADLINE_SEC = 120.0


class Machine:
    """One handle of a node, whose clock is off by so much."""

    def __init__(self, cluster: Cluster, name: str, off: dt.timedelta) -> None:
        self._cluster = cluster
        self.off = off
        self.time = StoreTime(self.clock, lambda: cluster.now)
        node = Registration(NodeRef(name, f'run-{name}'), TIMEOUT_SEC).record(self.time.earliest(), self.time.earliest(), None)
        self.record = NodeRecord(node, self.clock(), self.time.latest())

    def clock(self) -> dt.datetime:
        return START + self._cluster.now * SECOND + self.off

    def beat(self) -> None:
        """Send a heartbeat, and hear of the leader, the first of the cluster."""
        node = attrs.evolve(self.record.node, heartbeat=self.record.node.heartbeat + 1, last_heartbeat=self.time.earliest())
        self.record = NodeRecord(node, self.clock(), self.time.latest())
        self.time.read_own(self.record)
        leader = self._cluster.machines[0]
        self.time.read_leader(None if leader is self else leader.record)

    def look(self) -> None:
        self.time.read_all([machine.record for machine in self._cluster.machines])

    def error(self) -> tuple[dt.timedelta, dt.timedelta]:
        """How far the earliest and the latest time are off."""
        right = START + self._cluster.now * SECOND
        return self.time.earliest() - right, self.time.latest() - right


class Cluster:
    """Machines on virtual time."""

    def __init__(self, *off: dt.timedelta) -> None:
        self.now = 1000.0
        self.machines: list[Machine] = []
        for number, by in enumerate(off):
            self.machines.append(Machine(self, f'n{number}', by))

    def run(self, intervals: int, alive: Callable[[Machine], bool] = lambda machine: True) -> None:
        """Let those alive send a heartbeat each interval, and the leader look after each of its own."""
        for _ in range(intervals):
            self.now += INTERVAL_SEC
            for machine in filter(alive, self.machines):
                machine.beat()
            if alive(self.machines[0]):
                self.machines[0].look()


NONE = dt.timedelta(0)
SLACK = TIMEOUT_SEC * SECOND


def is_right(machine: Machine) -> bool:
    return all(abs(error) <= SLACK for error in machine.error())


class TestStoreTime:
    """What a handle takes for the time."""

    @pytest.mark.parametrize('off', [MONTH, -MONTH])
    @pytest.mark.parametrize('wrong', [0, 1, 2])
    def test_the_majority_is_right(self, off: dt.timedelta, wrong: int) -> None:
        """Of three clocks one is a month off, the leader's or another's: every handle knows the time."""
        cluster = Cluster(*(off if number == wrong else NONE for number in range(3)))
        cluster.run(3)
        assert all(map(is_right, cluster.machines))

    @pytest.mark.parametrize('off', [MONTH, -MONTH])
    def test_a_leader_that_has_just_come(self, off: dt.timedelta) -> None:
        """Before it has seen anybody's second heartbeat, it takes no time for later than it is, nor an end for earlier."""
        cluster = Cluster(NONE, NONE, NONE)
        cluster.run(9)
        newcomer = Machine(cluster, 'new', off)
        cluster.machines.insert(0, newcomer)
        newcomer.look()
        newcomer.beat()
        earliest, latest = newcomer.error()
        assert earliest <= SLACK
        assert latest >= -SLACK

    @pytest.mark.parametrize('before', range(4))
    def test_a_process_that_is_held_up_before_a_reading_of_a_clock(self, before: int) -> None:
        """The time of this machine, where there is no node, is of a moment within the call: no lock of others ends early."""
        readings, now = itertools.count(), [1000.0]

        def read() -> float:
            if next(readings) == before:
                now[0] += 60.0
            return now[0]

        earliest, latest = StoreTime(lambda: START + read() * SECOND, read).bounds()
        assert START + 1000.0 * SECOND <= earliest == latest <= START + now[0] * SECOND

    def test_two_nodes_one_ahead(self) -> None:
        """Nobody can tell who is right: locks are judged by the earlier clock, and made by the later one."""
        for cluster in (Cluster(MONTH, NONE), Cluster(NONE, MONTH)):
            cluster.run(3)
            for machine in cluster.machines:
                earliest, latest = machine.error()
                assert abs(earliest) <= SLACK
                assert abs(latest - MONTH) <= SLACK

    def test_two_nodes_one_behind(self) -> None:
        """A lock that is made then does not end too early once the other has gone."""
        for cluster in (Cluster(-MONTH, NONE), Cluster(NONE, -MONTH)):
            cluster.run(3)
            for machine in cluster.machines:
                earliest, latest = machine.error()
                assert earliest <= SLACK
                assert abs(latest) <= SLACK

    def test_after_a_crash_of_all(self) -> None:
        """Records of nodes that died days ago make no lock end early, and no longer count once they are stale."""
        cluster = Cluster(NONE, NONE, NONE)
        cluster.run(3)
        cluster.now += 3 * DAY.total_seconds()
        survivor = Machine(cluster, 'n9', NONE)
        cluster.machines.insert(0, survivor)
        survivor.look()
        assert survivor.error()[0] <= SLACK
        assert abs(survivor.error()[1]) <= SLACK
        assert not survivor.time.is_sure
        cluster.run(4, alive=lambda machine: machine is survivor)
        assert is_right(survivor)
        assert survivor.time.is_sure

    @pytest.mark.parametrize('outage', [7.0, 12.0, 60.0, 3600.0])
    def test_after_an_outage(self, outage: float) -> None:
        """The first reading after it finds everybody's record unchanged, and nobody stale."""
        cluster = Cluster(MONTH, NONE, NONE)
        cluster.run(3)
        leader = cluster.machines[0]
        cluster.now += outage
        leader.look()
        leader.beat()
        assert leader.error()[0] <= SLACK

    def test_a_handle_without_a_node(self) -> None:
        """Nodes that it has seen to be dead stay so, though nobody has asked it for anything for a while."""
        cluster = Cluster(NONE, NONE, NONE)
        outside = StoreTime(lambda: START + cluster.now * SECOND, lambda: cluster.now)
        for pause in (DAY.total_seconds(), *3 * [INTERVAL_SEC], 60.0, DAY.total_seconds()):
            cluster.now += pause
            outside.read_all([machine.record for machine in cluster.machines])
        assert outside.earliest() == START + cluster.now * SECOND

    def test_a_clock_that_is_set_right(self) -> None:
        """A large step back is taken, for it corrects an error; a small one is not."""
        cluster = Cluster(MONTH)
        cluster.run(3)
        machine = cluster.machines[0]
        assert machine.time.earliest() > START + MONTH
        machine.off = NONE
        cluster.run(1)
        before = machine.time.earliest()
        assert before < START + DAY
        machine.off = -3 * SECOND
        assert machine.time.earliest() == before

    def test_nobody_but_the_caller(self) -> None:
        """Where no node is, the caller's clock is all there is."""
        time = StoreTime(lambda: START, lambda: 0.0)
        time.read_all([])
        assert (time.earliest(), time.latest(), time.is_sure) == (START, START, True)

    def test_a_node_that_left_has_no_say(self) -> None:
        """Its record stays for a while."""
        cluster = Cluster(NONE, MONTH, MONTH)
        cluster.run(3)
        for machine in cluster.machines[1:]:
            left = attrs.evolve(machine.record.node, state=NodeState.LEFT, last_heartbeat=None)
            machine.record = attrs.evolve(machine.record, node=left)
        cluster.machines[0].look()
        assert is_right(cluster.machines[0])


@pytest.fixture
def url(etcd_server: EtcdServer) -> Iterator[str]:
    """An empty server."""
    yield etcd_server.emptied()
    etcd_server.emptied()


def handle(url: str, off: dt.timedelta) -> EtcdBackend:
    """A handle on a machine whose clock is off by so much."""
    backend = connect(url, BackendOptions())
    assert isinstance(backend, EtcdBackend)
    backend.store.time = StoreTime(lambda: dt.datetime.now(dt.UTC) + off)
    return backend


def made(namespace: Namespace) -> set[str]:
    """The task locks, without the records of who has led."""
    return {lock.task_id for lock in namespace.backend.read_locks().locks if not lock.group}


@contextmanager
def beating(namespace: Namespace, refs: list[NodeRef]) -> Iterator[None]:
    """Let nodes send heartbeats for the length of the block."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.2):
            for ref in refs:
                namespace.beat(ref)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.etcd
class TestLocks:
    """Locks that end, by handles on a real server."""

    @pytest.mark.parametrize('off', [MONTH, -MONTH])
    def test_a_caller_from_outside(self, url: str, off: dt.timedelta) -> None:
        """A command on a machine whose clock is wrong watches the nodes until it knows the time."""
        with closing(handle(url, NONE)) as right, closing(handle(url, off)) as wrong:
            namespace = Namespace(right)
            refs = [namespace.join(name, timeout_sec=2.0) for name in 'abc']
            outside = Namespace(wrong)
            with beating(namespace, refs):
                outside.lock('x', expires_in=WEEK)
            (lock,) = right.read_locks().locks
            assert lock.expires_at is not None
            assert abs(lock.expires_at - dt.datetime.now(dt.UTC) - WEEK) < dt.timedelta(hours=1)
            assert wrong.edit_locks(LockEdit(remove=LockFilter(expired=True))) == 0

    def test_a_process_that_is_held_up(self, url: str) -> None:
        """A lock lasts as long as was requested, however much time passes between two readings of the clock."""
        with closing(handle(url, NONE)) as backend:
            namespace, readings = Namespace(backend), itertools.count()
            backend.store.time = StoreTime(lambda: START + next(readings) * SECOND)
            namespace.lock('x', expires_in=WEEK)
            (lock,) = backend.read_locks().locks
            assert lock.expires_at is not None
            assert abs(lock.expires_at - lock.created_at - WEEK) < dt.timedelta(milliseconds=1)

    def test_a_time_that_is_not_certain(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where half of the nodes are a month ahead, a lock begins by the earliest time, ends by the latest, and is not over."""
        with closing(handle(url, NONE)) as backend:
            namespace = Namespace(backend)
            monkeypatch.setattr(backend.store.time, 'bounds', lambda: (START, START + MONTH))
            namespace.lock('x', expires_in=WEEK)
            (lock,) = backend.read_locks().locks
            assert (lock.created_at, lock.expires_at) == (START, START + MONTH + WEEK)
            assert backend.edit_locks(LockEdit(remove=LockFilter(expired=True))) == 0

    def test_a_newcomer_a_month_ahead(self, url: str) -> None:
        """It does not register a month ahead: each node that registers later within the month would come right after it."""
        with closing(handle(url, NONE)) as right, closing(handle(url, MONTH)) as wrong:
            namespace = Namespace(right)
            for name in 'abc':
                namespace.join(name)
            wrong.register(Registration(NodeRef('d', 'run-d'), TIMEOUT_SEC), namespace.timeline, 0)
            assert namespace.node('d').created_on - dt.datetime.now(dt.UTC) < dt.timedelta(hours=1)

    def test_a_leader_a_month_ahead(self, url: str) -> None:
        """Among three workers it neither ends a lock of a week, nor keeps one of a second."""
        with ExitStack() as stack:
            jobs = []
            for name, off in (('a', MONTH), ('b', NONE), ('c', NONE)):
                backend = handle(url, off)
                job = Job(name, coordination_config=CoordinationConfig(backend=backend, **FAST))
                jobs.append(stack.enter_context(job))
            outside = stack.enter_context(closing(handle(url, NONE)))
            wait_until(lambda: all(job.my_tokens for job in jobs), 'all have tokens', DEADLINE_SEC)
            assert jobs[0].am_i_leader()
            namespace = Namespace(outside, outside.open(Settings(TOKENS, 'xxh3'), create=False).settings)
            namespace.lock('week', expires_in=WEEK)
            for number in range(3):
                namespace.lock(f'short {number}', expires_in=SECOND)
                wait_until(lambda: made(namespace) == {'week'}, 'the short one has gone, the long one stays', DEADLINE_SEC)
            for job in jobs[1:]:
                job.register_task_lock('by a worker', 'a%', 'test', expires_in_days=7)
                assert 'by a worker' in namespace.locks()


@pytest.mark.etcd
class TestObserver:
    """What a command says of nodes."""

    def test_all_have_died(self, url: str) -> None:
        """Each is silent, though none is left whose clock goes on."""
        with closing(handle(url, -DAY)) as dead, closing(handle(url, NONE)) as outside:
            namespace = Namespace(dead)
            for name in 'abc':
                namespace.join(name, timeout_sec=0.5)
            status = Observer(outside).status()
        assert status['silent'] == ['a', 'b', 'c']
        assert 'no node is at work' in status['problems']

    @pytest.mark.parametrize('off', [MONTH, -MONTH])
    def test_a_wrong_clock(self, url: str, off: dt.timedelta) -> None:
        """On a machine whose clock is wrong no node that lives is silent."""
        with closing(handle(url, NONE)) as right, closing(handle(url, off)) as outside:
            namespace = Namespace(right)
            refs = [namespace.join(name, timeout_sec=60.0) for name in 'abc']
            with beating(namespace, refs):
                assert Observer(outside).status()['silent'] == []


@pytest.mark.etcd
def test_rebalances_are_in_the_order_of_their_commits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the time of the first leader was a day ahead of the next one's."""
    with closing(handle(url, DAY)) as ahead, closing(handle(url, NONE)) as right:
        first = Namespace(ahead)
        leader = first.leader('a')
        # Its own time is that of the node's record, as the next leader's: they would differ by the time that the test takes.
        monkeypatch.setattr(ahead.store.time, 'earliest', lambda: dt.datetime.now(dt.UTC) + 2 * DAY)
        first.commit(leader, reason='first', moved=1)
        second = Namespace(right)
        second.commit(leader, reason='second', moved=1)
        found = second.rebalances()
    assert [row.trigger_reason for row in found] == ['second', 'first']
    assert found[0].triggered_at < found[1].triggered_at - DAY / 2
