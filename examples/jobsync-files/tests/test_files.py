"""The files as a backend: the conformance suite of jobsync, with what can happen to a folder."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions
from jobsync.errors import ConfigError
from jobsync.testing.conformance import Ability, BackendSuite, Harness
from jobsync.testing.conformance.scene import Scene


def connect_to(folder: Path, namespace: str, **options: float) -> Backend:
    """A handle as users get it: the URL's scheme finds the plugin."""
    return plugins.connect(f'files://{folder}', BackendOptions(namespace, **options))


class FilesHarness(Harness):
    """A folder of the test's own."""

    abilities = frozenset({Ability.RESTART, Ability.PROCESSES, Ability.FAILOVER, Ability.WIPE})
    stopped_sec = 0.5

    def __init__(self, folder: Path) -> None:
        self.folder = folder / 'store'

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        return connect_to(self.folder, namespace, **options)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.folder)

    def restart(self) -> None:
        """Leave what a power failure does: half a file beside each, half a line at the end of the trails."""
        for path in list(self.folder.glob('*/*.json*')):
            path.with_name(f'{path.name}.new').write_bytes(path.read_bytes()[:20])
            if path.suffix == '.jsonl':
                with path.open('ab') as file:
                    file.write(b'{"item":"cut o')

    def fail_over(self) -> None:
        """A backup is put in the folder's place."""
        backup = self.folder.with_name('backup')
        shutil.copytree(self.folder, backup)
        shutil.rmtree(self.folder)
        backup.rename(self.folder)

    def wipe(self) -> None:
        """The folder is deleted."""
        shutil.rmtree(self.folder)


class TestFiles(BackendSuite):
    """Plain files keep the whole contract."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        """A folder for each test."""
        harness = FilesHarness(tmp_path)
        yield harness
        harness.close()


def test_it_is_found_by_its_entry_point() -> None:
    """Whoever has the distribution has the scheme."""
    (found,) = [plugin for plugin in plugins.installed() if plugin.name == 'files']
    assert (found.schemes, found.distribution, found.error) == (('files',), 'jobsync-files', None)


@pytest.mark.parametrize('url', ['files://', 'files:///a?b=c', 'files:///a#b'])
def test_bad_urls_are_refused(url: str) -> None:
    """A URL must name a folder, and nothing else."""
    with pytest.raises(ConfigError, match='the path of a folder'):
        plugins.connect(url, BackendOptions())


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """A namespace has its few files, however much is written, and the next ``open`` removes what a crash has left."""
    harness = FilesHarness(tmp_path)
    scene = Scene(harness.connect())
    leader = scene.leader()
    for number in range(5):
        scene.commit(leader, moved=1)
        scene.lock(f'task {number}')
    harness.restart()
    Scene(harness.connect())
    kinds = sorted(path.name.split('.')[0] for path in (tmp_path / 'store' / 'sync_').iterdir())
    assert kinds == ['gate', 'head', 'identity', 'locks', 'table', 'trails']
