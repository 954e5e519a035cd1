"""What proves that an incarnation is over, and what does not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.job.processes import ROOT
from tests.job.waiting import wait_until
from tests.support.servers.postgres import not_root
from tests.support.timings import FAST

from jobsync import CoordinationConfig, Job
from jobsync._core.records import Member, NodeRef
from jobsync._runtime import death_watch, host_lock, threads
from jobsync._runtime.death_watch import WATCHED, DeathWatch
from jobsync._runtime.host_lock import HostFolder, LockFinding, LockVerdict, NotKnown


@contextlib.contextmanager
def holder(base: Path, incarnation: str, mode: str = '') -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the lock, and the id of its child, if it has one."""
    arguments = [sys.executable, '-m', 'tests.job.lock_holder', str(base), incarnation, mode]
    child = 0
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            yield process, child
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it, and wait until it is gone."""
    process.kill()
    process.wait()


def verdict(base: Path, incarnation: str) -> LockVerdict:
    """What this process finds."""
    return HostFolder(str(base)).examine(incarnation).verdict


def folder_in(base: Path) -> Path:
    """The folder of this user in ``base``."""
    return base / f'jobsync-{os.geteuid()}'


def test_a_stopped_process_is_not_over_and_a_killed_one_is(tmp_path: Path) -> None:
    """The lock outlasts SIGSTOP, and ends with the process."""
    with holder(tmp_path, 'run') as (process, _):
        assert verdict(tmp_path, 'run') is LockVerdict.HELD
        assert HostFolder(str(tmp_path)).examine('run').pid == process.pid
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert verdict(tmp_path, 'run') is LockVerdict.HELD
        kill(process)
        assert verdict(tmp_path, 'run') is LockVerdict.OVER
    assert verdict(tmp_path, 'another') is LockVerdict.ABSENT


@pytest.mark.parametrize('mode', ['fork', 'fork of C'])
def test_a_child_that_outlives_the_process_does_not_keep_the_lock(tmp_path: Path, mode: str) -> None:
    """No forked child has the lock, whoever has forked it; and the child's end does not release the parent's."""
    with holder(tmp_path, 'run', mode) as (process, child):
        assert verdict(tmp_path, 'run') is LockVerdict.HELD
        kill(process)
        assert verdict(tmp_path, 'run') is LockVerdict.OVER
        os.kill(child, 0)
    with holder(tmp_path, 'run2', mode) as (_, child):
        bell = os.pidfd_open(child)
        os.kill(child, signal.SIGKILL)
        assert select.select([bell], [], [], 60)[0]
        os.close(bell)
        assert verdict(tmp_path, 'run2') is LockVerdict.HELD


def test_closing_every_descriptor_does_not_release_the_lock(tmp_path: Path) -> None:
    """A process that closes what it has not opened lives on, and goes on claiming."""
    with holder(tmp_path, 'run', 'close all'):
        assert verdict(tmp_path, 'run') is LockVerdict.HELD


def test_a_process_that_becomes_another_program_is_over(tmp_path: Path) -> None:
    """After ``exec`` nothing is left of the incarnation, though the process has the same id."""
    with holder(tmp_path, 'run', 'exec') as (process, _):
        assert verdict(tmp_path, 'run') is LockVerdict.OVER
        assert process.poll() is None


def test_a_copy_proves_nothing(tmp_path: Path) -> None:
    """Where the folder was moved and a copy is in its place, the copy's lock is free and the process lives."""
    with holder(tmp_path, 'run'):
        folder_in(tmp_path).rename(tmp_path / 'moved')
        assert verdict(tmp_path, 'run') is LockVerdict.ABSENT
        shutil.copytree(tmp_path / 'moved', folder_in(tmp_path))
        assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE
        shutil.rmtree(folder_in(tmp_path))
        (tmp_path / 'moved').rename(folder_in(tmp_path))
        assert verdict(tmp_path, 'run') is LockVerdict.HELD


