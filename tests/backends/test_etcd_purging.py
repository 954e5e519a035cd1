"""What is written while the history in etcd is purged."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer

from jobsync.backend import Backend, HistoryKind
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.item_records import FIRST, place_of, record_chunks
from jobsync.backends.etcd.purging import MOST_READ, READING, EtcdPurging, OtherHistory
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import purged

pytestmark = pytest.mark.etcd

DAY = dt.date(2026, 3, 2)


@pytest.fixture
def harness(etcd_server: EtcdServer) -> Iterator[EtcdHarness]:
    """All of the server for each test."""
    harness = EtcdHarness(etcd_server)
    yield harness
    harness.close()


def before_the_first_write(monkeypatch: pytest.MonkeyPatch, backend: Backend, others: Callable[[], None]) -> None:
    """Do what others do after this handle has read, and before it writes."""
    assert isinstance(backend, EtcdBackend)
    connection, write = backend.store.connection, backend.store.connection.write
    is_first = [True]

    def after_the_others(method: str, request: Any, deadline: float) -> Any:
        if is_first:
            is_first.clear()
            others()
        return write(method, request, deadline)

    monkeypatch.setattr(connection, 'write', after_the_others)


@pytest.mark.parametrize('kind', [HistoryKind.CLAIM, HistoryKind.AUDIT])
def test_a_record_written_amid_others(harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch, kind: HistoryKind) -> None:
    """A record that is appended between those of a portion, after they were read, keeps none of them from going."""
    namespace, backend = Namespace(harness.connect()), harness.connect()
    ref = namespace.join('a')
    *done, amid, last = sorted((f'item {number}' for number in range(8)), key=place_of)
    done.append(last)
    for item in done:
        if kind is HistoryKind.CLAIM:
            namespace.claim(ref, item, date=DAY)
        namespace.audit('a', item, date=DAY)

    def append() -> None:
        if kind is HistoryKind.CLAIM:
            namespace.claim(ref, amid, date=DAY)
        else:
            namespace.audit('a', amid, date=DAY)

    later = namespace.snapshot().now + dt.timedelta(hours=1)
    before_the_first_write(monkeypatch, backend, append)
    assert purged(backend, kind, later, limit=100) == len(done)
    left = namespace.claims() if kind is HistoryKind.CLAIM else namespace.audits()
    assert [record.item for record in left] == [amid]


def test_a_record_that_another_purge_has_replaced(harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two purges read one record of claims, some of which stay: what the first one has left, and then purged, is not back."""
    namespace, backend = Namespace(harness.connect()), harness.connect()
    namespace.claim(namespace.join('a'), 'done', 'done later', date=DAY)
    namespace.audit('a', 'done', date=DAY)
    later = namespace.snapshot().now + dt.timedelta(hours=1)

    def purge() -> None:
        assert purged(namespace.backend, HistoryKind.CLAIM, later, limit=100) == 1
        namespace.audit('a', 'done later', date=DAY)
        assert purged(namespace.backend, HistoryKind.CLAIM, later, limit=100) == 1
        assert purged(namespace.backend, HistoryKind.AUDIT, later, limit=100) == 2

    before_the_first_write(monkeypatch, backend, purge)
    gone = purged(backend, HistoryKind.CLAIM, later, limit=100)
    assert (namespace.claims(), gone) == ([], 0)


def test_a_claim_that_was_renewed_beside_a_record_of_which_it_is_left(harness: EtcdHarness) -> None:
    """It keeps its later time: what is left of the record takes the place of no other one."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    namespace.claim(ref, 'done', 'open', date=DAY)
    namespace.audit('a', 'done', date=DAY)
    namespace.claim(ref, 'open', date=DAY)
    before = namespace.backend.incomplete(DAY, dt.timedelta(0))
    assert purged(namespace.backend, HistoryKind.CLAIM, namespace.snapshot().now + dt.timedelta(hours=1), limit=100) == 1
    assert namespace.backend.incomplete(DAY, dt.timedelta(0)) == before


def test_an_item_that_is_claimed_and_completed_between_two_portions(harness: EtcdHarness) -> None:
    """The claims of the date were read for the first one, so the second one does not know of its claim: its audit stays."""
    namespace, backend = Namespace(harness.connect()), harness.connect()
    ref = namespace.join('a')
    *early, late = sorted((f'item {number}' for number in range(3)), key=place_of)
    for item in early:
        namespace.audit('a', item, date=DAY)
    later = namespace.snapshot().now + dt.timedelta(hours=1)
    portion = backend.purge(HistoryKind.AUDIT, later, 1)
    namespace.claim(ref, late, date=DAY)
    namespace.audit('a', late, date=DAY)
    assert portion.resume
    while portion.resume:
        portion = backend.purge(HistoryKind.AUDIT, later, 1, portion.resume)
    assert [audit.item for audit in namespace.audits()] == [late]


@pytest.mark.parametrize('kind', [HistoryKind.CLAIM, HistoryKind.AUDIT])
def test_what_is_left_of_a_record_amid_those_that_go(harness: EtcdHarness, kind: HistoryKind) -> None:
    """It may get a name between those of others that go in the same portion: they go, and it stays."""
    namespace = Namespace(harness.connect())
    ref, is_claim = namespace.join('a'), kind is HistoryKind.CLAIM
    first, stays, last = sorted((f'item {number}' for number in range(3)), key=place_of)
    namespace.claim(ref, *(['goes'] * is_claim), stays, date=DAY)
    namespace.audit('a', 'goes', *([] if is_claim else [stays]), date=DAY)
    for item in (first, last):
        if is_claim:
            namespace.claim(ref, item, date=DAY)
        namespace.audit('a', item, date=DAY)
    later = namespace.snapshot().now + dt.timedelta(hours=1)
    assert purged(namespace.backend, kind, later, limit=100) == 3
    assert [record.item for record in (namespace.claims() if is_claim else namespace.audits())] == [stays]


def test_what_is_left_of_several_items_amid_records_that_go(harness: EtcdHarness) -> None:
    """Its name begins with the time, as that of one that goes and was left before: a later one, before those of no time."""
    namespace = Namespace(harness.connect())
    ref, later = namespace.join('a'), namespace.snapshot().now + dt.timedelta(hours=1)
    groups = [[f'{letter}{number}' for letter in 'xyz'] for number in range(3)]
    first, whole, last = sorted(groups, key=lambda items: record_chunks(b'', 'a', None, items, later)[0][0])
    for items in (first, last):
        namespace.claim(ref, *items, date=DAY)
        namespace.audit('a', items[0], date=DAY)
        if items is first:
            assert purged(namespace.backend, HistoryKind.CLAIM, later, limit=100) == 1
            namespace.claim(ref, *whole, date=DAY)
            namespace.audit('a', *items, *whole, date=DAY)
    assert purged(namespace.backend, HistoryKind.CLAIM, later, limit=100) == 2 + 3 + 1
    assert sorted(record.item for record in namespace.claims()) == last[1:]


def test_records_that_another_purge_has_removed(harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two purges read the same records: only one of them counts them."""
    namespace, backend = Namespace(harness.connect()), harness.connect()
    namespace.claim(namespace.join('a'), 'x', 'y', date=DAY)
    namespace.audit('a', 'x', 'y', date=DAY)
    later = namespace.snapshot().now + dt.timedelta(hours=1)

    def purge() -> None:
        assert purged(namespace.backend, HistoryKind.CLAIM, later, limit=100) == 2

    before_the_first_write(monkeypatch, backend, purge)
    assert purged(backend, HistoryKind.CLAIM, later, limit=100) == 0


