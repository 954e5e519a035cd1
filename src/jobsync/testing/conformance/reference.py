"""The harness of the memory backend, which is the reference."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from random import Random

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory import MemoryBackend
from jobsync.testing.conformance.harness import Ability, Harness
from jobsync.testing.editable_store import EditableStore

__all__ = ['MemoryHarness']


class MemoryHarness(Harness):
    """A memory store whose clock can be moved. A restart goes on with the records that the store held.

    Args:
        backend: Makes a handle from the store and its options, for tests of a class derived from ``MemoryBackend``.
        seed: Seed of the stamps and ids that the store chooses.
        store: The class of the store.
    """

    abilities = frozenset(Ability) - {Ability.OUTAGE, Ability.PROCESSES}

    def __init__(
        self,
        backend: Callable[[EditableStore, BackendOptions], Backend] = MemoryBackend,
        seed: int | None = None,
        store: type[EditableStore] = EditableStore,
    ) -> None:
        self._backend = backend
        self._ahead = dt.timedelta(0)
        self.store = store(clock=lambda: dt.datetime.now(dt.UTC) + self._ahead, random=Random(seed))

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        return self._backend(self.store, BackendOptions(namespace, **options))

    def restart(self) -> None:
        with self.store.changed:
            self.store.restore(self.store.image())

    def delete_node_row(self, namespace: str, name: str) -> None:
        self.store.delete_node_row(namespace, name)

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        self.store.delete_token_rows(namespace, tokens)

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        self.store.delete_lock_rows(namespace, ids)

    def spoil_node(self, namespace: str, name: str, way: str) -> None:  # noqa: ARG002 - there is one way
        self.store.spoil_node(namespace, name)

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:  # noqa: ARG002 - there is one way
        self.store.spoil_lock(namespace, task_id)

    def refuse_writes(self) -> None:
        self.store.refuses_writes = True

    def accept_writes(self) -> None:
        self.store.refuses_writes = False

    def move_clock(self, by: dt.timedelta) -> None:
        self._ahead += by

    def fail_over(self) -> None:
        self.store.identity = self.store.draw_id()

    def wipe(self) -> None:
        self.store.wipe(keep_schema=False)