@pytest.mark.parametrize('field', ['incarnation', 'boot', 'device', 'inode'])
def test_a_file_that_says_something_else_proves_nothing(tmp_path: Path, field: str) -> None:
    """The file of another run, of another boot of the kernel or on another device proves nothing of this one."""
    with holder(tmp_path, 'run') as (process, _):
        kill(process)
    file = folder_in(tmp_path) / 'run'
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, field: 'another'}))
    assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE
    file.write_text(json.dumps(said))
    assert verdict(tmp_path, 'run') is LockVerdict.OVER
    file.rename(folder_in(tmp_path) / 'run2')
    assert verdict(tmp_path, 'run2') is LockVerdict.UNPROVABLE
    for content in ('', '[', '[]', 'null', '\0', 1000 * '['):
        file.write_text(content)
        assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE
    file.unlink()
    file.symlink_to(folder_in(tmp_path) / 'run2')
    assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE
    os.mkfifo(folder_in(tmp_path) / 'run3')
    assert verdict(tmp_path, 'run3') is LockVerdict.UNPROVABLE


def test_a_folder_of_others_is_not_used(tmp_path: Path) -> None:
    """A folder that others may write to, or a link that another user has put in its place, is refused."""
    folder = folder_in(tmp_path)
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(NotKnown, match='only this user may use'):
        HostFolder(str(tmp_path)).hold('run')
    assert not list(folder.iterdir())
    folder.rename(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere').chmod(0o700)
    folder.symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(NotKnown, match='no lock can be held'):
        HostFolder(str(tmp_path)).hold('run')
    with pytest.raises(NotKnown, match='no lock can be held'):
        HostFolder(str(tmp_path / 'absent')).hold('run')


def test_a_folder_of_another_user_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may use every folder: what another user has put there says nothing of root's workers."""
    folder = HostFolder(str(tmp_path))
    with holder(tmp_path, 'x') as (process, _):
        kill(process)
    assert folder.examine('x').verdict is LockVerdict.OVER
    another = os.geteuid() + 1
    monkeypatch.setattr(os, 'geteuid', lambda: another)
    assert folder.examine('x').verdict is LockVerdict.UNPROVABLE
    assert folder.incarnations() == frozenset()


def test_what_is_in_the_place_of_its_file_goes(tmp_path: Path) -> None:
    """As where the folder was restored from a copy under the process, which makes its file again."""
    folder = HostFolder(str(tmp_path))
    folder.hold('x').release()
    (folder_in(tmp_path) / 'x').touch()
    lock = folder.hold('x')
    assert folder.examine('x').verdict is LockVerdict.HELD
    lock.release()


def test_no_file_stays_open(tmp_path: Path) -> None:
    """A worker that holds its lock and tries those of others, for months, has no file more than before."""
    folder, descriptors = HostFolder(str(tmp_path)), Path('/proc/self/fd')
    with holder(tmp_path, 'over') as (process, _), holder(tmp_path, 'held'):
        kill(process)
        (folder_in(tmp_path) / 'unprovable').touch()
        before = len(list(descriptors.iterdir()))
        folder.check()
        lock = folder.hold('x')
        os.utime(folder_in(tmp_path) / 'held', (0, 0))  # tried by the next that holds a lock
        another = folder.hold('y')
        verdicts = [folder.examine(name).verdict for name in ('over', 'held', 'unprovable', 'absent')]
        folder.incarnations()
        folder.discard('over')
        assert len(list(descriptors.iterdir())) == before
        assert verdicts == [LockVerdict.OVER, LockVerdict.HELD, LockVerdict.UNPROVABLE, LockVerdict.ABSENT]
        lock.release()
        another.release()


@pytest.mark.parametrize('umask', [0o177, 0o777])
def test_a_folder_made_with_another_umask(tmp_path: Path, umask: int) -> None:
    """A umask that takes rights from folders (0177, for secret files) makes none that this user cannot use."""
    before = os.umask(umask)
    try:
        lock = HostFolder(str(tmp_path)).hold('a' * 32)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder_in(tmp_path), lock.path)]
    lock.release()
    assert modes == [0o700, 0o600]


def test_a_folder_that_its_user_may_not_even_open(tmp_path: Path) -> None:
    """As a umask of 0777 made it: a process without the rights of root holds a lock in it, which others of its user find."""
    work = (
        'import os, sys; from jobsync._runtime.host_lock import HostFolder; os.umask(0o777); folder = HostFolder(sys.argv[1]);'
        'folder.path.mkdir(); lock = folder.hold("a"); print(folder.examine("a").verdict.value); lock.release()'
    )
    command = [*not_root(), sys.executable, '-c', work, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.stdout, done.stderr) == ('held\n', '')


