"""The database file: who makes it, what may be wrong with it, and what happens when it changes under a running backend."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from tests.backends.handles import beat_beside_a_fork
from tests.job.waiting import wait_until
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.timings import DEADLINE_SEC

from jobsync import Cluster
from jobsync._core.assignment import Plan, TokenGroup
from jobsync._core.records import INITIAL, Member, Settings
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.sqlite.connections import SqliteConnections, pool
from jobsync.backends.sql.sqlite.file import DatabaseFile
from jobsync.backends.sql.sqlite.plugin import connect
from jobsync.backends.sql.sqlite.store import SqliteStore
from jobsync.backends.sql.sqlite.users import UsersConnection
from jobsync.backends.sql.store import Mode
from jobsync.cli.blockers import examine_blockers
from jobsync.cli.doctor import examine
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

PAGE = (Path(__file__).parents[2] / 'docs' / 'backends.md').read_text(encoding='utf-8')
START = """
import sys
from jobsync.backend import BackendOptions
from jobsync.backends.sql.sqlite.plugin import connect
from jobsync._core.records import NodeRef, Registration, Settings
"""


class OtherProcess:
    """A process that has the file open by Python's ``sqlite3``, and has run these statements."""

    CODE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.stdin:
    connection.execute(statement).fetchall()
    print(flush=True)
"""

    def __init__(self, path: Path, *statements: str) -> None:
        command = [sys.executable, '-c', self.CODE, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for statement in statements:
            self.run(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=600)

    def run(self, statement: str) -> None:
        """Run one more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{statement}\n')
        self._process.stdin.flush()
        assert self._process.stdout.readline() == '\n'


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


