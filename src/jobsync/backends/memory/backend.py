"""The backend on a memory store: a transaction holds the store's lock, and ``put`` replaces a value."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

from jobsync.backend import BackendInfo, BackendOptions, Reach
from jobsync.backends.memory.store import MemorySpace, MemoryStore
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
from jobsync.errors import SchemaMismatch

__all__ = ['MemoryBackend']


class MemoryTransaction(Transaction):
    """One namespace of a store whose lock is held."""

    def __init__(self, store: MemoryStore, name: str, space: MemorySpace, context: CallContext) -> None:
        self._store, self._name, self._space = store, name, space
        self.state, self.context = space.state, context

    def assignment(self) -> AssignmentTable:
        return self._space.assignment

    def locks(self) -> LockTable:
        return self._space.locks

    def history(self) -> History:
        return self._store.histories.setdefault(self._name, History())

    def put(
        self,
        state: NamespaceState,
        *,
        assignment: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        purged: Collection[Row] = (),
    ) -> None:
        if state.revision != self.state.revision:
            self._store.concerned[self._name].note(state.revision.number, self.concerned)
        self.state = state
        self._space = MemorySpace(state, assignment or self._space.assignment, locks or self._space.locks)
        self._store.put(self._name, self._space)
        history = self.history()
        history.remove(purged)
        history.add(records)


class MemoryBackend(SingleWriterBackend):
    """A ``Backend`` on a ``MemoryStore``."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(options or BackendOptions())
        self.store = store

    @property
    def info(self) -> BackendInfo:
        """See ``Backend.info``. The store lives as long as its process, and loses nothing that it acknowledged."""
        return BackendInfo(
            'memory', durable=self.store.durable, push=True, reach=Reach.PROCESS, max_tokens=10_000_000, namespaces=True
        )

    def read_namespaces(self, limit: int) -> list[str]:
        with self.store.lock:
            return sorted(self.store.spaces)[:limit]

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:  # noqa: ARG002 - nothing takes time
        name = self.options.namespace
        with self.store.lock:
            space = self.store.spaces.get(name) or (self.store.new_space() if create else None)
            if space is None:
                raise SchemaMismatch(f'there is no namespace {name!r} in this store; a worker without skip_db_init=True makes it')
            yield MemoryTransaction(self.store, name, space, self.store.context())

    def current_revision(self) -> int | None:
        space = self.store.spaces.get(self.options.namespace)
        return space.state.revision.number if space else None

    def wait(self, revision: int, timeout: float) -> int:
        with self.store.lock:
            self.store.changed.wait_for(lambda: self._closed.is_set() or (self.current_revision() or 0) > revision, timeout)
            number = self.current_revision()
            return self.store.concerned[self.options.namespace].hint(revision if number is None else number, revision)

    def close(self) -> None:
        with self.store.lock:
            super().close()
            self.store.changed.notify_all()