def test_observers_do_not_keep_each_other_from_a_proof(tmp_path: Path) -> None:
    """Many processes of a host may try the lock of one that is over at the same moment."""
    with holder(tmp_path, 'x') as (process, _):
        kill(process)
    with (folder_in(tmp_path) / 'x').open('rb') as another:
        assert host_lock._is_free(another.fileno())
        assert verdict(tmp_path, 'x') is LockVerdict.OVER


@pytest.mark.parametrize('said', [{'pid': 'edited'}, {'in': 'pid:[1]'}], ids=['edited', 'another namespace'])
def test_an_id_that_means_no_process_here(tmp_path: Path, said: dict[str, str]) -> None:
    """The lock is held by a process that is not known."""
    with holder(tmp_path, 'x'):
        file = folder_in(tmp_path) / 'x'
        file.write_text(json.dumps(json.loads(file.read_text()) | said))
        assert HostFolder(str(tmp_path)).examine('x') == LockFinding(LockVerdict.HELD)


def test_a_file_in_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """The end of a run is known all the same, by the store, so that is no error."""
    folder = HostFolder(str(tmp_path))
    folder.hold('x').release()
    (folder_in(tmp_path) / 'x').touch()
    folder_in(tmp_path).chmod(0o755)
    folder.discard('x')
    assert (folder_in(tmp_path) / 'x').exists()


def test_a_lock_is_released_once_and_by_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child has none of it, and what a process has mapped there by the second time is not the lock."""
    lock = HostFolder(str(tmp_path)).hold('x')
    with monkeypatch.context() as patch:
        patch.setattr(os, 'getpid', lambda: 1)
        lock.release()
    assert verdict(tmp_path, 'x') is LockVerdict.HELD
    with (folder_in(tmp_path) / 'x').open('rb') as opened:
        lock.release()
        assert host_lock._is_free(opened.fileno())
    assert verdict(tmp_path, 'x') is LockVerdict.ABSENT
    monkeypatch.setattr(host_lock, '_libc', Mock(side_effect=AssertionError))
    lock.release()


def test_a_file_system_with_locks_of_its_own_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that is not known to keep its locks in this kernel, nothing is known."""
    HostFolder(str(tmp_path)).hold('run').release()
    monkeypatch.setattr(host_lock, '_LOCAL', {})
    with pytest.raises(NotKnown, match='may not be this host'):
        HostFolder(str(tmp_path)).hold('run')
    assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE


def test_a_file_of_another_file_system_than_its_folder_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may mount a single file, from a server whose locks this kernel does not know."""
    number_of = host_lock._file_system

    def mounted(file: int) -> int:
        return number_of(file) if stat.S_ISDIR(os.fstat(file).st_mode) else 0x6969

    with holder(tmp_path, 'x') as (process, _):
        kill(process)
        assert verdict(tmp_path, 'x') is LockVerdict.OVER
        monkeypatch.setattr(host_lock, '_file_system', mounted)
        assert verdict(tmp_path, 'x') is LockVerdict.UNPROVABLE


@pytest.mark.parametrize('room', [0, 10])
def test_a_lock_that_cannot_be_written_is_not_held(tmp_path: Path, room: int) -> None:
    """Where the file cannot be written, or not whole, as on a full file system, nothing is known, and nothing is left."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(NotKnown, match='no lock can be held' if room == 0 else 'does not hold'):
            HostFolder(str(tmp_path)).hold('run')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(folder_in(tmp_path).iterdir())
    assert str(tmp_path) not in Path('/proc/self/maps').read_text()


def test_a_lock_that_is_taken_back_proves_nothing_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file goes while it is made, its lock is released though the process lives; where it has gone, it proves nothing."""
    file, moved = folder_in(tmp_path) / 'run', tmp_path / 'moved'
    with monkeypatch.context() as patch:
        patch.setattr(HostFolder, '_examine', lambda *_: file.rename(moved) and LockFinding(LockVerdict.UNPROVABLE))
        with pytest.raises(NotKnown, match='does not hold'):
            HostFolder(str(tmp_path)).hold('run')
    moved.rename(file)
    assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE


@pytest.mark.parametrize('error', [MemoryError, OSError])
def test_a_lock_whose_file_cannot_be_emptied_is_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A file that says whose it is proves that the process is over once its lock is free: so that is kept."""
    file, moved = folder_in(tmp_path) / 'run', tmp_path / 'moved'
    with monkeypatch.context() as patch:
        patch.setattr(HostFolder, '_examine', lambda *_: file.rename(moved) and LockFinding(LockVerdict.UNPROVABLE))
        patch.setattr(os, 'ftruncate', Mock(side_effect=error))
        with pytest.raises((NotKnown, error)):
            HostFolder(str(tmp_path)).hold('run')
    moved.rename(file)
    assert verdict(tmp_path, 'run') is LockVerdict.HELD


