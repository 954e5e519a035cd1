"""What only a memory store can do: be shared by name, be deterministic, go back in time."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from random import Random
from typing import Any

import pytest
from tests.signals import AlarmError, Interruption

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import NodeRef
from jobsync.backend import BackendOptions, Claim, HistoryKind
from jobsync.backends.memory import MemoryBackend, connect, shared_store
from jobsync.backends.single_writer import History
from jobsync.errors import ConfigError, Conflict, Evicted
from jobsync.testing import Namespace
from jobsync.testing.editable_store import EditableStore

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
DAY = NOON.date()
DEADLINE_SEC = 30


def namespace_on(store: EditableStore) -> Namespace:
    """A namespace on a store, with incarnations that are the same in every run."""
    namespace = Namespace(MemoryBackend(store))
    namespace.ref = lambda name: NodeRef(name, f'{name}-run')  # type: ignore[method-assign]
    return namespace


def test_a_name_means_one_store() -> None:
    """``memory://name`` is the same store in the whole process, another name another one."""
    options = BackendOptions()
    Namespace(connect('memory://shared-by-name', options)).join('a')
    assert list(Namespace(connect('memory://shared-by-name', options)).nodes()) == ['a']
    assert list(Namespace(connect('memory://another-name', options)).nodes()) == []
    assert shared_store() is shared_store('') is not shared_store('shared-by-name')


@pytest.mark.parametrize('url', ['memory:', 'memory:/x', 'sqlite://x', 'memory://a/b', 'memory://a?b=c', 'memory://u@h'])
def test_a_bad_url_is_refused(url: str) -> None:
    """The error says how to write one, and shows nothing of this one."""
    with pytest.raises(ConfigError, match='memory://name'):
        connect(url, BackendOptions())


def test_a_seeded_store_is_deterministic() -> None:
    """With one seed and one clock, the same calls leave the same state to the last stamp."""

    def play() -> object:
        namespace = namespace_on(EditableStore(lambda: NOON, Random(7)))
        namespace.commit(namespace.leader(), TokenGroup([1], 'leader'), moved=1)
        namespace.lock('x')
        namespace.backend.renew_timeline(namespace.timeline, 5)
        return namespace.state()

    assert play() == play()


def test_restore_goes_back() -> None:
    """The state is that of the image, trails included, and what was done since is unknown again."""
    store = EditableStore()
    namespace = Namespace(MemoryBackend(store))
    leader = namespace.leader()
    namespace.backend.append_claims(leader, ['before'], DAY)
    image, before = store.image(), namespace.state()
    ref = namespace.join('a')
    version = namespace.commit(leader, TokenGroup([1], 'a'), moved=1)
    guard = namespace.guard()
    namespace.backend.append_claims(leader, ['after'], DAY)
    for _ in range(2):
        store.restore(image)
        assert namespace.state() == before
        with pytest.raises(Evicted):
            namespace.beat(ref)
        with pytest.raises(Conflict):
            namespace.backend.commit(leader, namespace.plan(), guard)
        assert namespace.backend.read_assignment(version).base is None
        namespace.join('b')


def test_restore_with_another_identity_shows() -> None:
    """With an identity given, the store is another one than the timeline was made on; without, nothing shows."""
    store = EditableStore(identity='one')
    namespace = Namespace(MemoryBackend(store))
    image = store.image()
    store.restore(image)
    assert namespace.snapshot().store == namespace.timeline.store == 'one'
    store.restore(image, identity='two')
    assert (namespace.snapshot().store, namespace.snapshot().timeline) == ('two', namespace.timeline)


def test_wipe_with_the_schema_kept() -> None:
    """The namespace is there, without settings or records, in another timeline of generation 0."""
    store = EditableStore()
    namespace = Namespace(MemoryBackend(store))
    ref = namespace.leader()
    store.wipe(identity='two')
    with pytest.raises(Evicted):
        namespace.beat(ref)
    timeline = namespace.snapshot().timeline
    assert (timeline.generation, timeline.store) == (0, 'two')
    assert timeline.id != namespace.timeline.id
    assert namespace.state().snapshot.nodes == ()


def test_a_node_deleted_past_the_revision() -> None:
    """An edit that raises no revision can be feigned too."""
    store = EditableStore()
    namespace = Namespace(MemoryBackend(store))
    namespace.join('a')
    with namespace.same_revision():
        store.delete_node_row('sync_', 'a', raise_revision=False)
    assert namespace.nodes() == {}


def test_durable_can_be_denied() -> None:
    """A store declares what it is told to."""
    assert MemoryBackend(EditableStore()).info.durable
    assert not MemoryBackend(EditableStore(durable=False)).info.durable


def test_a_deleted_node_can_be_put_back() -> None:
    """An operator who deleted a row and puts the row back as it was restores the registration."""
    store = EditableStore()
    namespace = Namespace(MemoryBackend(store))
    ref = namespace.join('a')
    namespace.join('b')
    record = namespace.nodes()['a']
    store.delete_node_row('sync_', 'a')
    store.insert_node_row('sync_', record)
    assert list(namespace.nodes()) == ['a', 'b']
    namespace.backend.heartbeat(ref, record.seen, frozenset())


def test_an_exception_at_any_step_keeps_no_other_thread_waiting() -> None:
    """Wherever one from outside ends a call, the calls of other threads are served."""
    namespace = namespace_on(EditableStore())
    namespace.join('a')
    backend = namespace.backend
    with Interruption(None, 'threading.py') as counted:
        backend.snapshot()
    assert counted.count > 0
    for point in range(1, counted.count + 1):
        with contextlib.suppress(AlarmError), Interruption(point, 'threading.py'):
            backend.snapshot()
        other = threading.Thread(target=backend.snapshot, daemon=True)
        other.start()
        other.join(DEADLINE_SEC)
        assert not other.is_alive(), f'a thread waits after point {point}'


class _Read(dict[tuple[str, dt.date, str], Claim]):
    """Claims that count how many of them are read."""

    read = 0

    def values(self) -> Any:
        """Return them, to be read from the last."""
        return self

    def __reversed__(self) -> Any:
        for key in super().__reversed__():
            _Read.read += 1
            yield self[key]


def test_the_claims_of_an_item_are_found_without_those_of_all_others() -> None:
    """Each tick of a schedule reads its own, and is the newest; of a new one there are none."""
    history = History(claims=_Read())
    history.add(Claim(f'item {number}', 'a', DAY, NOON + dt.timedelta(seconds=number)) for number in range(1000))
    (found,) = history.history(HistoryKind.CLAIM, None, DAY, 'item 998')
    assert isinstance(found, Claim)
    assert found.item == 'item 998'
    assert history.history(HistoryKind.CLAIM, None, DAY, 'item 1000') == ()
    assert history.history(HistoryKind.CLAIM, None, DAY - dt.timedelta(days=1), 'item 1') == ()
    assert _Read.read == 2