class TestUrl:
    """Which file a URL names."""

    @pytest.mark.parametrize(
        ('url', 'hint'),
        [
            ('sqlite://', 'memory://'),
            ('sqlite:///', 'memory://'),
            ('sqlite:///:memory:', 'memory://'),
            ('sqlite:///jobs.db?timeout=5', 'parameters'),
            ('sqlite:///jobs.db#x', 'parameters'),
            ('sqlite:////data/c#/jobs.db', r'no \? or # in the path'),
            ('sqlite://host/jobs.db', 'no host'),
            ('sqlite:jobs.db', 'sqlite:///relative.db'),
        ],
    )
    def test_bad_urls_are_refused(self, url: str, hint: str) -> None:
        """Each with an error that says what to write, and shows nothing of it."""
        with pytest.raises(ConfigError, match=hint):
            connect(url, BackendOptions())

    def test_relative_paths_are_taken_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A change of the working directory after ``connect`` does not matter."""
        monkeypatch.chdir(tmp_path)
        with closing(connect('sqlite:///jobs.db', BackendOptions())) as backend:
            monkeypatch.chdir('/')
            backend.open(SETTINGS, create=True)
        assert (tmp_path / 'jobs.db').is_file()

    def test_a_working_directory_that_was_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path means no file then, as the error says; an absolute one does not need it."""
        gone = tmp_path / 'gone'
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        with pytest.raises(ConfigError, match='working directory of this process has been removed'):
            connect('sqlite:///jobs.db', BackendOptions())
        with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)

    @pytest.mark.parametrize('name', ['my jobs %41 &ü.db', os.fsdecode(b'f\xfcr Latin-1.db')])
    def test_any_file_name_works(self, tmp_path: Path, name: str) -> None:
        """Characters that mean something in a URI are part of the name, and so are bytes that are no text."""
        path = tmp_path / name
        with closing(connect(f'sqlite:///{path}', BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)
        assert path.is_file()

    @pytest.mark.parametrize('namespace', ['', '1a', 'a-b', 'a b', 'a"', "a'", 'é', 'a.b', 'x' * 41, 'SQLite_a_'])
    def test_a_namespace_must_begin_a_table_name(self, namespace: str) -> None:
        """Anything else is refused before a file is touched."""
        with pytest.raises(ConfigError, match='appname'):
            connect('sqlite:///jobs.db', BackendOptions(namespace))

    def test_a_sqlite_without_update_from_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One older than 3.33 would fail at the first lock that is changed."""
        monkeypatch.setattr(sqlite3, 'sqlite_version_info', (3, 32, 3))
        with pytest.raises(ConfigError, match=r'jobsync needs 3\.33'):
            connect('sqlite:///jobs.db', BackendOptions())

    def test_no_parts_of_other_databases_are_imported(self, tmp_path: Path) -> None:
        """A process that makes the tables and works there has none of SQLAlchemy's for PostgreSQL, which take time and memory."""
        code = (
            'import sys; from jobsync import CoordinationConfig, Job\n'
            'with Job("a", coordination_config=CoordinationConfig(backend=sys.argv[1], minimum_nodes=1)): pass\n'
            'sys.exit("sqlalchemy.dialects.postgresql" in sys.modules)'
        )
        subprocess.run([sys.executable, '-c', code, f'sqlite:///{tmp_path}/jobs.db'], check=True, timeout=240)

    def test_the_plugin_imports_no_driver(self) -> None:
        """Naming the backend costs nothing until it is used."""
        code = 'import sys, jobsync.backends.sql.sqlite.plugin as p; p.jobsync_backend(); sys.exit("sqlalchemy" in sys.modules)'
        subprocess.run([sys.executable, '-c', code], check=True, timeout=250)


class TestOpening:
    """Making the file, and files that cannot be used."""

    def test_what_is_made_is_for_this_user_alone(self, tmp_path: Path) -> None:
        """The database and all that is beside it, whatever the process gives to what it makes as a rule."""
        before = os.umask(0)
        try:
            with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
                Namespace(backend).join('a')
                modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        finally:
            os.umask(before)
        assert modes == dict.fromkeys(('jobs.db', 'jobs.db-lock', 'jobs.db-shm', 'jobs.db-wal'), 0o600)

    def test_a_lock_file_is_for_those_who_have_the_database(self, tmp_path: Path) -> None:
        """A -lock that a command of root's makes, beside a database that was brought without one, stops no worker."""
        path, user = tmp_path / 'jobs.db', 12345 if os.geteuid() == 0 else os.geteuid()
        with closing(connect(f'sqlite:///{path}', BackendOptions())) as backend:
            Namespace(backend).join('a')
        (tmp_path / 'jobs.db-lock').unlink()
        path.chmod(0o660)
        os.chown(path, user, -1)
        with Cluster(f'sqlite:///{path}') as cluster:
            assert [node['name'] for node in cluster.nodes()] == ['a']
        lock = (tmp_path / 'jobs.db-lock').stat()
        assert (lock.st_uid, lock.st_mode & 0o777) == (user, 0o660)

    def test_a_file_system_that_is_mounted_read_only(self, tmp_path: Path) -> None:
        """The error names it, and no user's rights: to give the file to another user would not help."""
        mount = ['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', str(tmp_path)]
        if os.geteuid() or shutil.which('mount') is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip('this user may not mount a file system')
        try:
            with (
                closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend,
                pytest.raises(ConfigError, match='is mounted read-only'),
            ):
                backend.open(SETTINGS, create=True)
        finally:
            subprocess.run(['umount', '-l', str(tmp_path)], check=True)

    def test_a_lock_on_the_folder(self, tmp_path: Path) -> None:
        """Any user who may read the folder can lock it, for good: that stops nobody."""
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
                Namespace(backend).join('a')
        finally:
            os.close(descriptor)

    def test_a_disk_that_is_full(self, harness: SqliteHarness) -> None:
        """Writes are refused as by a store that is away, readings are answered, and all goes on when there is room again."""
        namespace = Namespace(harness.connect())
        ref = namespace.leader('a')
        size = harness.path.with_name('jobs.db-wal').stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            for write in (lambda: namespace.beat(ref), lambda: namespace.lock('x'), lambda: namespace.commit(ref)):
                with pytest.raises(BackendUnavailable, match='ulimit -f'):
                    write()
            assert namespace.node('a').heartbeat == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert namespace.beat(ref).heartbeat == 1

    @pytest.mark.parametrize('lack', [errno.ENOSPC, errno.EMFILE])
    def test_no_room_for_the_files_of_a_first_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: int) -> None:
        """A disk without room for another file, or a process that may open no more: an outage, which may end by itself."""

        def refuse(*_: object) -> int:
            raise OSError(lack, os.strerror(lack))

        with closing(connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
            with monkeypatch.context() as full:
                full.setattr(os, 'open', refuse)
                with pytest.raises(BackendUnavailable, match=os.strerror(lack)):
                    backend.open(SETTINGS, create=True)
            Namespace(backend).join('a')

    @pytest.mark.parametrize('free', range(5))
    def test_too_few_descriptors_for_sqlite(self, tmp_path: Path, free: int) -> None:
        """SQLite itself opens several files, and says only that it cannot: an outage too, not an error of the configuration."""
        url, taken = f'sqlite:///{tmp_path}/jobs.db', list[int]()
        with closing(connect(url, BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with closing(connect(url, BackendOptions())) as backend:
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path('/proc/self/fd').iterdir()) + 20, hard)
            )
            try:
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.open(os.devnull, os.O_RDONLY))
                for _ in range(free):
                    os.close(taken.pop())
                with pytest.raises(BackendUnavailable):
                    backend.open(SETTINGS, create=True)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in taken:
                    os.close(descriptor)
            Namespace(backend).join('a')

    @pytest.mark.full  # that processes open an absent store at once is part of the contract
    def test_ten_processes_make_one_file(self, tmp_path: Path) -> None:
        """Ten first starts at once agree on one timeline, and all ten nodes are registered."""
        code = (
            START
            + """
number, url = sys.argv[1:]
backend = connect(url, BackendOptions())
sys.stdin.readline()
opened = backend.open(Settings(100, 'xxh3'), create=True)
backend.register(Registration(NodeRef('w' + number, number), 15.0), opened.timeline, 0)
print(opened.timeline)
backend.close()
"""
        )
        url = f'sqlite:///{tmp_path / "jobs.db"}'
        workers = [
            subprocess.Popen(
                [sys.executable, '-c', code, str(number), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for number in range(10)
        ]
        answers = set()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write('go\n')
            worker.stdin.flush()
        for worker in workers:
            answers.add(worker.communicate(timeout=250)[0])
            assert worker.returncode == 0
        assert len(answers) == 1
        with closing(connect(url, BackendOptions())) as backend:
            backend.open(Settings(100, 'xxh3'), create=False)
            nodes = backend.snapshot().nodes
        assert len(nodes) == 10
        assert len({node.created_on for node in nodes}) == 10

    def test_the_file_is_durable(self, harness: SqliteHarness) -> None:
        """WAL, and every commit reaches the disk before it is acknowledged."""
        backend = harness.connect()
        backend.open(SETTINGS, create=True)
        assert harness.query('PRAGMA journal_mode') == [('wal',)]
        store = backend.store  # type: ignore[attr-defined]
        with store._connections.engine.connect() as connection:
            assert connection.exec_driver_sql('PRAGMA synchronous').scalar_one() == 2

    def test_skip_db_init_makes_nothing(self, harness: SqliteHarness) -> None:
        """Without leave to create, neither the file nor tables in another's file come to be."""
        with pytest.raises(SchemaMismatch, match=r'jobs\.db'):
            harness.connect().open(SETTINGS, create=False)
        assert not harness.path.exists()
        harness.execute('CREATE TABLE mine (x)')
        with pytest.raises(SchemaMismatch, match='sync_'):
            harness.connect().open(SETTINGS, create=False)
        assert harness.query('SELECT name FROM sqlite_master') == [('mine',)]

    def test_a_file_of_another_program_is_left_as_it_is(self, harness: SqliteHarness) -> None:
        """A reader of a namespace that is not there does not change the mode of the file, which SQLite keeps in it."""
        harness.execute('CREATE TABLE mine (x)')
        backend = harness.connect()
        with pytest.raises(SchemaMismatch, match='sync_'):
            backend.snapshot()
        with pytest.raises(SchemaMismatch, match='sync_'):
            backend.open(None, create=False)
        assert harness.query('PRAGMA journal_mode') == [('delete',)]
        backend.open(SETTINGS, create=True)
        assert harness.query('PRAGMA journal_mode') == [('wal',)]
        assert backend.snapshot().nodes == ()

    def test_a_file_of_the_users_is_shared(self, harness: SqliteHarness) -> None:
        """Tables of other programs in the same file stay as they are."""
        harness.execute('CREATE TABLE mine (x)', 'INSERT INTO mine VALUES (7)')
        Namespace(harness.connect()).join('a')
        assert harness.query('SELECT x FROM mine') == [(7,)]

    @pytest.mark.parametrize(
        'content', [b'this is no database, whatever its name says' * 100, b'SQLite format 4\0' + b'x' * 5000]
    )
    def test_another_kind_of_file(self, harness: SqliteHarness, content: bytes) -> None:
        """A file that is no database is named, and left alone."""
        harness.path.write_bytes(content)
        with pytest.raises(ConfigError, match=r'jobs\.db is not a SQLite database'):
            harness.connect().open(SETTINGS, create=True)
        assert harness.path.read_bytes() == content

    def test_an_empty_file_is_a_new_database(self, harness: SqliteHarness) -> None:
        """``touch`` first is fine."""
        harness.path.touch()
        harness.connect().open(SETTINGS, create=True)

    def test_a_damaged_file(self, harness: SqliteHarness) -> None:
        """Damage is told as such, with the way out."""
        with closing(harness.connect()) as backend:
            backend.open(Settings(100_000, 'xxh3'), create=True)
        content = bytearray(harness.path.read_bytes())
        content[100:4096] = b'\xff' * 3996
        harness.path.write_bytes(content)
        with pytest.raises(SchemaMismatch, match=r'jobs\.db is damaged .* backup'):
            harness.connect().open(SETTINGS, create=True)

    def test_a_log_that_was_cut(self, harness: SqliteHarness) -> None:
        """After ``> jobs.db-wal``, to free the disk, the error names the file and the way out, not a failure of the disk."""
        namespace = Namespace(harness.connect())
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'a'))
        os.truncate(harness.path.with_name('jobs.db-wal'), 0)
        with closing(harness.connect()) as other, pytest.raises(BackendUnavailable, match=r'-wal, has been cut short .* backup'):
            other.snapshot()

    def test_a_log_that_was_cut_under_writers(self, harness: SqliteHarness) -> None:
        """After ``> jobs.db-wal``, with zeros up to where another process writes on, no error advises to remove the database."""
        namespace, other = Namespace(harness.connect()), harness.connect()
        ref = namespace.leader()
        other.snapshot()
        namespace.commit(ref, TokenGroup(range(9), 'a'))
        log = harness.path.with_name('jobs.db-wal')
        size = log.stat().st_size
        os.truncate(log, 0)
        os.truncate(log, size)
        with pytest.raises(BackendUnavailable, match=r'-wal, has been overwritten .* backup'):
            other.snapshot()

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """The folder is named; it is not made, for the path may be a slip."""
        with closing(connect(f'sqlite:///{tmp_path}/no/jobs.db', BackendOptions())) as backend:
            for create in (True, False):
                with pytest.raises(ConfigError, match='no folder'):
                    backend.open(SETTINGS, create=create)
        assert not (tmp_path / 'no').exists()

    def test_a_path_that_is_too_long(self, tmp_path: Path) -> None:
        """The length is named, and nothing is made. A path of the longest kind is as good as any."""
        folder = tmp_path.resolve()
        while len(os.fsencode(folder)) < 300:
            folder /= 'd' * 99
        folder.mkdir(parents=True)
        longest = folder / ('f' * (503 - len(os.fsencode(folder))))
        with closing(connect(f'sqlite:///{longest}', BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)
        with (
            closing(connect(f'sqlite:///{longest}f', BackendOptions())) as backend,
            pytest.raises(ConfigError, match='the path has 505 bytes, and SQLite takes 504'),
        ):
            backend.open(SETTINGS, create=True)
        assert not Path(f'{longest}f').exists()

    def test_a_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        """The path of a folder is told from that of a database."""
        with (
            closing(connect(f'sqlite:///{tmp_path}', BackendOptions())) as backend,
            pytest.raises(ConfigError, match='is a folder'),
        ):
            backend.open(SETTINGS, create=True)

    def test_a_pipe_in_place_of_the_file(self, tmp_path: Path) -> None:
        """It is refused before SQLite finds that it cannot seek in it, which reads as a disk that fails for a moment."""
        os.mkfifo(tmp_path / 'pipe')
        with (
            closing(connect(f'sqlite:///{tmp_path}/pipe', BackendOptions())) as backend,
            pytest.raises(ConfigError, match='a pipe'),
        ):
            backend.open(SETTINGS, create=True)
        assert [path.name for path in tmp_path.iterdir()] == ['pipe']

    @pytest.mark.parametrize('what', ['file', 'folder'])
    def test_unwritable(self, what: str) -> None:
        """A user who may not write the file, or the folder for its log, is told so and who they are."""
        # Not beside the files of other tests: each run of pytest that begins on this machine takes these from other users.
        with tempfile.TemporaryDirectory(prefix='jobsync-') as folder, closing(SqliteHarness(Path(folder))) as harness:
            self._refuse_another_user(harness, what)

    def _refuse_another_user(self, harness: SqliteHarness, what: str) -> None:
        with closing(harness.connect()) as backend:
            backend.open(SETTINGS, create=True)
        harness.path.chmod(0o444 if what == 'file' else 0o666)
        harness.path.parent.chmod(0o777 if what == 'file' else 0o555)
        code = (
            START
            + """
import os
import jobsync.backends.sql.sqlite.store
from jobsync.errors import BackendUnavailable, ConfigError
if os.getuid() == 0:
    os.setuid(65534)
backend = connect(sys.argv[1], BackendOptions())
try:
    backend.open(Settings(24, 'xxh3'), create=True)
except ConfigError as error:
    assert 'cannot be written' in str(error) and 'jobs.db' in str(error), error
else:
    sys.exit('opened')
try:
    backend.snapshot()
except BackendUnavailable as error:
    assert 'must be allowed to write, also to read only' in str(error), error
else:
    sys.exit('read')
"""
        )
        try:
            subprocess.run([sys.executable, '-c', code, f'sqlite:///{harness.path}'], check=True, timeout=250)
        finally:
            harness.path.parent.chmod(0o700)

    def test_another_process_has_the_file_to_itself(self, harness: SqliteHarness) -> None:
        """Whoever opens the file waits for that to end; longer than its time it does not wait, and says what is in the way."""
        Namespace(harness.connect()).join('a')
        harness.close()
        with closing(sqlite3.connect(harness.path, isolation_level=None, check_same_thread=False)) as other:
            other.execute('PRAGMA locking_mode = EXCLUSIVE')
            other.execute('BEGIN IMMEDIATE')
            with pytest.raises(BackendUnavailable):
                harness.connect(op_timeout_sec=0.2).open(SETTINGS, create=True)
            opened: list[object] = []
            opening = threading.Thread(target=lambda: opened.append(harness.connect().open(SETTINGS, create=True)))
            opening.start()
            time.sleep(0.2)
            assert opened == []
            other.close()
            opening.join(200)
        assert len(opened) == 1

    def test_a_schema_from_the_future(self, harness: SqliteHarness) -> None:
        """A newer schema is refused with both versions, by ``open`` and by a backend that runs already."""
        running = harness.connect()
        running.open(SETTINGS, create=True)
        harness.execute('UPDATE sync_state SET schema_version = 7')
        for create in (True, False):
            with pytest.raises(SchemaMismatch, match=rf'version 7.*up to {SCHEMA_VERSION}'):
                harness.connect().open(SETTINGS, create=create)
        with pytest.raises(SchemaMismatch, match='version 7'):
            running.snapshot()

    @pytest.mark.parametrize('items', [['x'], [f'x{number}' for number in range(2000)]], ids=['one', 'many'])
    def test_a_completion_is_not_lost_in_a_schema_from_the_future(self, harness: SqliteHarness, items: list[str]) -> None:
        """A running worker that records a completion there is refused: a success would have recorded nothing."""
        running = harness.connect()
        running.open(SETTINGS, create=True)
        harness.execute('UPDATE sync_state SET schema_version = 7')
        with pytest.raises(SchemaMismatch, match='version 7'):
            running.append_audits('a', items, dt.date(2030, 1, 1))

    def test_tables_of_an_earlier_release(self, harness: SqliteHarness) -> None:
        """Tables of that name that are not ours are neither used nor changed."""
        harness.execute('CREATE TABLE sync_node (name TEXT)')
        for create in (True, False):
            with pytest.raises(SchemaMismatch, match='sync_node but no sync_state'):
                harness.connect().open(SETTINGS, create=create)
        assert harness.query('SELECT name FROM sqlite_master') == [('sync_node',)]


class TestChangingFiles:
    """The file at the path becomes another one, or goes."""

    def test_a_bulk_call_that_waits_to_open_the_file_holds_up_no_heartbeat(
        self, harness: SqliteHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process holds the -lock: each thread waits for it as long as its call may. Closing waits for none."""
        namespace = Namespace(harness.connect())
        ref, wait, waits = namespace.join('a'), DatabaseFile._await_lock, threading.Event()

        def and_say_so(*arguments: Any) -> None:
            waits.set()
            wait(*arguments)

        monkeypatch.setattr(DatabaseFile, '_await_lock', and_say_so)
        backend = connect(harness.url, BackendOptions('sync_', op_timeout_sec=0.5, bulk_timeout_sec=DEADLINE_SEC))
        with ThreadPoolExecutor(1) as threads, closing(backend), Path(f'{harness.path}-lock').open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bulk = threads.submit(backend.read_locks)
            assert waits.wait(DEADLINE_SEC)
            with pytest.raises(BackendUnavailable, match='-lock is held by another process'):
                backend.heartbeat(ref, INITIAL, frozenset())
            assert not bulk.done()
            backend.close()
            with pytest.raises(BackendUnavailable, match='is closed'):
                bulk.result(DEADLINE_SEC)

    def test_a_backup_moved_into_place_is_seen(self, harness: SqliteHarness) -> None:
        """All handles see the backup's content and another identity; the old log beside it does no harm."""
        namespace = Namespace(harness.connect())
        namespace.join('before')
        backup = harness.backup()
        other = harness.connect()
        other.open(SETTINGS, create=False)
        for number in range(40):
            namespace.join(f'after-{number}')
        harness.replace(backup)
        for backend in (namespace.backend, other):
            snapshot = backend.snapshot()
            assert [node.name for node in snapshot.nodes] == ['before']
            assert snapshot.store != namespace.timeline.store
        namespace.join('new')
        assert [node.name for node in other.snapshot().nodes] == ['before', 'new']
        assert harness.query('PRAGMA integrity_check') == [('ok',)]

    def test_a_backup_as_on_the_page(self, harness: SqliteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is one statement, which writes of others do not begin anew, and no log of a killed process is applied to it."""
        (statement,), (command,) = re.findall(r'`sqlite3 jobs.db "(.*?)"`', PAGE), re.findall('`(rm .*?)`', PAGE)
        monkeypatch.chdir(harness.path.parent)
        namespace = Namespace(harness.connect())
        namespace.join('before')
        harness.execute(statement)
        for number in range(40):
            namespace.join(f'after-{number}')
        harness.restart()
        subprocess.run(['sh', '-c', command], check=True)
        assert harness.query('PRAGMA integrity_check') == [('ok',)]
        assert [node.name for node in namespace.backend.snapshot().nodes] == ['before']

    def test_no_write_goes_to_a_deleted_file(self, harness: SqliteHarness) -> None:
        """Once the file is deleted nothing is acknowledged until it is made anew, and then all see the new one."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        other = harness.connect()
        other.open(SETTINGS, create=False)
        harness.wipe()
        for backend in (namespace.backend, other):
            with pytest.raises(SchemaMismatch, match='no database'):
                backend.heartbeat(ref, INITIAL, frozenset())
        assert not harness.path.exists()
        namespace = Namespace(harness.connect())
        namespace.join('b')
        for backend in (namespace.backend, other):
            assert [node.name for node in backend.snapshot().nodes] == ['b']
        assert harness.query('PRAGMA integrity_check') == [('ok',)]

    def test_the_file_goes_in_the_middle_of_a_write(self, harness: SqliteHarness) -> None:
        """A transaction whose file is deleted before it commits is refused."""
        namespace = Namespace(harness.connect())
        store = namespace.backend.store  # type: ignore[attr-defined]

        with pytest.raises(BackendUnavailable, match='replaced or deleted'):
            store.run(Mode.WRITE, 1.0, lambda tx: harness.wipe())

    def test_a_lost_log_is_noticed(self, harness: SqliteHarness) -> None:
        """With the ``-wal`` removed by hand, all handles write to one log again."""
        namespace, other = Namespace(harness.connect()), harness.connect()
        other.open(SETTINGS, create=False)
        harness.path.with_name('jobs.db-wal').unlink()

        def reached(backend: Backend) -> bool:
            try:
                backend.open(SETTINGS, create=True)
            except BackendUnavailable:
                return False
            return True

        # Within a process SQLite shares the old log between connections: both handles must have let go of it.
        wait_until(lambda: [reached(namespace.backend), reached(other)] == [True, True], 'both are reached', 200)
        namespace.timeline = other.snapshot().timeline
        namespace.join('a')
        assert [node.name for node in other.snapshot().nodes] == ['a']
        assert harness.query('PRAGMA integrity_check') == [('ok',)]

    @pytest.mark.parametrize('is_new', [False, True])
    def test_a_shared_memory_that_was_lost(self, harness: SqliteHarness, is_new: bool) -> None:
        """With the ``-shm`` removed by hand under two processes, nothing is lost that was committed to the log.

        Nor if the other one has come since, and has made it anew.
        """
        namespace = Namespace(harness.connect())
        namespace.join('a')
        if is_new:
            harness.path.with_name('jobs.db-shm').unlink()
        with OtherProcess(harness.path, 'PRAGMA user_version'):
            if not is_new:
                harness.path.with_name('jobs.db-shm').unlink()
            assert list(namespace.nodes()) == ['a']

    @pytest.mark.parametrize('statement', ['SELECT name FROM sync_node', 'CREATE TABLE notes (note)'])
    def test_a_shared_memory_that_was_lost_in_a_transaction(self, harness: SqliteHarness, statement: str) -> None:
        """The log stays until one ends that began before the last commit, or that is about to commit."""
        namespace = Namespace(harness.connect())
        namespace.join('a')
        with OtherProcess(harness.path, 'BEGIN', statement) as other:
            if statement.startswith('SELECT'):
                namespace.join('b')
            harness.path.with_name('jobs.db-shm').unlink()
            for _ in range(2):
                with pytest.raises(BackendUnavailable, match='a transaction keeps'):
                    namespace.backend.store.run(Mode.READ, 0.0, lambda tx: None)  # type: ignore[attr-defined]
            other.run('COMMIT')
            assert list(namespace.nodes()) == (['a', 'b'] if statement.startswith('SELECT') else ['a'])
        assert harness.query("SELECT count(*) FROM sqlite_master WHERE name = 'notes'") == [('CREATE' in statement,)]
        assert harness.query('PRAGMA integrity_check') == [('ok',)]

    def test_the_log_of_a_process_that_has_opened_the_new_file_stays(self, harness: SqliteHarness) -> None:
        """Whoever finds another file later removes what is left of the old one, and not what others write to by now."""
        namespace = Namespace(harness.connect())
        namespace.join('a')
        backup = harness.path.with_name('backup.db')
        with closing(sqlite3.connect(harness.path)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
        for suffix in ('-wal', '-shm'):
            harness.path.with_name(f'jobs.db{suffix}').unlink()
        backup.replace(harness.path)
        with OtherProcess(harness.path, 'PRAGMA journal_mode = WAL', 'CREATE TABLE notes (note)') as other:
            log = harness.path.with_name('jobs.db-wal')
            before = log.stat().st_ino
            assert list(namespace.nodes()) == ['a']
            assert log.stat().st_ino == before
            other.run("INSERT INTO notes VALUES ('kept')")
            assert harness.query('SELECT note FROM notes') == [('kept',)]

    def test_a_lost_log_that_an_idle_handle_has_open(self, harness: SqliteHarness) -> None:
        """It does not keep the others of its process at the log that is gone, where they would not see other processes."""
        namespace, idle = Namespace(harness.connect()), harness.connect()
        idle.open(SETTINGS, create=False)
        self.lose_log(harness)
        with contextlib.suppress(BackendUnavailable, SchemaMismatch):
            namespace.snapshot()
        namespace.join('a')
        by_another_process(harness.path, "DELETE FROM sync_node WHERE name = 'a'")
        assert namespace.snapshot().nodes == idle.snapshot().nodes == ()

    @pytest.mark.skipif(sys.platform != 'linux', reason='only Linux shows what a process has mapped')
    def test_a_lost_log_that_a_connection_of_the_users_has_open(self, harness: SqliteHarness) -> None:
        """Nothing is read or written until it is closed."""
        namespace = Namespace(harness.connect())
        with closing(sqlite3.connect(harness.path)) as mine:
            mine.execute('SELECT * FROM sync_node').fetchall()
            self.lose_log(harness)
            for _ in range(3):
                with pytest.raises(BackendUnavailable, match='has to be closed'):
                    namespace.snapshot()
        namespace.join('a')
        by_another_process(harness.path, "DELETE FROM sync_node WHERE name = 'a'")
        assert namespace.snapshot().nodes == ()

    def lose_log(self, harness: SqliteHarness) -> None:
        """Remove the log once it is all in the database, as a shell does that finds no lock of the workers."""
        harness.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        for suffix in ('-wal', '-shm'):
            harness.path.with_name(f'jobs.db{suffix}').unlink()

    def test_a_file_that_is_moved_aside_and_back(self, harness: SqliteHarness) -> None:
        """Nothing that was committed is lost, though its log is not moved with it, and a transaction is open meanwhile."""
        namespace, other = Namespace(harness.connect()), harness.connect()
        other.open(SETTINGS, create=False)
        namespace.join('a')
        away = harness.path.with_name('away.db')
        with OtherProcess(harness.path, 'BEGIN', 'SELECT name FROM sync_node') as reading:
            namespace.join('b')
            harness.path.rename(away)
            for backend in (namespace.backend, other):
                with pytest.raises(BackendUnavailable, match='was moved or deleted, and a transaction keeps'):
                    backend.store.run(Mode.READ, 0.0, lambda tx: None)  # type: ignore[attr-defined]
            reading.run('COMMIT')
            for backend in (namespace.backend, other):
                with pytest.raises(SchemaMismatch, match='no database'):
                    backend.snapshot()
        away.rename(harness.path)
        for backend in (namespace.backend, other):
            assert [node.name for node in backend.snapshot().nodes] == ['a', 'b']
        assert harness.query('PRAGMA integrity_check') == [('ok',)]

    def test_an_absent_folder_may_come_back(self, harness: SqliteHarness) -> None:
        """A volume that is not mounted is an outage, not a lost namespace."""
        namespace = Namespace(harness.connect())
        away = harness.path.parent.with_name('away')
        harness.path.parent.rename(away)
        with pytest.raises(BackendUnavailable):
            namespace.snapshot()
        away.rename(harness.path.parent)
        assert namespace.snapshot().timeline == namespace.timeline

    def test_wait_slows_down_and_misses_nothing(self, harness: SqliteHarness) -> None:
        """After a long calm a change is noticed, whoever made it."""
        namespace = Namespace(harness.connect())
        assert isinstance(namespace.backend, SqlBackend)
        assert isinstance(namespace.backend.store, SqliteStore)
        namespace.backend.store._revised -= 3600
        for change in (partial(namespace.join, 'b'), partial(harness.delete_node_row, 'sync_', 'b')):
            answers: list[int] = []
            before = namespace.revision.number
            waiting = threading.Thread(target=lambda a=answers, n=before: a.append(namespace.backend.wait(n, 60.0)))
            waiting.start()
            change()
            waiting.join(200)
            assert answers == [before + 1]

    def test_wait_does_not_go_by_the_log(self, harness: SqliteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A commit writes the log some time before it is seen: who reads in between would miss it until the next is made."""
        stat, logs = os.stat, dict[str, os.stat_result]()

        def still(path: str | Path, **options: bool) -> os.stat_result:
            found = stat(path, **options)
            return logs.setdefault(str(path), found) if str(path).endswith('-wal') else found

        monkeypatch.setattr('jobsync.backends.sql.sqlite.store.CHECK_SEC', 3600.0)
        monkeypatch.setattr(os, 'stat', still)
        namespace = Namespace(harness.connect())
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(namespace.backend.wait(1, 60.0)))
        namespace.join('a')
        waiting.start()
        time.sleep(0.2)
        namespace.join('b')
        waiting.join(200)
        assert answers == [2]

    def test_wait_notices_another_file(self, harness: SqliteHarness) -> None:
        """A waiting node is woken, though the new file's revision is lower."""
        namespace = Namespace(harness.connect())
        backup = harness.backup()
        namespace.join('a')
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(namespace.backend.wait(namespace.revision.number, 60.0)))
        waiting.start()
        time.sleep(0.2)
        harness.replace(backup)
        waiting.join(200)
        assert answers == [0]


class TestOtherProcesses:
    """Other programs and other processes on the file."""

    def test_a_lock_left_open(self, harness: SqliteHarness) -> None:
        """While another program holds the write lock, writing ends after ``op_timeout_sec``, and reading goes on."""
        namespace, hasty = Namespace(harness.connect()), harness.connect(op_timeout_sec=0.3)
        ref = namespace.join('a')
        with closing(sqlite3.connect(harness.path, isolation_level=None)) as other:
            other.execute('BEGIN IMMEDIATE')
            with pytest.raises(BackendUnavailable, match='locked by another'):
                hasty.heartbeat(ref, INITIAL, frozenset())
            assert namespace.node('a').heartbeat == 0
            other.execute('ROLLBACK')
        assert namespace.beat(ref).heartbeat == 1

    @pytest.mark.skipif(not Path('/proc/locks').exists(), reason='the system does not show which process has a lock')
    @pytest.mark.parametrize('statement', ['BEGIN IMMEDIATE', 'PRAGMA locking_mode=exclusive; BEGIN EXCLUSIVE'])
    def test_doctor_names_the_process_of_a_lock_left_open(self, harness: SqliteHarness, statement: str) -> None:
        """A session that is in the way of every write, and stays so. One that writes for a moment is not named."""
        Namespace(harness.connect()).join('a')
        harness.close()
        with Cluster(harness.connect(op_timeout_sec=0.3, bulk_timeout_sec=0.3)) as cluster:
            assert list(examine_blockers(cluster, is_silent=True)) == []
        open_one = 'other = sqlite3.connect(sys.argv[1], isolation_level=None)'
        code = f'import sqlite3, sys; {open_one}; other.executescript(sys.argv[2]); print(flush=True); input()'
        command = [sys.executable, '-c', code, str(harness.path), statement]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with Cluster(harness.connect(op_timeout_sec=0.3, bulk_timeout_sec=0.3)) as cluster:
                (found,) = [found.words for found in examine(cluster) if found.subject == 'waiting']
            other.communicate(b'')
        assert found.startswith(f'process {other.pid} (')

    def test_writers_take_turns(self, harness: SqliteHarness) -> None:
        """Of several processes that write without a pause, none is left behind."""
        code = (
            START
            + """
import time
from jobsync._core.records import INITIAL
backend = connect(sys.argv[2], BackendOptions(op_timeout_sec=30))
opened = backend.open(Settings(24, 'xxh3'), create=True)
ref = NodeRef(sys.argv[1], '1')
backend.register(Registration(ref, 15.0), opened.timeline, 0)
print('ready', flush=True)
sys.stdin.readline()
while min(node.heartbeat for node in backend.snapshot().nodes) < 30:
    backend.heartbeat(ref, INITIAL, frozenset())
"""
        )
        url = f'sqlite:///{harness.path}'
        workers = [
            subprocess.Popen([sys.executable, '-c', code, name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name in 'abcd'
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == 'ready\n'
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write('go\n')
            worker.stdin.flush()
        for worker in workers:
            worker.communicate(timeout=250)
            assert worker.returncode == 0
        ((least, most),) = harness.query('SELECT min(heartbeat), max(heartbeat) FROM sync_node')
        assert isinstance(least, int)
        assert isinstance(most, int)
        assert most < 10 * least

    def test_a_long_statement_is_cut_off(self, harness: SqliteHarness) -> None:
        """A bulk call ends with its time, though SQLite is busy with it, and writes nothing."""
        backend = harness.connect(bulk_timeout_sec=0.05)
        namespace = Namespace(backend, Settings(1_000_000, 'xxh3'))
        leader = namespace.leader()
        plan = Plan('first', 1, {'leader': Member(leader.incarnation, 15.0)}, (TokenGroup(range(1_000_000), 'leader'),))
        guard = namespace.guard()
        with pytest.raises(BackendUnavailable, match='time for this call'):
            backend.commit(leader, plan, guard)
        assert harness.query('SELECT count(*) FROM sync_token') == [(0,)]

    def test_a_killed_writer_leaves_the_store_whole(self, harness: SqliteHarness) -> None:
        """A process killed within its commits leaves the last one or the one before, with all of its rows."""
        code = (
            START
            + """
from jobsync._core.records import *
from jobsync._core.assignment import *
backend = connect(sys.argv[1], BackendOptions())
opened = backend.open(Settings(20_000, 'xxh3'), create=True)
ref = NodeRef('a', '1')
backend.register(Registration(ref, 15.0), opened.timeline, 0)
backend.acquire_leadership(ref, 0)
for number in range(10_000):
    seen = backend.snapshot()
    plan = Plan('x', 1, {'a': Member(str(number), 15.0)}, (TokenGroup(range(20_000), f'w{number}'),), moved=1)
    backend.commit(ref, plan, Guard(seen.timeline, seen.leadership.epoch, seen.version))
    if number == 0:
        print('ready', flush=True)
"""
        )
        url = f'sqlite:///{harness.path}'
        for delay in (0.21, 0.27, 0.34):
            harness.path.unlink(missing_ok=True)
            worker = subprocess.Popen([sys.executable, '-c', code, url], stdout=subprocess.PIPE, text=True)
            assert worker.stdout is not None
            assert worker.stdout.readline() == 'ready\n'
            time.sleep(delay)
            worker.send_signal(signal.SIGKILL)
            worker.communicate(timeout=250)
            backend = harness.connect()
            backend.open(Settings(20_000, 'xxh3'), create=False)
            changes = backend.read_assignment()
            (group,) = changes.groups
            assert len(group.tokens) == 20_000
            assert changes.members == {'a': Member(str(group.owner)[1:], 15.0)}
            assert changes.version == backend.snapshot().revision
            assert harness.query('PRAGMA integrity_check') == [('ok',)]
            # The triggers watch again, whatever the process was doing.
            assert harness.query('SELECT writer FROM sync_state') == [(0,)]
            backend.close()

    @pytest.mark.filterwarnings('ignore::DeprecationWarning')
    def test_a_forked_child_uses_nothing_of_its_parents(self, harness: SqliteHarness) -> None:
        """Both go on with the backend after a fork, each on connections of its own."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('parent')

        def child() -> None:
            for _ in range(20):
                namespace.join('child', replacing=namespace.node('child').beat if 'child' in namespace.nodes() else None)
            namespace.backend.close()

        beat_beside_a_fork(namespace, ref, child)
        assert len(namespace.node('child').replaces) == 1
        assert harness.query('PRAGMA integrity_check') == [('ok',)]


class TestClosing:
    """``close`` while others use the backend."""

    def test_a_closed_backend_says_so(self, harness: SqliteHarness) -> None:
        """Whatever is asked of it."""
        backend = harness.connect()
        Namespace(backend)
        backend.close()
        with pytest.raises(BackendUnavailable, match='closed'):
            backend.snapshot()

    def test_nothing_stays_open(self, harness: SqliteHarness) -> None:
        """Threads that are in the middle of a call give back the last file descriptors."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')

        def beat() -> None:
            while True:
                try:
                    namespace.beat(ref)
                except BackendUnavailable:
                    return

        threads = [threading.Thread(target=beat) for _ in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: namespace.node('a').heartbeat > 20, 'node a goes on', 200)
        namespace.backend.close()
        for thread in threads:
            thread.join(200)
        assert not open_files(harness.path)

    def test_a_connection_in_use_ends_with_the_others(self, harness: SqliteHarness) -> None:
        """As soon as it is returned, whatever refers to it: it would keep SQLite's memory of the log that is gone."""
        Namespace(harness.connect())
        connections = SqliteConnections.open(DatabaseFile(harness.path), time.monotonic() + 60)
        with connections.connected() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            connections.dispose()
            assert raw.execute('SELECT 1').fetchone() == (1,)
            assert connections.peek('SELECT 1', None) is None
        with pytest.raises(sqlite3.ProgrammingError, match='closed'):
            raw.execute('SELECT 1')

    def test_a_connection_to_a_file_that_has_just_been_replaced(self, harness: SqliteHarness) -> None:
        """What it reads would pass for what is in the file that was opened before."""
        Namespace(harness.connect())
        file = DatabaseFile(harness.path)
        identity = file.identity()
        assert identity is not None
        engine = pool(file, identity)
        engine.connect().close()
        engine.dispose()
        shutil.copy(harness.path, harness.path.with_name('backup.db'))
        harness.path.with_name('backup.db').replace(harness.path)
        with pytest.raises(BackendUnavailable, match='just been replaced'):
            engine.connect()

    def test_a_file_that_is_replaced_as_it_is_opened(self, tmp_path: Path) -> None:
        """A connection is to the file whose identity comes with it: what is written to the other one is lost."""
        path, backup = tmp_path / 'jobs.db', tmp_path / 'backup.db'
        for number, each in enumerate((path, backup), 1):
            with closing(sqlite3.connect(each)) as connection:
                connection.execute(f'PRAGMA user_version = {number}')

        class Replacing(sqlite3.Connection):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                with contextlib.suppress(FileNotFoundError):
                    backup.replace(path)

        found, identity = DatabaseFile(path).connect(Replacing)
        with closing(found):
            assert found.execute('PRAGMA user_version').fetchone() == (2,)
        assert identity == DatabaseFile(path).identity()

    def test_a_transaction_that_only_reads_keeps_nobody_out(self, tmp_path: Path) -> None:
        """Whatever an earlier one over the same connection has written: a claim in it would be refused for nothing."""
        path = tmp_path / 'jobs.db'
        with closing(sqlite3.connect(path, factory=UsersConnection, isolation_level=None)) as mine:
            mine.path = path
            for statement, keeps_out in (
                ('CREATE TABLE notes (note)', False),
                ('BEGIN', False),
                ("INSERT INTO notes VALUES ('x')", True),
                ('COMMIT', False),
                ('BEGIN', False),
                ('SELECT * FROM notes', False),
            ):
                mine.cursor().execute(statement).fetchall()
                assert mine.keeps_out(path) is keeps_out, statement

    def test_the_connections_of_a_parent_stay_as_they_are(self, harness: SqliteHarness) -> None:
        """A child of a fork that finds the file replaced closes its own alone."""
        Namespace(harness.connect())
        mine, parents = (SqliteConnections.open(DatabaseFile(harness.path), time.monotonic() + 60) for _ in range(2))
        parents._pid = -1
        shutil.copy(harness.path, harness.path.with_name('backup.db'))
        harness.path.with_name('backup.db').replace(harness.path)
        mine.dispose_of_all()
        assert (mine.is_disposed, parents.is_disposed) == (True, False)
        parents.dispose()

    def test_a_users_connection_is_the_users(self, harness: SqliteHarness) -> None:
        """It is none of the pool's, and outlives ``close``."""
        backend = harness.connect()
        namespace = Namespace(backend)
        namespace.join('a')
        with backend.connection() as connection:  # type: ignore[attr-defined]
            backend.close()
            table = backend.tables['Node']  # type: ignore[attr-defined]
            assert connection.exec_driver_sql(f'SELECT name FROM {table}').scalar_one() == 'a'
        assert not open_files(harness.path)


def open_files(path: Path) -> list[str]:
    """What this process has open of a database."""
    links = []
    for descriptor in Path('/proc/self/fd').iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:
            continue
    return [link for link in links if link.startswith(str(path))]


def by_another_process(path: Path, statement: str) -> None:
    """Run a statement as an operator does, by another process."""
    code = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute(sys.argv[2]); c.close()'
    subprocess.run([sys.executable, '-c', code, str(path), statement], check=True)