def test_a_lock_that_is_taken_back_while_an_observer_tries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that has read the file, and gets the lock because the living process has given that file up, proves nothing."""
    give_back, is_free, verdicts = host_lock._give_back, host_lock._is_free, list[LockVerdict]()

    def given_back(written: int, address: int) -> None:
        """Give the lock back between an observer's reading of the file and its try of the lock."""

        def tried(read: int) -> bool:
            give_back(written, address)
            return is_free(read)

        monkeypatch.setattr(host_lock, '_is_free', tried)
        verdicts.append(verdict(tmp_path, 'run'))

    examine, limit_reached = HostFolder._examine, [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def examined(self: HostFolder, folder: int, incarnation: str) -> LockFinding:
        """Fail for the process that has just written the file, whose program has opened all it may; not for the observer."""
        if limit_reached:
            raise limit_reached.pop()
        return examine(self, folder, incarnation)

    monkeypatch.setattr(host_lock, '_give_back', given_back)
    monkeypatch.setattr(HostFolder, '_examine', examined)
    with pytest.raises(NotKnown, match='no lock can be held'):
        HostFolder(str(tmp_path)).hold('run')
    assert verdicts == [LockVerdict.UNPROVABLE]


def test_a_mapping_that_does_not_keep_the_lock_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lock goes with the descriptor, as on a file system that maps another file, nothing is known or left."""
    examine, maps_file, seen = HostFolder._examine, host_lock._map, list[LockFinding]()

    def mapped(_: int) -> int:
        with Path(sys.executable).open('rb') as another:
            return maps_file(another.fileno())

    def examined(self: HostFolder, folder: int, incarnation: str) -> LockFinding:
        seen.append(examine(self, folder, incarnation))
        return seen[-1]

    monkeypatch.setattr(host_lock, '_map', mapped)
    monkeypatch.setattr(HostFolder, '_examine', examined)
    with pytest.raises(NotKnown, match='does not hold'):
        HostFolder(str(tmp_path)).hold('run')
    assert seen == []  # not even for a moment did the file say whose it was, with a lock that was free
    assert not list(folder_in(tmp_path).iterdir())


def test_a_hard_link_proves_no_more_than_its_file(tmp_path: Path) -> None:
    """A link to the file of another run proves nothing of this one; one to the run's own file proves what that does."""
    file, other, kept = (folder_in(tmp_path) / name for name in ('run', 'other', 'kept'))
    with holder(tmp_path, 'run') as (process, _), holder(tmp_path, 'other') as (ended, _):
        kill(ended)
        kept.hardlink_to(file)
        file.unlink()
        file.hardlink_to(other)
        assert verdict(tmp_path, 'other') is LockVerdict.OVER
        assert verdict(tmp_path, 'run') is LockVerdict.UNPROVABLE
        file.unlink()
        file.hardlink_to(kept)
        assert verdict(tmp_path, 'run') is LockVerdict.HELD
        kill(process)
        assert verdict(tmp_path, 'run') is LockVerdict.OVER


def test_a_system_without_any_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be written, nothing is known."""

    def refuse() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(host_lock, '_SHARED_MEMORY', Path('/absent'))
    monkeypatch.setattr(tempfile, 'gettempdir', refuse)
    with pytest.raises(NotKnown, match='no folder for temporary files'):
        HostFolder()
    assert HostFolder('/absent').path.parent == Path('/absent')


def test_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is that of the directory in which the job was entered, whatever the directory is later."""
    (tmp_path / 'locks').mkdir()
    monkeypatch.chdir(tmp_path)
    folder = HostFolder('locks')
    monkeypatch.chdir('/')
    held = folder.hold('mine')
    assert verdict(tmp_path / 'locks', 'mine') is LockVerdict.HELD
    assert held.is_in_place
    held.release()
    assert not [*folder_in(tmp_path / 'locks').iterdir()]


def test_a_working_directory_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a relative folder cannot be known."""
    (tmp_path / 'gone').mkdir()
    monkeypatch.chdir(tmp_path / 'gone')
    (tmp_path / 'gone').rmdir()
    with pytest.raises(NotKnown, match='locks is relative, and the working directory'):
        HostFolder('locks')


def test_an_old_file_of_a_run_that_is_over_is_deleted(tmp_path: Path) -> None:
    """Another process of the user deletes it in time; that of a process that lives, however old, stays, and a new proof."""
    with holder(tmp_path, 'old') as (first, _), holder(tmp_path, 'new') as (second, _), holder(tmp_path, 'living'):
        kill(first)
        kill(second)
        for name in ('old', 'living'):
            os.utime(folder_in(tmp_path) / name, (0, 0))
        lock = HostFolder(str(tmp_path)).hold('run')
        assert {file.name for file in folder_in(tmp_path).iterdir()} == {'new', 'living', 'run'}
        lock.release()
        assert {file.name for file in folder_in(tmp_path).iterdir()} == {'new', 'living'}


# --- the thread --------------------------------------------------------------------------------------------------------------


class Observer:
    """A node that watches others."""

    def __init__(self, base: Path, name: str = 'm') -> None:
        self.reported: list[NodeRef] = []
        self.watch = DeathWatch(name, str(base), self.reported.append)
        self.watch.hold('mine')
        self.watch.start(lambda what, step: threads.start(name, what, partial(threads.keep_on, name, what, step, 1.0)))

    def see(self, *names: str) -> None:
        """Take members of these names, whose incarnations have their names."""
        self.watch.take_members({name: Member(name, 15.0) for name in names})

    def watches(self, *names: str) -> None:
        """Wait until it watches these."""
        wait_until(lambda: self.watch.watched_names == names, f'{names} are watched')

    def has_own_alarm(self) -> bool:
        """Return whether the program has taken neither end of what wakes the thread."""
        alarm = self.watch._alarm
        return alarm is not None and death_watch._are_own(alarm)

    def holds(self, files: int) -> None:
        """Wait until it has taken the lock of so many files; others find it held a moment before that."""
        wait_until(lambda: len(self.watch._held) == files, f'the lock of file {files} is held')


@pytest.fixture
def observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Observer]:
    """One that watches the processes of a folder, and does nothing now and then: what it finds, it finds by its bells."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 3600.0)
    observer = Observer(tmp_path)
    yield observer
    observer.watch.close(has_left=True)


def test_the_next_of_the_host_are_watched_and_all_that_are_killed_are_found(tmp_path: Path, observer: Observer) -> None:
    """A node watches the next on the ring that are on its host; where these end together, it moves on to those behind them."""
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(holder(tmp_path, name))[0] for name in ('a', 'b', 'n', 'p')}
        observer.see('a', 'b', 'm', 'n', 'elsewhere', 'o', 'p')
        observer.watches('n', 'p')
        assert len(observer.watch.watched_names) == WATCHED
        for name in ('p', 'a', 'n'):
            kill(processes[name])
        wait_until(lambda: len(observer.reported) == 3, 'all are found')
        assert {ref.name for ref in observer.reported} == {'n', 'p', 'a'}
        observer.watches('b')


