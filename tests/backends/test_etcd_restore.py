"""An etcd cluster that goes back to what it was: with its identity, as ordinary restores leave it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.job.waiting import wait_until
from tests.support.servers import EtcdServer
from tests.support.timings import FAST, TOKENS

from jobsync import CoordinationConfig, Job
from jobsync._core.records import Pulse, Snapshot
from jobsync.backend import BackendOptions
from jobsync.backends.etcd.plugin import connect
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace

pytestmark = pytest.mark.etcd

DAY = dt.date(2026, 3, 2)
DEADLINE_SEC = 120.0

Restore = Callable[[EtcdServer, Path], None]
WAYS: dict[str, tuple[Callable[[EtcdServer], Path], Restore]] = {
    'snapshot': (EtcdServer.save, lambda server, saved: server.restore(saved, same_token=True)),
    'data directory': (EtcdServer.copy_data, EtcdServer.put_back),
}


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    """A server of its own, which these tests may set back."""
    server = EtcdServer()
    yield server
    server.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Callable[[EtcdServer], Path], Restore]:
    """How to save, and how to go back."""
    return WAYS[request.param]


def answered(call: Callable[[], Pulse | Snapshot]) -> Pulse | Snapshot:
    """What the server answers once it is back."""
    found: list[Pulse | Snapshot] = []

    def is_there() -> bool:
        with contextlib.suppress(BackendUnavailable):
            found.append(call())
        return bool(found)

    wait_until(is_there, 'the server answers', DEADLINE_SEC)
    return found[0]


def test_the_position_shows_what_the_identity_hides(
    server: EtcdServer, way: tuple[Callable[[EtcdServer], Path], Restore]
) -> None:
    """Claims alone are lost, so revision and counters are as they were; the position is lower, the store's identity the same."""
    save, restore = way
    with closing(connect(server.url(), BackendOptions())) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        saved = save(server)
        answered(backend.snapshot)
        for number in range(9):
            backend.append_claims(ref, [f'x{number}'], DAY)
        before = backend.snapshot()
        restore(server, saved)
        after = answered(backend.snapshot)
        pulse = answered(lambda: namespace.beat(ref))
        assert (after.store, after.revision) == (before.store, before.revision)
        assert isinstance(after, Snapshot)
        assert after.nodes == before.nodes
        for told in (after, pulse):
            assert before.position is not None
            assert told.position is not None
            assert told.position < before.position


def test_nodes_begin_a_new_timeline(server: EtcdServer, way: tuple[Callable[[EtcdServer], Path], Restore]) -> None:
    """Running nodes see it, renew the timeline once or more, and own all tokens again."""
    save, restore = way
    config = CoordinationConfig(backend=server.url(), **FAST)
    with closing(connect(server.url(), BackendOptions())) as backend, Job('a', coordination_config=config) as one:
        saved = save(server)
        with Job('b', coordination_config=config) as other:
            wait_until(lambda: one.my_tokens and other.my_tokens, 'both have tokens', DEADLINE_SEC)
            restore(server, saved)

            def is_renewed() -> bool:
                with contextlib.suppress(BackendUnavailable):
                    return backend.snapshot().timeline.generation > 0
                return False

            wait_until(is_renewed, 'a new timeline', DEADLINE_SEC)
            wait_until(
                lambda: len(one.my_tokens | other.my_tokens) == TOKENS and one.my_tokens and other.my_tokens,
                'all tokens are owned',
                DEADLINE_SEC,
            )
