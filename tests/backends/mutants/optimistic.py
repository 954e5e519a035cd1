"""A mutant on a store that compares as it writes: versions of a namespace are files, and one caller alone can link the next."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from tests.backends.mutants.base import mutant

from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach
from jobsync.backends.single_writer import (
    AssignmentTable,
    CallContext,
    History,
    LockTable,
    NamespaceState,
    Record,
    Row,
    SingleWriterBackend,
    Transaction,
)
from jobsync.errors import BackendUnavailable, SchemaMismatch
from jobsync.testing import Ability, Harness

KEPT = 16
"""Versions before the present one."""


class StaleError(Exception):
    """Another caller has written the next version."""


class LinksTransaction(Transaction):
    """The newest version, and the next one."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        self._folder = folder
        while True:
            try:
                self._number = max((int(path.name) for path in folder.glob('[0-9]*')), default=-1)
                content = pickle.loads((folder / str(self._number)).read_bytes()) if self._number >= 0 else None
            except FileNotFoundError:  # later versions have come since the folder was read
                continue
            break
        if content is None and not create:
            raise SchemaMismatch(f'there is no namespace at {folder}')
        self.context = CallContext('one store')
        first = NamespaceState(self.context.timeline()), AssignmentTable(), LockTable(), History()
        parts: tuple[NamespaceState, AssignmentTable, LockTable, History] = content or first
        self.state, self._assignment, self._locks, self._history = parts

    def assignment(self) -> AssignmentTable:
        return self._assignment

    def locks(self) -> LockTable:
        return self._locks

    def history(self) -> History:
        return self._history

    def put(
        self,
        state: NamespaceState,
        *,
        assignment: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        purged: Collection[Row] = (),
    ) -> None:
        self.state, self._assignment, self._locks = state, assignment or self._assignment, locks or self._locks
        self._history.remove(purged)
        self._history.add(records)
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f'new-{secrets.token_hex(8)}'
        new.write_bytes(pickle.dumps((self.state, self._assignment, self._locks, self._history)))
        try:
            os.link(new, self._folder / str(self._number + 1))
        except FileExistsError:
            raise StaleError from None
        finally:
            new.unlink()
        (self._folder / str(self._number - KEPT)).unlink(missing_ok=True)


@mutant
class NumbersGivenAgain(SingleWriterBackend):
    """Deletes old versions: a process that is stopped before its write makes an old number anew, and takes it for the newest."""

    races: ClassVar[bool] = False
    limit_sec: ClassVar[int] = 300

    @classmethod
    def harness(cls) -> Harness:
        return LinksHarness()

    def __init__(self, folder: str, options: BackendOptions) -> None:
        super().__init__(options)
        self._path = Path(folder) / self.options.namespace

    @property
    def info(self) -> BackendInfo:
        return BackendInfo('links', durable=False, push=False, reach=Reach.HOST, max_tokens=1_000_000)

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[LinksTransaction]:
        yield LinksTransaction(self._path, create=create)

    def current_revision(self) -> int | None:
        with contextlib.suppress(SchemaMismatch):
            return LinksTransaction(self._path, create=False).state.revision.number
        return None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        is_call = name in ('open', 'register', 'heartbeat', 'acquire_leadership', 'commit', 'append_audits', 'edit_locks')
        return functools.partial(self._repeated, found) if is_call else found

    def _repeated(self, call: Callable[..., object], *arguments: object, **named: object) -> object:
        until = time.monotonic() + self.options.op_timeout_sec
        while time.monotonic() < until:
            with contextlib.suppress(StaleError):
                return call(*arguments, **named)
        raise BackendUnavailable('others were faster')


def connect_to(folder: str, namespace: str, **options: float) -> Backend:
    """Return a handle on a folder."""
    return NumbersGivenAgain(folder, BackendOptions(namespace, **options))


class LinksHarness(Harness):
    """A folder that several processes use."""

    abilities = frozenset({Ability.PROCESSES})
    proves_declarations = False
    pool_sizes, lock_counts, examples = (1_000,), (100,), 5
    stopped_sec = 0.4

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix='jobsync-mutant-')

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        return connect_to(self._folder, namespace, **options)

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self._folder)

    def close(self) -> None:
        """See ``Harness``."""
        shutil.rmtree(self._folder)