def test_what_is_over_is_remembered_for_as_long_as_it_is_a_member(tmp_path: Path, observer: Observer) -> None:
    """A member is reported once; one that is a member no more is forgotten: a program may crash again and again for months."""
    with holder(tmp_path, 'x') as (process, _), holder(tmp_path, 'y'):
        observer.see('m', 'x')
        observer.watches('x')
        kill(process)
        wait_until(lambda: len(observer.reported) == 1, 'its end is found')
        observer.see('m', 'x', 'y')
        observer.watches('y')
        assert (len(observer.reported), len(observer.watch._over)) == (1, 1)
        observer.see('m', 'y')
        wait_until(lambda: not observer.watch._over, 'the run is forgotten')


def test_a_run_that_is_over_is_forgotten_once_another_has_its_name(tmp_path: Path, observer: Observer) -> None:
    """The name may be a member for months, with a run for each crash."""
    with holder(tmp_path, 'x') as (process, _):
        observer.see('m', 'x')
        observer.watches('x')
        kill(process)
        wait_until(lambda: observer.watch._over == {NodeRef('x', 'x')}, 'its end is found')
        observer.watch.take_members({'x': Member('next', 15.0)})
        wait_until(lambda: not observer.watch._over, 'the run is forgotten')


def test_one_that_is_behind_newer_members_is_watched_no_more(tmp_path: Path, observer: Observer) -> None:
    """None watches more than two, in whatever order the members have come."""
    with contextlib.ExitStack() as stack:
        for name in ('n', 'p', 'q'):
            stack.enter_context(holder(tmp_path, name))
        observer.see('m', 'p', 'q')
        observer.watches('p', 'q')
        before = len(wakers())
        observer.see('m', 'n', 'p', 'q')
        observer.watches('n', 'p')
        assert {ref.name for ref in observer.watch._watched} == {'n', 'p'}
        assert len(wakers()) == before


