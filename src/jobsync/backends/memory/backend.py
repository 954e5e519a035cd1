"""A memory store as a backend: a turn is the store's lock, and to put is to replace a value."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

from jobsync.backend import BackendInfo, BackendOptions, Reach
from jobsync.backends.memory.store import MemoryStore, Space
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
from jobsync.errors import SchemaMismatch

__all__ = ['MemoryBackend']


class MemoryTurn(Transaction):
    """One namespace of a store whose lock is held."""

    def __init__(self, store: MemoryStore, name: str, space: Space, moment: CallContext) -> None:
        self._store, self._name, self._space = store, name, space
        self.head, self.moment = space.head, moment

    def table(self) -> AssignmentTable:
        """See ``Transaction``."""
        return self._space.table

    def locks(self) -> LockTable:
        """See ``Transaction``."""
        return self._space.locks

    def trails(self) -> History:
        """See ``Transaction``."""
        return self._store.trails.setdefault(self._name, History())

    def put(
        self,
        head: NamespaceState,
        *,
        table: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        trails: History | None = None,
    ) -> None:
        """See ``Transaction``."""
        self.head = head
        self._space = Space(head, table or self._space.table, locks or self._space.locks)
        self._store.put(self._name, self._space)
        if trails is not None:
            self._store.trails[self._name] = trails
        self.trails().add(records)


class MemoryBackend(SingleWriterBackend):
    """A ``Backend`` on a ``MemoryStore``."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(options or BackendOptions())
        self.store = store

    @property
    def info(self) -> BackendInfo:
        """The store lives as long as its process; whatever it acknowledged, it has."""
        return BackendInfo('memory', durable=self.store.durable, push=True, reach=Reach.PROCESS, max_tokens=10_000_000)

    @contextlib.contextmanager
    def turn(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTurn]:  # noqa: ARG002 - nothing takes time
        """See ``SingleWriterBackend``."""
        name = self.options.namespace
        with self.store.changed:
            space = self.store.spaces.get(name) or (self.store.new_space() if create else None)
            if space is None:
                raise SchemaMismatch(f'there is no namespace {name!r} in this store; open it with create=True')
            yield MemoryTurn(self.store, name, space, self.store.moment())

    def current_revision(self) -> int | None:
        """See ``SingleWriterBackend``."""
        space = self.store.spaces.get(self.options.namespace)
        return space.head.revision.number if space else None

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout
        with self.store.changed:
            while True:
                number = self.current_revision()
                if number is None:
                    number = revision
                left = deadline - time.monotonic()
                if number > revision or left <= 0 or self._closed.is_set():
                    return number
                self.store.changed.wait(left)

    def close(self) -> None:
        """See ``Backend.close``."""
        with self.store.changed:
            super().close()
            self.store.changed.notify_all()
