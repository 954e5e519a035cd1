"""A database file that has several names, or is on several hosts: with two logs, two workers could own one task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import BackendOptions
from jobsync.backends.sql.sqlite import file_names
from jobsync.backends.sql.sqlite.plugin import connect
from jobsync.errors import ConfigError
from jobsync.testing.conformance.namespace import SETTINGS, Namespace


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


def test_a_hard_link_is_refused(harness: SqliteHarness, tmp_path: Path) -> None:
    """A worker that opens the file by a second name does not start, and leaves no log there; the first one goes on."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'jobs.db').hardlink_to(harness.path)
    with (
        closing(connect(f'sqlite:///{other}/jobs.db', BackendOptions())) as backend,
        pytest.raises(ConfigError, match='2 names'),
    ):
        backend.open(SETTINGS, create=True)
    assert {path.name for path in other.iterdir()} <= {'jobs.db', 'jobs.db-lock'}
    assert namespace.beat(ref).heartbeat == 1


@pytest.mark.parametrize('name', ['jobs.db', 'my jobs\\.db'])
def test_a_file_that_is_mounted_by_itself_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that mount the file and not its folder have a log each; a mounted folder is right."""
    path = tmp_path / name
    mounts = tmp_path / 'mountinfo'
    monkeypatch.setattr(file_names, 'MOUNTS', mounts)
    line = '700 600 0:31 / {} rw,relatime shared:1 - tmpfs tmpfs rw,size=65536k\n'
    with closing(connect(f'sqlite:///{path}', BackendOptions())) as backend:
        mounts.write_text(line.format('/') + line.format(str(path.parent)))
        backend.open(SETTINGS, create=True)
    mounts.write_text(line.format('/') + line.format(str(path).replace('\\', '\\134').replace(' ', '\\040')))
    (tmp_path / 'link').symlink_to(tmp_path)  # as /var/run is to /run; the kernel lists where a link leads
    for way in (path, tmp_path / 'link' / name):
        with closing(connect(f'sqlite:///{way}', BackendOptions())) as backend, pytest.raises(ConfigError, match='its folder'):
            backend.open(SETTINGS, create=True)


def test_a_network_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that mount one share have a log each: no worker starts there, and nothing is made; on a disk of the host one does."""
    folder, mounts, device = tmp_path / 'share', tmp_path / 'mountinfo', tmp_path.stat().st_dev
    folder.mkdir()
    monkeypatch.setattr(file_names, 'MOUNTS', mounts)
    line = f'700 600 {os.major(device)}:{os.minor(device)} /export /mnt rw,relatime shared:1 - {{}} filer:/export rw,vers=4.1\n'
    with closing(connect(f'sqlite:///{folder}/jobs.db', BackendOptions())) as backend:
        for name in ('/mnt', '/mnt/a\r'):  # the kernel lists the second name as it is
            mounts.write_bytes(line.replace('/mnt', name).format('nfs4').encode())
            with pytest.raises(ConfigError, match=r'on a network share \(nfs4\)'):
                backend.open(SETTINGS, create=True)
        assert list(folder.iterdir()) == []
        mounts.write_text(line.format('ext4'))
        backend.open(SETTINGS, create=True)


@pytest.mark.parametrize('kind', ['cifs', 'ceph', 'fuse.ceph-fuse', 'lustre', 'beegfs', 'gpfs', 'fuse.juicefs', 'fuse.glusterfs'])
def test_file_systems_of_several_hosts_are_network_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Each of them has workers of several hosts at one file, whether the kernel mounts it or a program does."""
    device, mounts = tmp_path.stat().st_dev, tmp_path / 'mountinfo'
    mounts.write_text(f'700 600 {os.major(device)}:{os.minor(device)} / /mnt rw,relatime - {kind} cluster rw\n')
    monkeypatch.setattr(file_names, 'MOUNTS', mounts)
    with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend, pytest.raises(ConfigError, match=kind):
        backend.open(SETTINGS, create=True)


@pytest.mark.parametrize('kind', ['ext4', 'overlay', '9p', 'virtiofs', 'fuse.lxcfs'])
def test_file_systems_of_one_host_are_no_network_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A container or a virtual machine may have its files so, and a worker starts there. So it does where no mount is listed."""
    device, mounts = tmp_path.stat().st_dev, tmp_path / 'mountinfo'
    monkeypatch.setattr(file_names, 'MOUNTS', mounts)
    for line in (f'700 600 {os.major(device)}:{os.minor(device)} / /mnt rw,relatime - {kind} host rw\n', ''):
        mounts.write_text(line)
        with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)


def test_without_a_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux have none."""
    monkeypatch.setattr(file_names, 'MOUNTS', tmp_path / 'nothing')
    with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
        backend.open(SETTINGS, create=True)


def test_a_symbolic_link_and_its_file_are_one(harness: SqliteHarness, tmp_path: Path) -> None:
    """SQLite follows the link, so both have one log, one ``-lock``, and the same signs of another file."""
    namespace = Namespace(harness.connect())
    namespace.join('a')
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'link.db').symlink_to(harness.path)
    with closing(connect(f'sqlite:///{other}/link.db', BackendOptions())) as backend:
        backend.open(SETTINGS, create=False)
        namespace.join('b')
        assert [node.name for node in backend.snapshot().nodes] == ['a', 'b']
        assert [path.name for path in other.iterdir()] == ['link.db']
        backup = harness.backup()
        namespace.join('c')
        namespace.backend.close()
        # The old log, which has c, is still there: with it, the backup would be destroyed.
        harness.replace(backup)
        assert [node.name for node in backend.snapshot().nodes] == ['a', 'b']
    assert harness.query('PRAGMA integrity_check') == [('ok',)]
