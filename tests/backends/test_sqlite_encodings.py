"""Texts that a person has written in another encoding than UTF-8, as a shell in a Latin-1 terminal does: rule R9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import TokenGroup, Unreadable
from jobsync.errors import ConfigError
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

LATIN = "CAST(x'636166e9' AS TEXT)"
"""The word "café" in Latin-1."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


def work(namespace: Namespace, name: str) -> None:
    """Do what each leader must be able to do: read, let a node join, commit, remove it."""
    leader = namespace.leader(f'leader-{name}')
    joined = namespace.join(name)
    namespace.commit(leader, TokenGroup([0, 1], name), affected=frozenset({name}))
    groups = namespace.backend.read_assignment(tokens=[0, 1]).groups
    assert {group.owner for group in groups} == {name}
    namespace.backend.deregister(joined)
    namespace.backend.deregister(leader)


@pytest.mark.parametrize('column', ['name', 'incarnation', 'host', 'settings'])
def test_nodes(harness: SqliteHarness, namespace: Namespace, column: str) -> None:
    """A record that another column than these two spoils is read; by these no statement could find the row again."""
    namespace.join('b\N{REPLACEMENT CHARACTER}')
    namespace.join('a')
    harness.execute(f"UPDATE sync_node SET {column} = {LATIN} WHERE name = 'a'")
    found = namespace.backend.snapshot()
    is_left_out = column in ('name', 'incarnation')
    assert len(found.nodes) == 2 - is_left_out
    assert [report.kind for report in found.unreadable] == ['node'] * is_left_out
    work(namespace, 'x')


def test_tokens(harness: SqliteHarness, namespace: Namespace) -> None:
    """An owner that no node can be is absent."""
    leader = namespace.leader()
    namespace.commit(leader, TokenGroup([0, 1, 2], 'leader'))
    harness.execute(f'UPDATE sync_token SET node = {LATIN}, home = {LATIN} WHERE token_id < 2')
    harness.execute(f'UPDATE sync_token SET target = {LATIN} WHERE token_id = 2')
    work(namespace, 'x')


def test_locks(harness: SqliteHarness, namespace: Namespace) -> None:
    """Two tasks that only the encoding told apart are not taken for one; a reason is only read."""
    namespace.lock('z')
    for word in ("x'636166e9'", "x'636166e8'"):
        harness.execute(f"INSERT INTO sync_lock (task_id, node_pattern) VALUES (CAST({word} AS TEXT), 'a')")
    harness.execute(f"UPDATE sync_lock SET reason = {LATIN} WHERE task_id = 'z'")
    found = namespace.backend.read_locks()
    assert [lock.task_id for lock in found.locks] == ['z']
    problem = 'task_id is no UTF-8: left out, as if there were no such lock'
    assert found.unreadable == (Unreadable('lock', 'caf\N{REPLACEMENT CHARACTER}', problem),) * 2
    namespace.lock('z', 'b')
    work(namespace, 'x')


@pytest.mark.parametrize('value', [LATIN, "x'00ff'", '7', '\'9 ["a"]\'', "printf('%.100000c', 'x')"])
def test_announcements(harness: SqliteHarness, namespace: Namespace, value: str) -> None:
    """Nothing that is written where revisions are announced keeps one from being made, or waited for."""
    watcher = harness.connect()
    namespace.leader()
    harness.execute(f'UPDATE sync_state SET announced = {value}')
    assert watcher.wait(0, 100) == namespace.revision.number
    work(namespace, 'x')
    assert watcher.wait(0, 100) == namespace.revision.number


def test_a_file_in_utf_16(harness: SqliteHarness) -> None:
    """No node could read the record of another one, or its own: it would register without end."""
    harness.execute('PRAGMA encoding = "UTF-16"', 'CREATE TABLE mine (x)')
    backend = harness.connect()
    with pytest.raises(ConfigError, match=r'jobs\.db was made with the encoding UTF-16'):
        backend.open(SETTINGS, create=True)
