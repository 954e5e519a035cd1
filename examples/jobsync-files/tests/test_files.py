"""The files as a backend: the conformance suite of jobsync, with what can happen to a folder."""

from __future__ import annotations

import datetime as dt
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions, Settings
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch
from jobsync.testing import Ability, BackendSuite, Harness, Namespace


def connect_to(folder: Path, namespace: str, **options: float) -> Backend:
    """A handle as users get it: the URL's scheme finds the plugin."""
    return plugins.connect(f'files://{folder}', BackendOptions(namespace, **options))


def spoil(path: Path, keys: list[str], way: str) -> None:
    """Write nonsense into a record, or into one field of it."""
    content = json.loads(path.read_bytes())
    *above, key = [*keys, way] if way != 'record' else keys
    record = content
    for name in above:
        record = record[name]
    record[key] = float('inf') if way == 'timeout_sec' else 'nonsense'
    path.write_text(json.dumps(content))


class FilesHarness(Harness):
    """A folder of the test's own."""

    abilities = frozenset({Ability.RESTART, Ability.PROCESSES, Ability.FAILOVER, Ability.WIPE, Ability.SPOIL, Ability.REFUSAL})
    stopped_sec = 0.5  # a lock of the operating system stays with a process that is stopped
    node_spoils = ('record', 'weight', 'heartbeat', 'timeout_sec', 'replaces')
    lock_spoils = ('record', 'patterns', 'expires_at')

    def __init__(self, folder: Path) -> None:
        self.folder = folder / 'store'

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        return connect_to(self.folder, namespace, **options)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.folder)

    def restart(self) -> None:
        """Leave what a power failure does: half a file beside each, half a line at the end of the history."""
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

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """Edit the state, as a person with an editor would."""
        spoil(self.folder / namespace / 'state.json', ['state', 'nodes', name], way)

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """Edit the file of locks."""
        (path,) = (self.folder / namespace).glob('locks.*.json')
        spoil(path, ['by_task', task_id], way)

    def refuse_writes(self) -> None:
        """Put a folder where each new state is to be written."""
        for path in self.folder.glob('*/state.json'):
            path.with_name('state.json.new').mkdir()

    def accept_writes(self) -> None:
        """Take it away."""
        for path in self.folder.glob('*/state.json.new'):
            path.rmdir()

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


@pytest.mark.parametrize('content', ['{"format": 2}', '{}'])
def test_another_format_is_refused(tmp_path: Path, content: str) -> None:
    """Files of an older version are left alone, and say which format they have."""
    harness = FilesHarness(tmp_path)
    Namespace(harness.connect())
    (tmp_path / 'store' / 'sync_' / 'state.json').write_text(content)
    with pytest.raises(SchemaMismatch, match='this package reads 3'):
        harness.connect().open(Settings(16, 'xxh3'), create=True)


@pytest.mark.parametrize('content', ['', '{"format": 3}', '{"format": 3, "state": 3}'])
def test_a_state_that_cannot_be_read_is_an_outage(tmp_path: Path, content: str) -> None:
    """What is wrong with a whole file can be mended, and the workers go on then."""
    namespace = Namespace(FilesHarness(tmp_path).connect())
    path = tmp_path / 'store' / 'sync_' / 'state.json'
    before = path.read_bytes()
    path.write_text(content)
    with pytest.raises(BackendUnavailable):
        namespace.snapshot()
    path.write_bytes(before)
    namespace.snapshot()


def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """One line of the history that a person has typed hides no other."""
    namespace = Namespace(FilesHarness(tmp_path).connect())
    namespace.backend.append_audits('a', ['x'], dt.date(2026, 3, 2))
    (path,) = (tmp_path / 'store' / 'sync_').glob('history.*')
    line = path.read_bytes()
    path.write_bytes(line.replace(b'2026-03-02', b'infinity00'))
    namespace.backend.append_audits('a', ['y'], dt.date(2026, 3, 2))
    assert [audit.item for audit in namespace.audits()] == ['y']


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """A namespace has its few files, however much is written, and the next ``open`` removes what a crash has left."""
    harness = FilesHarness(tmp_path)
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    for number in range(5):
        namespace.commit(leader, moved=1)
        namespace.lock(f'task {number}')
    harness.restart()
    Namespace(harness.connect())
    kinds = sorted(path.name.split('.')[0] for path in (tmp_path / 'store' / 'sync_').iterdir())
    assert kinds == ['assignment', 'gate', 'history', 'identity', 'locks', 'state']
