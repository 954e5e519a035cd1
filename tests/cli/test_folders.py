"""``jobsync doctor`` on the folders of its host: that of the database, and those of the locks by which deaths are known."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from jobsync import BackendUnavailable, Cluster, CoordinationConfig, Job
from jobsync._host import host_name
from jobsync._runtime import host_lock
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.backends.sql.sqlite.plugin import connect
from jobsync.cli import folders
from jobsync.cli.commands import cli
from jobsync.testing import Namespace

MEGABYTE = 1_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a leader on another host."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(connect(url, BackendOptions())) as backend:
        Namespace(backend).leader('far')
    return url


def found(url: str, subject: str) -> list[tuple[str, str]]:
    """What doctor says of a subject."""
    result = CliRunner().invoke(cli, ['doctor', '--json', '--backend', url])
    assert result.exit_code in (0, 3), result.exception
    return [(each['verdict'], each['words']) for each in json.loads(result.stdout) if each['subject'] == subject]


@pytest.mark.parametrize(('free', 'verdict', 'words'), [
    (80_617_600_000, 'ok', '80.6 GB free'),
    (100 * MEGABYTE, 'warn', 'a full disk ends all work'),
    (1000, 'bad', 'the store refuses every write'),
])  # fmt: skip
def test_the_folder_of_the_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str, words: str
) -> None:
    """Room enough is said; little is a warning; none is bad."""
    monkeypatch.setattr(folders, '_free', lambda _: free)
    ((how, said),) = found(url, 'disk')
    assert how == verdict
    assert words in said
    assert str(tmp_path) in said


def test_the_folder_of_a_database_that_does_not_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That its disk is full may be why."""
    monkeypatch.setattr(folders, '_free', lambda _: 0)
    monkeypatch.setattr(Cluster, 'nodes', Mock(side_effect=BackendUnavailable('disk I/O error')))
    assert found(url, 'reach') == [('bad', 'BackendUnavailable: disk I/O error')]
    assert [how for how, _ in found(url, 'disk')] == ['bad']


def test_the_folder_of_the_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the nodes on this host, by their settings; where there is no room, or no folder, a kill is not known at once."""
    url, known = f'sqlite:///{tmp_path}/jobs.db', tmp_path / 'locks'
    known.mkdir()
    config = CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=20, known_death_dir=str(known))
    with Job('here', coordination_config=config):
        ((how, said),) = found(url, 'deaths')
        assert how == 'ok'
        assert str(known) in said
        monkeypatch.setattr(folders, '_free', lambda _: 1000.0)
        ((how, said),) = found(url, 'deaths')
        assert how == 'warn'
        assert 'only after its timeout' in said
        monkeypatch.undo()
        shutil.rmtree(known)
        ((how, said),) = found(url, 'deaths')
        assert how == 'warn'
        assert 'No such file' in said


def test_a_folder_whose_locks_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system on which no worker knows of a death, as that of a container's image, doctor does not say that it does."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    config = CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=20, known_death_dir=str(tmp_path))
    with Job('here', coordination_config=config):
        monkeypatch.setattr(host_lock, '_LOCAL', {})
        ((how, said),) = found(url, 'deaths')
    assert how == 'warn'
    assert f'the file system of {tmp_path} may not be this host' in said


def test_a_folder_that_is_no_text(url: str) -> None:
    """A record that was edited, or that another version has written, stops no check."""
    settings = {'known_death': True, 'known_death_dir': ['/run/a', '/run/b']}
    with closing(connect(url, BackendOptions())) as backend:
        Namespace(backend).join('here', host=host_name(), settings=json.dumps(settings))
    assert len(found(url, 'deaths')) == 1
    assert len(found(url, 'tasks')) == 1


def test_nothing_is_said_of_another_hosts_folders(url: str) -> None:
    """A node elsewhere has its locks elsewhere, and one that has left, or whose death is not to be known, has none."""
    with closing(connect(url, BackendOptions())) as backend:
        backend.deregister(Namespace(backend).join('here', host=host_name(), settings='{"known_death": true}'))
        Namespace(backend).join('there', host='another', settings='{"known_death": true}')
        Namespace(backend).join('plain', host=host_name(), settings='{"known_death": false}')
    assert found(url, 'deaths') == []


def test_a_file_system_that_takes_no_further_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room, and none of it can be used. One that has no such limit says 0 of 0."""
    full = {'f_bavail': 10**6, 'f_frsize': 4096, 'f_files': 5, 'f_favail': 0}
    for counts, verdict in (({}, 'bad'), ({'f_favail': 1}, 'ok'), ({'f_files': 0}, 'ok')):
        monkeypatch.setattr(os, 'statvfs', lambda _, counts=counts: SimpleNamespace(**full | counts, f_flag=0))
        ((how, _),) = found(url, 'disk')
        assert how == verdict


def test_a_store_without_files_has_no_folder() -> None:
    """Nothing is said of a disk that is a server's."""
    assert MemoryBackend(MemoryStore()).info.folder is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes; the test is skipped where this user may not mount one."""
    folder = tmp_path / 'small'
    folder.mkdir()
    mount = (
        subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=4m,nr_inodes=100', 'tmpfs', str(folder)],
            capture_output=True,
            check=False,
        )
        if os.geteuid() == 0 and shutil.which('mount')
        else None
    )
    if mount is None or mount.returncode:
        pytest.skip('this user may not mount a file system')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """The database is there and is read, and doctor says that there is no room, though it cannot write."""
    url = f'sqlite:///{small_disk}/jobs.db'
    backend = connect(url, BackendOptions())
    Namespace(backend).leader(socket.gethostname())
    with (small_disk / 'filler').open('wb', buffering=0) as filler:
        for size in (100_000, 1000, 1):
            try:
                while filler.write(b'x' * size):
                    pass
            except OSError:
                continue
    ((how, said),) = found(url, 'disk')
    assert how == 'bad'
    assert '0 bytes free' in said
    backend.close()
