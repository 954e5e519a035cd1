"""What is in a namespace's directory, and how a change of it happens all at once.

``head.json`` is all that a heartbeat needs. It names the other files: the assignment and the task locks, each written whole
under a new name, and the trails, of which only as many bytes count as it says. So whatever a call writes, nobody sees it before
``head.json`` has been replaced, and a crash at any point leaves either the old state or the new one.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
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
    SingleWriterBackend,
    Transaction,
)
from jobsync.errors import BackendUnavailable, SchemaMismatch
from jobsync_files.folder import GATE, Folder, locked
from jobsync_files.records import json_of, loaded, readable

__all__ = ['FilesBackend']

HEAD, IDENTITY, FORMAT = 'head.json', 'identity', 2


@attrs.frozen
class Index:
    """What ``head.json`` holds."""

    head: NamespaceState
    table: str | None = None
    locks: str | None = None
    trails: str | None = None
    trails_length: int = 0
    writes: int = 0
    """How often this file has been replaced: the position of the store."""
    format: int = FORMAT

    @property
    def files(self) -> set[str]:
        """All files that count."""
        return {GATE, HEAD, IDENTITY, *filter(None, (self.table, self.locks, self.trails))}


class FilesTurn(Transaction):
    """A namespace's directory while nobody else has it."""

    def __init__(self, folder: Folder, *, create: bool) -> None:
        self._folder = folder
        names = folder.names()
        if create and IDENTITY not in names:
            folder.put(IDENTITY, secrets.token_hex(16).encode())
        identity = self._identity()
        if create and HEAD not in names:
            self._index = Index(NamespaceState(CallContext(identity).timeline()))
        else:
            self._index = self._index_of(folder.read(HEAD))
        self.moment = CallContext(identity, position=self._index.writes)
        self.head = self._index.head
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
        """What tells these files from a copy of them: a file's number and the time of its making cannot be copied."""
        found = self._folder.stat(IDENTITY)
        return f'{self._folder.read(IDENTITY).decode()}:{found.st_ino}:{found.st_ctime_ns}'

    def table(self) -> AssignmentTable:
        """See ``Transaction``."""
        return (
            AssignmentTable.of(loaded(self._folder.read(self._index.table), Changes)) if self._index.table else AssignmentTable()
        )

    def locks(self) -> LockTable:
        """See ``Transaction``."""
        return loaded(self._folder.read(self._index.locks), LockTable) if self._index.locks else LockTable()

    def trails(self) -> History:
        """See ``Transaction``."""
        trails = History()
        if self._index.trails:
            lines = self._folder.read(self._index.trails, self._index.trails_length).splitlines()
            trails.add(readable(lines))
        return trails

    def put(
        self,
        head: NamespaceState,
        *,
        table: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        trails: History | None = None,
    ) -> None:
        """See ``Transaction``: first everything that nobody looks at yet, then the head, in one step."""
        before, index = self._index, attrs.evolve(self._index, head=head, writes=self._index.writes + 1)
        if table is not None:
            index = attrs.evolve(index, table=self._write('table', table.read(None)))
        if locks is not None:
            index = attrs.evolve(index, locks=self._write('locks', locks))
        name, length = (None, 0) if trails is not None else (index.trails, index.trails_length)
        lines = b''.join(json_of.dumps(record, Record).encode() + b'\n' for record in (*(trails or ()), *records))
        if lines:
            name = name or f'trails.{secrets.token_hex(8)}.jsonl'
            self._folder.write(name, length, lines)
        index = attrs.evolve(index, trails=name, trails_length=length + len(lines))
        self._folder.put(HEAD, json_of.dumps(index).encode())
        for outdated in before.files - index.files:
            self._folder.remove(outdated)
        self._index, self.head = index, head

    def _write(self, kind: str, value: object) -> str:
        """Write a file under a name that counts once the head has it."""
        name = f'{kind}.{secrets.token_hex(8)}.json'
        self._folder.put(name, json_of.dumps(value).encode())
        return name


class FilesBackend(SingleWriterBackend):
    """A ``Backend`` on the folder ``path``, in which each namespace has a directory of its own."""

    info = BackendInfo('files', durable=True, push=True, reach=Reach.HOST, max_tokens=100_000)

    def __init__(self, path: Path, options: BackendOptions) -> None:
        super().__init__(options)
        self.path = path / options.namespace

    @contextlib.contextmanager
    def turn(self, *, bulk: bool = False, create: bool = False) -> Iterator[FilesTurn]:
        """See ``SingleWriterBackend``. No exception of the operating system gets out of here."""
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, self.options.bulk_timeout_sec if bulk else self.options.op_timeout_sec) as folder:
                yield FilesTurn(folder, create=create)
        except FileNotFoundError:
            raise SchemaMismatch(f'there is no namespace at {self.path}; open it with create=True') from None
        except OSError as error:
            raise BackendUnavailable(f'{self.path} cannot be read or written: {error}') from error

    def current_revision(self) -> int | None:
        """See ``SingleWriterBackend``."""
        try:
            return int(json.loads((self.path / HEAD).read_bytes())['head']['revision']['number'])
        except (OSError, ValueError, LookupError, TypeError):
            return None