def test_a_file_that_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that had gone with its folder: its process makes it again within some seconds."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 0.05)
    observer = Observer(tmp_path)
    observer.see('m', 'x')
    wait_until(lambda: observer.watch._known is not None, 'the members are known')
    with holder(tmp_path, 'x'):
        observer.watches('x')
    observer.watch.close(has_left=True)


def test_members_on_other_hosts_are_not_looked_for_one_by_one(
    tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member without a file in the folder costs no system call: in a large cluster, most are on other hosts."""
    examined = list[str]()
    examine = HostFolder.examine

    def counted(folder: HostFolder, incarnation: str) -> LockFinding:
        examined.append(incarnation)
        return examine(folder, incarnation)

    monkeypatch.setattr(HostFolder, 'examine', counted)
    with holder(tmp_path, 'x'):
        observer.see('m', 'x', *(f'n{number}' for number in range(1000)))
        observer.watches('x')
    assert set(examined) == {'x'}


def test_a_bell_is_no_proof(tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the id of the process has been given to another, whose end rings the bell, nothing is reported."""
    with holder(tmp_path, 'x') as (process, _), holder(tmp_path, 'other') as (other, _):
        pidfd_open = os.pidfd_open
        monkeypatch.setattr(os, 'pidfd_open', lambda _: pidfd_open(other.pid))
        observer.see('m', 'x')
        observer.watches('x')
        (watched,) = observer.watch._watched.values()
        assert watched.bell is not None
        kill(other)
        wait_until(lambda: watched.bell is None, 'the bell has rung')
        assert observer.watch.is_over(NodeRef('other', 'other'))
        assert observer.reported == []
        kill(process)
        wait_until(lambda: observer.reported == [NodeRef('x', 'x')], 'the end is found without a bell')


def test_a_process_that_ends_before_its_bell_is_opened(
    tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id that its file has is another process's by then, whose end would ring the bell: the lock says so at once."""
    before = wakers()
    with holder(tmp_path, 'x') as (process, _):
        pidfd_open = os.pidfd_open

        def open_late(_: int) -> int:
            kill(process)
            return pidfd_open(os.getpid())

        monkeypatch.setattr(os, 'pidfd_open', open_late)
        observer.see('m', 'x')
        wait_until(lambda: observer.reported == [NodeRef('x', 'x')], 'the end is found')
    assert wakers() == before


def test_a_death_that_cannot_be_reported_at_first(tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory for it at that moment: it is reported by the next step."""
    errors = [MemoryError()]

    def report(ref: NodeRef) -> None:
        if errors:
            raise errors.pop()
        observer.reported.append(ref)

    monkeypatch.setattr(observer.watch, '_report', report)
    with holder(tmp_path, 'x') as (process, _):
        observer.see('m', 'x')
        observer.watches('x')
        kill(process)
        wait_until(lambda: observer.reported == [NodeRef('x', 'x')], 'its end is reported')


def test_what_others_wrote_into_the_files_stops_nothing(tmp_path: Path, observer: Observer) -> None:
    """A file of nonsense keeps no other from being watched, nor does an id that no process can have."""
    with holder(tmp_path, 'p') as (process, _):
        (folder_in(tmp_path) / 'n').write_text(1000 * '[')
        edited = folder_in(tmp_path) / 'p'
        edited.write_text(json.dumps(json.loads(edited.read_text()) | {'pid': 10**30}))
        observer.see('m', 'n', 'p')
        observer.watches('p')
        kill(process)
        wait_until(lambda: observer.reported == [NodeRef('p', 'p')], 'the end is found without a bell')


def test_a_program_that_replaces_the_process_is_found_without_a_bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``exec`` the bell does not ring, because the process lives; the lock is tried now and then."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 0.2)
    observer = Observer(tmp_path)
    with holder(tmp_path, 'x', 'exec when asked') as (process, _):
        observer.see('m', 'x')
        observer.watches('x')
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: observer.reported == [NodeRef('x', 'x')], 'the end is found')
        assert process.poll() is None
    observer.watch.close(has_left=True)


def test_a_file_that_goes_again_and_again_is_not_made_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file that has gone keeps its lock, so there is a limit to them; then the timeout applies, and the status says why."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 0.05)
    monkeypatch.setattr(death_watch, '_MOST_FILES', 3)
    observer = Observer(tmp_path)
    for number in range(1, 4):
        observer.holds(number)
        assert verdict(tmp_path, 'mine') is LockVerdict.HELD
        (folder_in(tmp_path) / 'mine').unlink()
    wait_until(lambda: observer.watch.why_not is not None, 'the limit is reached')
    assert observer.watch.why_not == f'its file in {folder_in(tmp_path)} has gone 3 times'
    assert len(observer.watch._held) == 3
    observer.watch.close(has_left=True)


def wakers() -> set[int]:
    """The descriptors of this process by which a thread can be woken."""
    kinds = {file.name: os.path.realpath(file) for file in Path('/proc/self/fd').iterdir()}
    return {int(name) for name, kind in kinds.items() if any(each in kind for each in ('/socket:', 'eventfd', 'pidfd'))}


@pytest.mark.parametrize('kind', ['file', 'socket'])
def test_a_program_that_closes_every_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What the program then opens under their numbers stays as it is, and the node goes on to watch others."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 0.05)
    with contextlib.ExitStack() as stack:
        (tmp_path / 'data').write_text('of the program')
        mine, peer = map(stack.enter_context, socket.socketpair())
        data = mine if kind == 'socket' else stack.enter_context((tmp_path / 'data').open('r+b'))
        process = stack.enter_context(holder(tmp_path, 'n'))[0]
        other = stack.enter_context(holder(tmp_path, 'o'))[0]
        before = wakers()
        observer = Observer(tmp_path)
        observer.see('m', 'n')
        observer.watches('n')
        theirs = wakers() - before
        assert len(theirs) == 3
        for number in theirs:
            os.dup2(data.fileno(), number)
            stack.callback(os.close, number)
        peer.send(b'to the program')
        observer.see('m', 'n', 'o')
        observer.watches('n', 'o')
        wait_until(observer.has_own_alarm, 'the thread waits for no file of the program, by which it may never sleep')
        for each in (process, other):
            kill(each)
        wait_until(lambda: len(observer.reported) == 2, 'the deaths are found')
        observer.watch.close(has_left=True)
        assert all(os.path.samestat(os.fstat(number), os.fstat(data.fileno())) for number in theirs)
        assert mine.recv(100) == b'to the program'
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
    assert (tmp_path / 'data').read_text() == 'of the program'


def test_a_program_that_closes_one_descriptor(tmp_path: Path, observer: Observer) -> None:
    """The other one of the pair is closed as another pair takes its place."""
    before, alarm = wakers(), observer.watch._alarm
    assert alarm is not None
    os.close(alarm[1].number)
    wait_until(lambda: observer.watch._alarm not in (alarm, None), 'there is another pair')
    wait_until(lambda: len(wakers()) == len(before), 'there is no more than that')


def test_a_moment_at_which_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that enters when the process may open no file for the watch works without that, and says so."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    fields = {**FAST, 'known_death_dir': str(tmp_path)}
    config = CoordinationConfig(backend=f'sqlite:///{tmp_path}/jobs.db', **fields)
    monkeypatch.setattr(socket, 'socketpair', refuse)
    with Job('a', coordination_config=config) as job:
        assert job.my_tokens
        assert job.get_coordination_status()['death_unknown'] == 'its thread cannot be woken (Too many open files)'
        assert not folder_in(tmp_path).exists()


def test_no_descriptor_stays_behind(tmp_path: Path) -> None:
    """Neither where the thread cannot be started, nor where it ends while it watches others."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    before = wakers()
    with pytest.raises(RuntimeError):
        DeathWatch('m', str(tmp_path), lambda _: None).start(refuse)
    assert wakers() == before
    with holder(tmp_path, 'x'):
        observer = Observer(tmp_path)
        observer.see('m', 'x')
        observer.watches('x')
        assert wakers() > before
        observer.watch.close(has_left=True)
        wait_until(lambda: wakers() == before, 'all are closed')


def test_a_thread_that_is_woken_again_and_again_before_its_turn(tmp_path: Path) -> None:
    """What wakes it has the lock of the node, and neither waits nor fails: once is enough. Awake, it takes note of all."""
    watch = DeathWatch('m', str(tmp_path), lambda _: None)
    watch.start(lambda *_: None)

    def wake() -> None:
        for _ in range(5000):
            watch.take_members({})

    changes = threading.Thread(target=wake, daemon=True)
    changes.start()
    changes.join(120)
    assert not changes.is_alive()
    assert watch._alarm is not None
    alarm = select.poll()
    alarm.register(watch._alarm[0].number, select.POLLIN)
    for _ in range(100):
        watch._sleep(0.0)
    assert alarm.poll(0) == []  # or it would never sleep again
    watch._end()


def test_a_file_that_goes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder is deleted or replaced, the process holds the lock of a new file, and keeps that of the old one."""
    monkeypatch.setattr(death_watch, '_TEND_SEC', 0.05)
    observer = Observer(tmp_path)
    assert observer.watch.why_not is None
    folder_in(tmp_path).rename(tmp_path / 'moved')
    observer.holds(2)
    assert verdict(tmp_path, 'mine') is LockVerdict.HELD
    first, second = observer.watch._held
    assert (first.path, second.path) == (folder_in(tmp_path) / 'mine',) * 2
    shutil.rmtree(folder_in(tmp_path))
    (tmp_path / 'moved').rename(folder_in(tmp_path))
    assert verdict(tmp_path, 'mine') is not LockVerdict.OVER
    observer.watch.close(has_left=True)


def test_only_a_proof_shows_that_the_owner_of_a_name_is_over(tmp_path: Path) -> None:
    """Its process may be on another host, where its file is: the name of a living node would be taken at once."""
    watch = DeathWatch('m', str(tmp_path), lambda _: None)
    with holder(tmp_path, 'over') as (process, _), holder(tmp_path, 'held'):
        kill(process)
        (folder_in(tmp_path) / 'unprovable').touch()
        names = ('over', 'held', 'unprovable', 'absent')
        assert [watch.is_over(NodeRef('x', name)) for name in names] == [True, False, False, False]


def test_a_node_that_could_not_leave_keeps_its_lock(tmp_path: Path) -> None:
    """The lock ends with the process, or once the node has left in good order."""
    observer = Observer(tmp_path)
    observer.watch.close(has_left=False)
    assert verdict(tmp_path, 'mine') is LockVerdict.HELD
    observer.watch.close(has_left=True)
    assert verdict(tmp_path, 'mine') is LockVerdict.ABSENT


def test_a_new_incarnation_has_a_lock_of_its_own(tmp_path: Path, observer: Observer) -> None:
    """The lock of the incarnation before it is released, because that is over."""
    observer.watch.hold('next')
    assert (verdict(tmp_path, 'mine'), verdict(tmp_path, 'next')) == (LockVerdict.ABSENT, LockVerdict.HELD)


def test_an_incarnation_that_registers_by_a_second_call_keeps_its_lock(tmp_path: Path, observer: Observer) -> None:
    """An observer that has opened its file, and tries the lock later, finds it held all the time."""
    with (folder_in(tmp_path) / 'mine').open('rb') as opened:
        observer.watch.hold('mine')
        assert not host_lock._is_free(opened.fileno())
    assert verdict(tmp_path, 'mine') is LockVerdict.HELD


def test_no_lock_is_taken_once_the_node_is_over(tmp_path: Path, observer: Observer) -> None:
    """No thread would ever release it, so the end of its incarnation would not be known for as long as the process lives."""
    observer.watch.close(has_left=True)
    observer.watch.hold('next')
    assert verdict(tmp_path, 'next') is LockVerdict.ABSENT
    observer.watch._tend()  # as its thread may still do that has not seen the end
    assert verdict(tmp_path, 'mine') is LockVerdict.ABSENT
