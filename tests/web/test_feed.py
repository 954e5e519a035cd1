"""One reading for all who follow: what it costs the store and the network, and what is shown of a store that is slow or away."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import attrs
import pytest
from tests.support.starved_threads import without_first_thread

from jobsync import Cluster
from jobsync.backend import NOBODY, LockEdit, LockRequest, Member, NodeRef, Settings, TokenGroup
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.rows import TaskRow
from jobsync.testing import Fault, FaultyBackend, Namespace, When
from jobsync.testing.conformance.namespace import TOKENS
from jobsync.web import feed as feed_module
from jobsync.web.feed import Feed
from jobsync.web.frame import Backlog, Frame, frame_of
from jobsync.web.gauges import cluster_metrics

HOSTILE = '<img src=x onerror="alert(1)">\u202e\u0007__proto__' + 'x' * 2000


def fed(backend: Any) -> Feed:
    return Feed(lambda: Cluster(backend), {'steering': False})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def namespace(store: MemoryStore) -> Namespace:
    """Two nodes; the leader owns every token."""
    namespace = Namespace(MemoryBackend(store))
    namespace.commit(namespace.leader('a'), TokenGroup(range(TOKENS), 'a'), moved=TOKENS)
    namespace.join('b')
    return namespace


@pytest.fixture
def backend(store: MemoryStore, namespace: Namespace) -> FaultyBackend:
    return FaultyBackend(MemoryBackend(store))


@pytest.fixture
def feed(backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.setattr(feed_module, '_TOGETHER_SEC', 600.0)
    feed = fed(backend)
    yield feed
    feed.close()


def shown(namespace: Namespace, backlog: Backlog | None = None) -> Frame:
    """What is shown of a namespace now."""
    reading = Cluster(namespace.backend)._reader.read()
    return frame_of(reading, 0.0, {}, Cluster(namespace.backend).rebalances(), backlog or Backlog())


async def take(events: AsyncIterator[tuple[str, str]], name: str) -> Any:
    """Return the data of the next event of a name."""
    async for found, data in events:
        if found == name:
            return json.loads(data)
    raise AssertionError('the events have ended')


# --- what it costs the store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('step', ['start', 'run'])
def test_it_begins_though_there_was_no_memory_for_its_thread(feed: Feed, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the thread ends before or after it counts as started: the event loop does not hang, and the next one is served."""
    with without_first_thread('jobsync-web-feed', step):
        with monkeypatch.context() as patch, contextlib.suppress(RuntimeError):
            patch.setattr(feed_module, '_STARTING_SEC', 0.2)
            asyncio.run(feed.recent())
        frame, _ = asyncio.run(feed.recent())
    assert frame is not None


