"""A namespace's directory, and how a change of the whole directory happens at once.

``state.json`` has all that a heartbeat needs. It names the other files: the assignment and the task locks, each written whole
under a new name, and the history, of which as many bytes count as ``state.json`` says. So no reader sees what a call writes
before ``state.json`` has been replaced, and a crash at any point leaves either the old state or the new one.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import attrs

from jobsync.backend import BackendInfo, BackendOptions, Changes, Reach
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
from jobsync_files.folder import GATE, Folder, locked
from jobsync_files.records import json_of, loaded, readable

__all__ = ['FilesBackend']

STATE, IDENTITY, FORMAT = 'state.json', 'identity', 3


@attrs.frozen
class Index:
    """The content of ``state.json``."""

    state: NamespaceState
    assignment: str | None = None
    locks: str | None = None
    history: str | None = None
    history_length: int = 0
    writes: int = 0
    """How often this file has been replaced: the position of the store."""
    format: int = FORMAT

    @property
    def files(self) -> set[str]:
        """The files of the directory that count."""
        return {GATE, STATE, IDENTITY, *filter(None, (self.assignment, self.locks, self.history))}


class FilesTransaction(Transaction):
    """A namespace's directory while no other caller has it."""

    def __init__(self, folder: Folder, *, create: bool) -> None:
        self._folder = folder
        names = folder.names()
        if create and IDENTITY not in names:
            folder.put(IDENTITY, secrets.token_hex(16).encode())
        identity = self._identity()
        if create and STATE not in names:
            self._index = Index(NamespaceState(CallContext(identity).timeline()))
        else:
            self._index = self._index_of(folder.read(STATE))
        self.state = self._index.state
        self.context = CallContext(identity, position=self._index.writes)
        if create:  # when a node starts, and seldom otherwise
            for leftover in names - self._index.files:
                folder.remove(leftover)

    @staticmethod
    def _index_of(content: bytes) -> Index:
        found = loaded(content, dict)
        if found.get('format') != FORMAT:
            raise SchemaMismatch(f'the files are of format {found.get("format")}, this package reads {FORMAT}')
        return loaded(content, Index)

    def _identity(self) -> str:
        """Return what a copy of these files does not have: the file's number and the time of its last change."""
        found = self._folder.stat(IDENTITY)
        return f'{self._folder.read(IDENTITY).decode()}:{found.st_ino}:{found.st_ctime_ns}'

    def assignment(self) -> AssignmentTable:
        """See ``Transaction``."""
        name = self._index.assignment
        return AssignmentTable.of(loaded(self._folder.read(name), Changes)) if name else AssignmentTable()

    def locks(self) -> LockTable:
        """See ``Transaction``."""
        name = self._index.locks
        return loaded(self._folder.read(name), LockTable) if name else LockTable()

    def history(self) -> History:
        """See ``Transaction``."""
        name, history = self._index.history, History()
        if name:
            history.add(readable(self._folder.read(name, self._index.history_length).splitlines()))
        return history

    def put(
        self,
        state: NamespaceState,
        *,
        assignment: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        purged: Collection[Row] = (),
    ) -> None:
        """See ``Transaction``."""
        before, index = self._index, attrs.evolve(self._index, state=state, writes=self._index.writes + 1)
        if assignment is not None:
            index = attrs.evolve(index, assignment=self._write('assignment', assignment.read(None)))
        if locks is not None:
            index = attrs.evolve(index, locks=self._write('locks', locks))
        kept = self.history().remove(purged) if purged else ()
        name, length = (None, 0) if purged else (index.history, index.history_length)
        lines = b''.join(json_of.dumps(record, Record).encode() + b'\n' for record in (*kept, *records))
        if lines:
            name = name or f'history.{secrets.token_hex(8)}.jsonl'
            self._folder.write(name, length, lines)
        index = attrs.evolve(index, history=name, history_length=length + len(lines))
        # t=0  the new files are on the disk, and no reader knows their names
        # t=1  state.json is replaced, by a rename: from now on the new files count, all of them at once
        # t=2  the old files are removed. A process that is killed before leaves them to the next ``open``.
        self._folder.put(STATE, json_of.dumps(index).encode())
        for outdated in before.files - index.files:
            self._folder.remove(outdated)
        self._index, self.state = index, state

    def _write(self, kind: str, value: object) -> str:
        """Write a file under a new name, and return the name. The file counts once ``state.json`` names it."""
        name = f'{kind}.{secrets.token_hex(8)}.json'
        self._folder.put(name, json_of.dumps(value).encode())
        return name


class FilesBackend(SingleWriterBackend):
    """A ``Backend`` on the folder ``path``, in which each namespace has a directory of its own."""

    info = BackendInfo('files', durable=True, push=True, reach=Reach.HOST, max_tokens=100_000)

    def __init__(self, path: Path, options: BackendOptions) -> None:
        super().__init__(options)
        self.path = path / self.options.namespace

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[FilesTransaction]:
        """See ``SingleWriterBackend``. No exception of the operating system gets out of here."""
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, self.options.bulk_timeout_sec if bulk else self.options.op_timeout_sec) as folder:
                yield FilesTransaction(folder, create=create)
        except FileNotFoundError:
            raise SchemaMismatch(f'there is no namespace at {self.path}; a worker without skip_db_init=True makes it') from None
        except OSError as error:
            raise BackendUnavailable(f'{self.path} cannot be read or written: {error}') from error

    def current_revision(self) -> int | None:
        """See ``SingleWriterBackend``."""
        try:
            return int(json.loads((self.path / STATE).read_bytes())['state']['revision']['number'])
        except (OSError, ValueError, LookupError, TypeError):
            return None
