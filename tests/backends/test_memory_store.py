"""What only a memory store can do: be shared by name, be deterministic, go back in time."""

from __future__ import annotations

import datetime as dt
from random import Random

import pytest

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import NodeRef
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore, connect, shared_store
from jobsync.errors import ConfigError, Conflict, Evicted
from jobsync.testing.conformance.scene import Scene

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
DAY = NOON.date()


def scene_on(store: MemoryStore) -> Scene:
    """A scene on a store, with incarnations that are the same in every run."""
    scene = Scene(MemoryBackend(store))
    scene.ref = lambda name: NodeRef(name, f'{name}-run')  # type: ignore[method-assign]
    return scene


def test_a_name_means_one_store() -> None:
    """``memory://name`` is the same store in the whole process, another name another one."""
    options = BackendOptions()
    Scene(connect('memory://shared-by-name', options)).join('a')
    assert list(Scene(connect('memory://shared-by-name', options)).nodes()) == ['a']
    assert list(Scene(connect('memory://another-name', options)).nodes()) == []
    assert shared_store() is shared_store('') is not shared_store('shared-by-name')


@pytest.mark.parametrize('url', ['memory:', 'memory:/x', 'sqlite://x', 'memory://a/b', 'memory://a?b=c', 'memory://u@h'])
def test_a_bad_url_is_refused(url: str) -> None:
    """The error says how to write one, and shows nothing of this one."""
    with pytest.raises(ConfigError, match='memory://name'):
        connect(url, BackendOptions())


def test_a_seeded_store_is_deterministic() -> None:
    """With one seed and one clock, the same calls leave the same state to the last stamp."""

    def play() -> object:
        scene = scene_on(MemoryStore(lambda: NOON, Random(7)))
        scene.commit(scene.leader(), TokenGroup([1], 'leader'), moved=1)
        scene.lock('x')
        scene.backend.renew_timeline(scene.timeline, 5)
        return scene.state()

    assert play() == play()


def test_restore_goes_back() -> None:
    """The state is that of the image, trails included, and what was done since is unknown again."""
    store = MemoryStore()
    scene = Scene(MemoryBackend(store))
    leader = scene.leader()
    scene.backend.append_claims(leader, ['before'], DAY)
    image, before = store.image(), scene.state()
    ref = scene.join('a')
    version = scene.commit(leader, TokenGroup([1], 'a'), moved=1)
    guard = scene.guard()
    scene.backend.append_claims(leader, ['after'], DAY)
    for _ in range(2):
        store.restore(image)
        assert scene.state() == before
        with pytest.raises(Evicted):
            scene.beat(ref)
        with pytest.raises(Conflict):
            scene.backend.commit(leader, scene.plan(), guard)
        assert scene.backend.read_assignment(version).base is None
        scene.join('b')


def test_restore_with_another_identity_shows() -> None:
    """With an identity given, the store is another one than the timeline was made on; without, nothing shows."""
    store = MemoryStore(identity='one')
    scene = Scene(MemoryBackend(store))
    image = store.image()
    store.restore(image)
    assert scene.backend.snapshot().store == scene.timeline.store == 'one'
    store.restore(image, identity='two')
    assert (scene.backend.snapshot().store, scene.backend.snapshot().timeline) == ('two', scene.timeline)


def test_wipe_with_the_schema_kept() -> None:
    """The namespace is there, without settings or records, in another timeline of generation 0."""
    store = MemoryStore()
    scene = Scene(MemoryBackend(store))
    ref = scene.leader()
    store.wipe(identity='two')
    with pytest.raises(Evicted):
        scene.beat(ref)
    timeline = scene.backend.snapshot().timeline
    assert (timeline.generation, timeline.store) == (0, 'two')
    assert timeline.id != scene.timeline.id
    assert scene.state().snapshot.nodes == ()


def test_a_node_deleted_past_the_revision() -> None:
    """An edit that raises no revision can be feigned too."""
    store = MemoryStore()
    scene = Scene(MemoryBackend(store))
    scene.join('a')
    with scene.same_revision():
        store.delete_node_row('sync_', 'a', raise_revision=False)
    assert scene.nodes() == {}


def test_durable_can_be_denied() -> None:
    """A store declares what it is told to."""
    assert MemoryBackend(MemoryStore()).info.durable
    assert not MemoryBackend(MemoryStore(durable=False)).info.durable


def test_a_deleted_node_can_be_put_back() -> None:
    """An operator who deleted a row and puts the row back as it was restores the registration."""
    store = MemoryStore()
    scene = Scene(MemoryBackend(store))
    ref = scene.join('a')
    scene.join('b')
    record = scene.nodes()['a']
    store.delete_node_row('sync_', 'a')
    store.insert_node_row('sync_', record)
    assert list(scene.nodes()) == ['a', 'b']
    scene.backend.heartbeat(ref, record.seen, frozenset())