def test_it_begins_once_a_thread_can_be_started(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first follower for whom there is no thread is refused, and the next one is served."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError, match='start new thread'):
            asyncio.run(feed.recent())
    frame, error = asyncio.run(feed.recent())
    assert frame is not None
    assert error is None


def test_ten_pages_cost_the_store_no_more_than_one(feed: Feed, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten followers, and ten requests besides, are served from one reading: each record is read once."""
    monkeypatch.setattr(feed_module, '_EVERY_SEC', 3600.0)
    calls: list[list[str]] = []

    async def follow() -> None:
        first = await take(feed.events(), 'state')
        calls.append(list(backend.calls))
        states = await asyncio.gather(*(take(feed.events(), 'state') for _ in range(9)), *(feed.recent() for _ in range(10)))
        assert states[0] == first
        calls.append(list(backend.calls))

    asyncio.run(follow())
    assert calls[0] == calls[1]
    assert calls[0].count('snapshot') == 1


def test_a_second_in_which_nothing_happens_costs_one_call(feed: Feed, backend: FaultyBackend) -> None:
    """Only the snapshot is read again: no assignment, no task lock and no history, though a heartbeat was sent."""
    feed._read(0.0)
    before = len(backend.calls)
    feed._read(1.0)
    assert backend.calls[before:] == ['snapshot']


def test_a_change_in_the_midst_of_a_reading_is_read_next(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator has changed meanwhile shows in the next frame, though what is incomplete is read at a slower pace."""
    count = itertools.count(1)

    def incomplete(older_than: float) -> list[TaskRow]:
        assert older_than > 0
        if next(count) == 1:
            feed.refresh()
        return []

    monkeypatch.setattr(feed.cluster(), 'incomplete', incomplete)
    for moment in range(3):
        feed._read(time.monotonic() + moment)
    assert next(count) == 3  # of three readings the first two have read what is incomplete


def test_nothing_is_read_while_no_page_is_open(feed: Feed, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends some time after the last follower, and starts again with the next."""
    monkeypatch.setattr(feed_module, '_IDLE_SEC', 0.0)
    monkeypatch.setattr(feed_module, '_EVERY_SEC', 0.01)
    assert backend.calls == []
    asyncio.run(take(feed.events(), 'state'))
    if thread := feed._thread:
        thread.join(120)
    assert feed._thread is None
    asyncio.run(take(feed.events(), 'state'))


# --- a store that is slow or away -------------------------------------------------------------------------------------------


def test_a_store_that_is_slow_or_away_shows_as_old(
    store: MemoryStore, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followers keep what was read, are sent its age and the error, and go on when the store answers again."""
    monkeypatch.setattr(feed_module, '_EVERY_SEC', 0.02)
    monkeypatch.setattr(feed_module, '_QUIET_SEC', 0.05)
    answered = threading.Event()
    backend = FaultyBackend(MemoryBackend(store), sleep=lambda _: bool(answered.wait(120)))  # type: ignore[arg-type]
    feed = fed(backend)

    async def follow() -> None:
        events = feed.events()
        assert (await take(events, 'state'))['status']['leader'] == 'a'
        backend.faults.append(Fault('snapshot', When.NEVER, delay_sec=1))
        slow = await take(events, 'age')
        assert slow['age_sec'] >= 0.05
        assert slow['error'] is None
        backend.faults[:] = [Fault('snapshot', times=1_000_000)]
        answered.set()
        while (away := await take(events, 'age'))['error'] is None:
            pass
        assert 'BackendUnavailable' in away['error']
        frame, error = await feed.recent()
        assert frame is not None
        assert error is not None
        assert b'jobsync_cluster_up 0.0' in cluster_metrics(frame, error)
        namespace.join('c')
        backend.faults.clear()
        assert 'c' in (await take(events, 'change'))['nodes']

    try:
        asyncio.run(follow())
    finally:
        answered.set()
        feed.close()


def test_a_backlog_that_cannot_be_read_hides_nothing_else(feed: Feed, backend: FaultyBackend, namespace: Namespace) -> None:
    """All else is read and shown, with the reason; it is not tried again at once, and no metric says that there are none."""
    gauge, at = b'jobsync_cluster_tasks_incomplete ', time.monotonic()
    assert gauge in cluster_metrics(feed._read(at), None)
    backend.faults.append(Fault('incomplete', times=1_000_000))
    namespace.join('c')
    frame = feed._read(at + 1000)
    assert '"c"' in frame.tables['nodes']
    assert 'incomplete tasks cannot be read: BackendUnavailable' in json.loads(frame.parts['health'])['problems'][-1]
    metrics = cluster_metrics(frame, None)
    assert (gauge in metrics, b'jobsync_cluster_up 1.0' in metrics) == (False, True)
    before = len(backend.calls)
    feed._read(at + 1001)
    assert backend.calls[before:] == ['snapshot']
    backend.faults.clear()
    frame = feed._read(at + 2000)
    assert gauge in cluster_metrics(frame, None)
    assert 'cannot be read' not in frame.parts['health']


def test_a_long_reading_of_incomplete_tasks_holds_up_no_frame(
    feed: Feed, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page goes on, and a scrape is answered; no metric says that there are none. Once they are read, they show."""
    gauge, at, is_read = b'jobsync_cluster_tasks_incomplete ', time.monotonic(), threading.Event()
    incomplete = Cluster.incomplete

    def slowly(cluster: Cluster, older_than: float) -> list[TaskRow]:
        assert is_read.wait(600)
        return incomplete(cluster, older_than=older_than)

    monkeypatch.setattr(Cluster, 'incomplete', slowly)
    monkeypatch.setattr(feed_module, '_TOGETHER_SEC', 0.01)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(feed._read, at)
        try:
            metrics = cluster_metrics(reading.result(120), None)
            assert (gauge in metrics, b'jobsync_cluster_up 1.0' in metrics) == (False, True)
            assert 'are not read yet' in reading.result().parts['health']
            namespace.join('c')
            assert '"c"' in feed._read(at + 1).tables['nodes']
        finally:
            is_read.set()
    monkeypatch.setattr(feed_module, '_TOGETHER_SEC', 600.0)
    frame = feed._read(at + 2)
    assert gauge in cluster_metrics(frame, None)
    assert 'not read yet' not in frame.parts['health']


def test_an_unexpected_error_amid_incomplete_tasks_hides_nothing_else(
    feed: Feed, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for a record that cannot be shown: the rest is, and the log has the error."""
    monkeypatch.setattr(Cluster, 'incomplete', Mock(side_effect=TypeError('odd')))
    namespace.join('c')
    frame = feed._read(time.monotonic())
    assert '"c"' in frame.tables['nodes']
    assert 'incomplete tasks cannot be read: the log' in frame.parts['health']
    assert 'TypeError: odd' in caplog.text


def test_a_backlog_that_could_not_be_read_once_is_read_again_soon(feed: Feed, backend: FaultyBackend) -> None:
    """An outage amid it ends. Only a second failure in a row is one of a long reading, repeated after twenty times as long."""
    at = time.monotonic()

    def problem(now: float) -> bool:
        return 'cannot be read' in feed._read(now).parts['health']

    backend.faults.append(Fault('incomplete'))
    assert problem(at - 60)  # so it took a minute
    assert not problem(at + 5)
    backend.faults.append(Fault('incomplete', times=2))
    for _ in range(2):
        feed.refresh()
        assert problem(at - 60)
    assert problem(at + 1000)
    assert not problem(at + 2000)


def test_quarantine_shows_where_incomplete_tasks_cannot_be_read(
    feed: Feed, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read by itself, and in time: an alert on its metric must not stay silent where only the other is missing."""
    monkeypatch.setattr(feed_module, 'fewest_attempts', lambda _: 3)
    monkeypatch.setattr(Cluster, 'quarantined', lambda *_: [{'item': 'x', 'attempts': 3}])
    backend.faults.append(Fault('incomplete', times=1_000_000))
    frame = feed._read(time.monotonic())
    assert json.loads(frame.parts['quarantined'])['rows'] == [{'item': 'x', 'attempts': 3}]
    assert b'jobsync_cluster_tasks_quarantined 1.0' in cluster_metrics(frame, None)


def test_quarantine_that_cannot_be_read_hides_nothing_else(
    feed: Feed, backend: FaultyBackend, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is read and shown, with the reason; it is not tried again at once, and no metric says that there are none."""
    monkeypatch.setattr(feed_module, 'fewest_attempts', lambda _: 3)
    backend.faults.append(Fault('lost_attempts', times=1_000_000))
    namespace.join('c')
    at = time.monotonic()
    frame = feed._read(at)
    assert '"c"' in frame.tables['nodes']
    assert 'quarantined and incomplete tasks cannot be read: BackendUnavailable' in frame.parts['health']
    metrics = cluster_metrics(frame, None)
    assert (b'jobsync_cluster_tasks_quarantined ' in metrics, b'jobsync_cluster_up 1.0' in metrics) == (False, True)
    before = len(backend.calls)
    feed._read(at + 1)
    assert backend.calls[before:] == ['snapshot']
    backend.faults.clear()
    frame = feed._read(at + 1000)
    assert b'jobsync_cluster_tasks_quarantined 0.0' in cluster_metrics(frame, None)
    assert 'cannot be read' not in frame.parts['health']


def test_a_store_that_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is known at once, and nothing else is."""
    feed = fed(MemoryBackend(MemoryStore()))
    frame, error = asyncio.run(feed.recent())
    assert frame is None
    assert error is not None
    assert 'SchemaMismatch' in error
    feed.close()


def test_who_follows_in_the_midst_of_an_outage_is_told_the_age_with_the_state(
    feed: Feed, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No browser shows what was read an hour ago as the present, not even for a moment."""
    asyncio.run(feed.recent())
    backend.faults.append(Fault('snapshot', times=1_000_000))
    feed.close()
    read_at, frame, _ = feed._latest
    assert frame is not None
    feed._latest = read_at, attrs.evolve(frame, read_at=frame.read_at - 3600), 'BackendUnavailable: away'
    monkeypatch.setattr(feed, '_want', lambda: None)
    monkeypatch.setattr('jobsync.web.feed.asyncio.sleep', Mock(side_effect=AssertionError('it waits before it tells the age')))
    feed._closing.clear()

    async def follow() -> list[tuple[str, Any]]:
        events = feed.events()
        return [(name, json.loads(data)) for name, data in [await anext(events), await anext(events)]]

    (first, _), (second, age) = asyncio.run(follow())
    assert (first, second) == ('state', 'age')
    assert age['age_sec'] >= 3600
    assert age['error'] == 'BackendUnavailable: away'


# --- what is sent -----------------------------------------------------------------------------------------------------------


def patched(state: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Apply a change as the page does."""
    result = {**state, **change}
    for name in ('nodes', 'beats'):
        rows = {**state[name], **change.get(name, {})}
        result[name] = {key: row for key, row in rows.items() if row is not None}
    return result


def test_a_change_makes_the_new_state_of_the_old(namespace: Namespace) -> None:
    """After joins, heartbeats, commits, locks, an eviction: the change between any two frames leads from one to the other."""
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    frames = [shown(namespace)]
    b = namespace.join('c')
    frames.append(shown(namespace))
    namespace.beat(leader, namespace.revision)
    frames.append(shown(namespace))
    namespace.commit(leader, TokenGroup(range(5), 'a', 'b'), TokenGroup(range(5, 9), 'a', NOBODY))
    namespace.lock('x')
    frames.append(shown(namespace))
    namespace.evict(leader, b)
    frames.append(shown(namespace))
    for older in frames:
        for newer in frames:
            assert patched(json.loads(older.text()), json.loads(newer.since(older))) == json.loads(newer.text())


def test_moves_are_counted_by_pair(namespace: Namespace) -> None:
    """For each pair of nodes: how many tokens move, how many are still in use, and whether the owner has read the request."""
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    version = namespace.commit(
        leader, TokenGroup(range(5), 'a', 'b'), TokenGroup(range(5, 9), 'a', NOBODY), TokenGroup([9], 'b', NOBODY)
    )
    namespace.beat(leader, version, {1, 2, 20})
    namespace.beat(namespace.node('b').ref, version, {5})
    moves = json.loads(shown(namespace).parts['moves'])
    assert moves['rows'] == [
        {'owner': 'a', 'target': 'b', 'tokens': 5, 'tasks': 0, 'is_acknowledged': True, 'held': 2},
        {'owner': 'a', 'target': None, 'tokens': 4, 'tasks': 0, 'is_acknowledged': True, 'held': 0},
        {'owner': 'b', 'target': None, 'tokens': 1, 'tasks': 0, 'is_acknowledged': True, 'held': 0},
    ]
    assert json.loads(shown(namespace).text())['nodes']['a']['moving'] == 9


def test_who_comes_after_a_long_pause_is_shown_nothing_old(feed: Feed) -> None:
    """The store is read anew for the first request, which waits for that."""
    at = time.monotonic()
    old = feed._read(at)
    feed._latest = at - 100, old, None
    found, error = asyncio.run(feed.recent())
    assert (found is old, found is None, error) == (False, False, None)


def test_a_node_is_late_before_it_is_taken_for_dead(namespace: Namespace) -> None:
    """From two thirds of its timeout on the page says how long it has been silent; past it a leader leads no more."""
    reading = Cluster(namespace.backend)._reader.read()
    said = list[tuple[bool, bool]]()
    for seconds in (9, 11, 16):
        now = reading.snapshot.now + dt.timedelta(seconds=seconds)
        frame = frame_of(attrs.evolve(reading, snapshot=attrs.evolve(reading.snapshot, now=now)), 0.0, {}, (), Backlog())
        words = f'has sent no heartbeat for {seconds} s, and is taken for dead after 15 s'
        said.append((words in frame.parts['health'], b'jobsync_cluster_leader 1.0' in cluster_metrics(frame, None)))
    assert said == [(False, True), (True, True), (False, False)]


def test_hostile_texts_cross_as_data(namespace: Namespace) -> None:
    """Markup, control characters and the names of what scripts are made of arrive as they are, in one line of an event."""
    namespace.lock(HOSTILE, '__proto__', reason=HOSTILE, patterns=('no-node',))
    namespace.join('__proto__')
    text = shown(namespace).text()
    assert '\n' not in text
    assert text.isascii()
    state = json.loads(text)
    assert '__proto__' in state['nodes']
    assert state['status']['locks'] == 2


def big(nodes: int, tokens: int, locks: int) -> tuple[Namespace, list[NodeRef]]:
    """A namespace with many of everything, in which every node owns some tokens."""
    namespace = Namespace(MemoryBackend(MemoryStore()), Settings(total_tokens=tokens, hash_function='xxh3'))
    leader = namespace.leader('worker-0000')
    refs = [
        leader,
        *(namespace.join(f'worker-{number:04}', host=f'host-{number:04}', pid=4000 + number) for number in range(1, nodes)),
    ]
    members = {ref.name: Member(ref.incarnation, 15.0) for ref in refs}
    groups = (TokenGroup(range(nth, tokens, nodes), ref.name) for nth, ref in enumerate(refs))
    version = namespace.commit(leader, *groups, members=members, moved=tokens, reason='first distribution')
    for ref in refs:
        namespace.beat(ref, version)
    requests = (LockRequest(f'task-{number}', ('gpu-%',), 'ann', 'needs a card') for number in range(locks))
    namespace.backend.edit_locks(LockEdit(put=tuple(requests)))
    return namespace, refs


def test_a_thousand_nodes_are_sent_in_little(namespace: Namespace) -> None:
    """The first answer has less than 150 kB, and a second in which a fifth of the nodes send a heartbeat less than 10 kB."""
    namespace, refs = big(1000, 10_000, 1000)
    first = shown(namespace)
    assert len(first.text()) < 150_000
    for ref in refs[:200]:
        namespace.beat(ref, namespace.snapshot().version)
    change = shown(namespace).since(first)
    assert set(json.loads(change)) == {'now', 'beats'}
    assert len(change) < 10_000
