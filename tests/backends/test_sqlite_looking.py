"""A look at a file that is not jobsync's changes nothing, and leaves nothing beside it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobsync import Cluster, CoordinationConfig, Job, JobsyncError
from jobsync.backends.sql.sqlite.file import DatabaseFile


def in_rollback_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE theirs (x)')


def in_wal_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('PRAGMA journal_mode = WAL')
        connection.execute('CREATE TABLE theirs (x)')


def text(path: Path) -> None:
    path.write_text('no database, and long enough that its first bytes are read as a header' * 20)


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize('make', [in_rollback_mode, in_wal_mode, text, empty])
def test_another_programs_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """It has the same bytes as before, and the folder the same files."""
    path = tmp_path / 'theirs.db'
    make(path)
    before = path.read_bytes()
    for look in (Cluster.status, Cluster.claims, Cluster.locks):
        with Cluster(f'sqlite:///{path}') as cluster, pytest.raises(JobsyncError):
            look(cluster)
    assert [each.name for each in tmp_path.iterdir()] == ['theirs.db']
    assert path.read_bytes() == before


def test_a_file_of_ours_keeps_its_lock(tmp_path: Path) -> None:
    """The -lock is there for the next process, also beside a backup, whose first reader makes it."""
    path, backup = tmp_path / 'ours.db', tmp_path / 'backup.db'
    config = CoordinationConfig(backend=f'sqlite:///{path}', minimum_nodes=1, total_tokens=20)
    with Job('a', coordination_config=config):
        pass
    path.rename(backup)
    with Cluster(f'sqlite:///{backup}') as cluster:
        assert cluster.status()['total_tokens'] == 20
    assert sorted(each.name for each in tmp_path.iterdir()) == ['backup.db', 'backup.db-lock', 'ours.db-lock']


def test_a_look_at_an_absent_namespace_leaves_the_lock_of_another(tmp_path: Path) -> None:
    """Only what the look itself has made goes again: the workers of the other namespace need theirs."""
    path = tmp_path / 'ours.db'
    config = CoordinationConfig(backend=f'sqlite:///{path}', minimum_nodes=1, total_tokens=20)
    with Job('a', coordination_config=config):
        before = path.with_name('ours.db-lock').stat().st_ino
        with Cluster(f'sqlite:///{path}', 'absent_') as cluster, pytest.raises(JobsyncError):
            cluster.status()
        assert path.with_name('ours.db-lock').stat().st_ino == before


def test_a_lock_that_was_removed_is_held_by_none(tmp_path: Path) -> None:
    """A process that has waited for a -lock which is another file by now, or none, holds the one at the path in the end."""
    file, waits = DatabaseFile(tmp_path / 'x.db'), threading.Event()
    lock, held = tmp_path / 'x.db-lock', list[bool]()

    def wait() -> None:
        waits.set()
        with file.held(time.monotonic() + 120):
            other = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except BlockingIOError:
                held.append(True)
            finally:
                os.close(other)

    assert not lock.exists()
    with file.held(time.monotonic() + 120) as mine:
        thread = threading.Thread(target=wait)
        thread.start()
        waits.wait(120)
        time.sleep(0.1)
        mine.is_wanted = False
    thread.join()
    assert held == [True]
    assert lock.exists()
