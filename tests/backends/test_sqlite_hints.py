"""Which nodes SQLite's hints concern. That none is left out is the conformance suite's to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import Hint, TokenGroup
from jobsync.backends.sql.sqlite.hints import KEPT
from jobsync.testing.conformance.namespace import SETTINGS, Namespace


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def namespace(harness: SqliteHarness) -> Namespace:
    namespace = Namespace(harness.connect())
    namespace.backend.open(SETTINGS, True)
    return namespace


@pytest.fixture
def named(harness: SqliteHarness, namespace: Namespace) -> Callable[[], frozenset[str] | None]:
    """Return the nodes that the hints since the last call concern; None: all."""
    watcher = harness.connect()
    watcher.open(SETTINGS, True)
    known = 0

    def read() -> frozenset[str] | None:
        nonlocal known
        found = watcher.wait(known, 100)
        assert isinstance(found, Hint)
        assert found == namespace.revision.number
        known = found
        return found.nodes

    return read


def test_what_concerns_the_leader_only(namespace: Namespace, named: Callable[[], frozenset[str] | None]) -> None:
    namespace.leader()
    assert named() is None, 'the first one, since nothing is known of the time before it'
    other = namespace.join('b')
    assert named() == frozenset()
    namespace.backend.set_weight(other, 2.0)
    assert named() == frozenset()
    namespace.backend.deregister(other)
    namespace.join('c')
    assert named() == frozenset()


def test_what_concerns_some(namespace: Namespace, named: Callable[[], frozenset[str] | None]) -> None:
    leader = namespace.leader()
    namespace.join('b')
    named()
    namespace.commit(leader, TokenGroup([0], 'b'), affected=frozenset({'b', 'Zoë'}))
    namespace.join('c')
    assert named() == frozenset({'b', 'Zoë'}), 'a commit, and a node that registers after it'
    for number in range(2 * KEPT):
        namespace.join(f'n{number}')
    assert named() is None, 'more changes than announcements are kept'
    many = frozenset(f'node-{number:04}' for number in range(500))
    namespace.commit(leader, TokenGroup([0], 'c'), affected=many)
    assert named() == many
    namespace.commit(leader, TokenGroup([0], 'b'), affected=many | {f'more-{number:04}' for number in range(300)})
    assert named() is None, 'more names than are announced'


def test_what_concerns_all(namespace: Namespace, harness: SqliteHarness, named: Callable[[], frozenset[str] | None]) -> None:
    leader = namespace.leader()
    namespace.join('b')
    named()
    namespace.commit(leader, TokenGroup([0], 'b'))
    namespace.join('c')
    assert named() is None, 'a commit that does not say whom it concerns'
    namespace.commit(leader, TokenGroup([0], 'c'), affected=frozenset({'c'}))
    harness.delete_node_row('sync_', 'b')
    namespace.join('d')
    assert named() is None
    harness.delete_token_rows('sync_', [0])
    assert named() is None


def test_a_revision_that_is_no_number(namespace: Namespace, harness: SqliteHarness) -> None:
    """A wait takes as long as any other, and raises nothing; put back, the revision is read."""
    namespace.join('a')
    for value in ("'x'", "x'00'", '1.25'):
        harness.execute(f'UPDATE sync_state SET revision = {value}')
        assert namespace.backend.wait(0, 0.01) == 0
    harness.execute('UPDATE sync_state SET revision = 7')
    assert namespace.backend.wait(0, 60.0) == 7