def test_another_purge_ends_amid_one_that_forgets_the_oldest_reading(harness: EtcdHarness) -> None:
    """Both remember what they have read in one place, and the other one takes out what it has remembered."""

    class EndsNow(dict[Any, Any]):
        def __iter__(self) -> Iterator[Any]:
            found = super().__iter__()
            if len(self) == MOST_READ:
                self.clear()
            return found

    namespace = Namespace(harness.connect())
    namespace.claim(namespace.join('a'), 'x')
    namespace.audit('a', 'x')
    purging = EtcdPurging(namespace.backend.store)  # type: ignore[attr-defined]
    days = [DAY + dt.timedelta(days=1 + number) for number in range(MOST_READ)]
    purging._other = EndsNow(((HistoryKind.AUDIT, day), OtherHistory(None, '', 0, [])) for day in days)
    before = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    assert purging.purge(HistoryKind.CLAIM, before, 100, READING).deleted == 1


def test_many_small_records_beside_a_large_one(harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that were recorded one by one are read a hundred at a time, though the completions are one record with all items."""
    backend, reads = harness.connect(), list[str]()
    assert isinstance(backend, EtcdBackend)
    namespace, items = Namespace(backend), [f'item {number}' for number in range(300)]
    ref = namespace.join('a')
    for item in items:
        namespace.claim(ref, item, date=DAY)
    namespace.audit('a', *items, date=DAY)
    connection, read = backend.store.connection, backend.store.connection.read

    def counted(method: str, request: Any, deadline: float) -> Any:
        reads.append(method)
        return read(method, request, deadline)

    later = namespace.snapshot().now + dt.timedelta(hours=1)
    monkeypatch.setattr(connection, 'read', counted)
    assert purged(backend, HistoryKind.CLAIM, later, limit=100) == len(items)
    assert len(reads) < 50


def test_records_whose_writers_died(harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks of large records that were never completed go with the history of their time, and not before."""
    backend = harness.connect()
    assert isinstance(backend, EtcdBackend)
    namespace = Namespace(backend)
    ref, items = namespace.join('a'), [random.Random(number).randbytes(50_000).hex() for number in range(8)]
    connection, read = backend.store.connection, backend.store.read_state(backend.store.later())
    write = connection.write

    def die(method: str, request: Any, deadline: float) -> Any:
        if request.compare:
            raise BackendUnavailable('the writer dies')
        return write(method, request, deadline)

    monkeypatch.setattr(connection, 'write', die)
    for append in (
        lambda: backend.append_claims(ref, items, DAY),
        lambda: backend.append_claims(ref, items, DAY, tolerated=1),
        lambda: backend.append_audits('a', items, DAY),
        lambda: backend.forget_attempts(items, DAY),
    ):
        with pytest.raises(BackendUnavailable):
            append()
    monkeypatch.undo()
    spoilt = backend.store.keys.history(HistoryKind.CLAIM, DAY) + b'0000000001-' + 24 * b'0' + FIRST
    connection.write('KV.Txn', requests.when((), [requests.put(spoilt, b'of a later version')]), backend.store.later())
    now, counts = namespace.snapshot().now, list[int]()
    for before in (now + dt.timedelta(hours=2), now + dt.timedelta(days=2)):
        assert not any(purged(backend, kind, before, limit=100) for kind in HistoryKind)
        counts.append(sum(1 for _ in backend.store.range(read.keys.root + b'history/', 0, backend.store.later())))
    assert counts[0] > 0
    assert counts[1] == 1, 'what a later version can read stays'
