"""Mutants of the example in plain files: what shows when a process is stopped or killed, or has a wrong clock."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import functools
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import attrs
from tests.backends.mutants.base import mutant

sys.path.append(str(Path(__file__).parents[3] / 'examples' / 'jobsync-files' / 'src'))

from jobsync_files import backend as files
from jobsync_files.folder import Folder

from jobsync.backend import Backend, BackendOptions, Reach, Registration, Timeline
from jobsync.backends.single_writer import AssignmentTable, LockTable, NamespaceState, Record, Row
from jobsync.errors import BackendUnavailable, Conflict, Evicted, Fenced, NameTaken, SchemaMismatch
from jobsync.testing import Ability, Harness

LIVES_SEC = 0.2
"""How long the lock of a file lives without its holder."""


def connect_to(kind: type[OnFiles], folder: str, namespace: str, **options: float) -> Backend:
    """A handle on a folder."""
    return kind(Path(folder), BackendOptions(namespace, **{'op_timeout_sec': 2.0, 'bulk_timeout_sec': 2.0, **options}))


class FilesMutantHarness(Harness):
    """A folder that several processes use."""

    abilities = frozenset({Ability.PROCESSES, Ability.RESTART})
    proves_declarations = False
    pool_sizes, lock_counts, examples = (1_000,), (100,), 5
    stopped_sec = 2 * LIVES_SEC

    def __init__(self, kind: type[OnFiles]) -> None:
        self._kind = kind
        self._folder = tempfile.mkdtemp(prefix='jobsync-mutant-')

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        return connect_to(self._kind, self._folder, namespace, **options)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self._kind, self._folder)

    def restart(self) -> None:
        """See ``Harness``."""

    def close(self) -> None:
        """See ``Harness``."""
        shutil.rmtree(self._folder)


class OnFiles(files.FilesBackend):
    """The example as it is."""

    races: ClassVar[bool] = False
    limit_sec: ClassVar[int] = 300

    @classmethod
    def harness(cls) -> Harness:
        """The harness that mutants of this kind are tried with."""
        return FilesMutantHarness(cls)


@mutant
class TransactionTaken(OnFiles):
    """Takes the lock from a process that has been stopped for longer than the lock lives, and does not stop it when it wakes."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        if create:
            self.path.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + (self.options.bulk_timeout_sec if bulk else self.options.op_timeout_sec)
        lock = self.path / 'gate'
        try:
            self._take(lock, deadline)
            try:
                directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    yield files.FilesTransaction(Folder(directory), create=create)
                finally:
                    os.close(directory)
            finally:
                lock.unlink(missing_ok=True)
        except FileNotFoundError:
            raise SchemaMismatch(f'there is no namespace at {self.path}') from None
        except OSError as error:
            raise BackendUnavailable(str(error)) from error

    @staticmethod
    def _take(lock: Path, deadline: float) -> None:
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - lock.stat().st_mtime > LIVES_SEC:
                        lock.unlink()
                if time.monotonic() > deadline:
                    raise BackendUnavailable('others have it') from None
                time.sleep(0.001)
            else:
                return


@mutant
class LockOutlivesItsHolder(TransactionTaken):
    """The lock of a process that was killed stays: no other caller gets the namespace."""

    @staticmethod
    def _take(lock: Path, deadline: float) -> None:
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                if time.monotonic() > deadline:
                    raise BackendUnavailable('others have it') from None
                time.sleep(0.001)
            else:
                return


@mutant
class HeartbeatsWaitLong(OnFiles):
    """Gives every call the limit of a large one: a node learns too late that its heartbeat hangs."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        with super().transaction(bulk=True, create=create) as tx:
            yield tx


@mutant
class RefusalKeepsTheLock(OnFiles):
    """Keeps the lock after a call that was refused, until the next call of the handle: all others wait."""

    kept: int | None = None

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        if self.kept is not None:
            os.close(self.kept)
            self.kept = None
        try:
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        except (Conflict, Evicted, Fenced, NameTaken):
            self.kept = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self.kept, fcntl.LOCK_EX)
            raise


class StateFirst(files.FilesTransaction):
    """A transaction that replaces the state before the files it names."""

    def put(
        self,
        state: NamespaceState,
        *,
        assignment: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        purged: Collection[Row] = (),
    ) -> None:
        super().put(state)
        super().put(state, assignment=assignment, locks=locks, records=records, purged=purged)


@mutant
class OneLockOfAProcess(OnFiles):
    """Has a lock of its process for the calls of all handles: a child that is forked during a call never gets it."""

    lock = threading.Lock()

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        if not self.lock.acquire(timeout=self.options.op_timeout_sec):
            raise BackendUnavailable('the calls of other threads have lasted too long')
        try:
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        finally:
            self.lock.release()


@mutant
class StateReplacedFirst(OnFiles):
    """Replaces the state, and what it stands for a moment later: a process that is killed in between leaves half of a commit."""

    races = True

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        with super().transaction(bulk=bulk, create=create) as tx:
            tx.__class__ = StateFirst
            yield tx


@mutant
class CallersClock(OnFiles):
    """Declares that nodes on other machines reach it, and takes the time from the caller's clock."""

    info = attrs.evolve(files.FilesBackend.info, reach=Reach.NETWORK)


@mutant
class RegistersByItsClock(OnFiles):
    """Takes the time of the store, except for registrations, which have that of the caller's clock."""

    info = attrs.evolve(files.FilesBackend.info, reach=Reach.NETWORK)
    is_registering = False

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[files.FilesTransaction]:
        with super().transaction(bulk=bulk, create=create) as tx:
            if not self.is_registering:
                clock = self.path / 'clock'
                clock.touch()
                tx.context = attrs.evolve(tx.context, now=dt.datetime.fromtimestamp(clock.stat().st_mtime, dt.UTC))
            yield tx

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        self.is_registering = True
        try:
            super().register(node, timeline, at_least, replacing)
        finally:
            self.is_registering = False


@mutant
class KeepsTheProgram(OnFiles):
    """A thread of an open handle is no daemon: a program that does not close it never ends."""

    def wait(self, revision: int, timeout: float) -> int:
        if multiprocessing.parent_process() is not None:  # the tests themselves end
            threading.Thread(target=self._closed.wait, args=(3600,)).start()
        return super().wait(revision, timeout)
