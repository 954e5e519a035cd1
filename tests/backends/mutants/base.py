"""The list of mutants, and their way into the store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol, TypeVar

import attrs

from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.backends.memory.store import MemorySpace
from jobsync.backends.single_writer import History, NamespaceState
from jobsync.errors import BackendUnavailable, SchemaMismatch
from jobsync.testing import Ability, Harness, MemoryHarness
from jobsync.testing.editable_store import EditableStore

__all__ = ['MUTANTS', 'DistantStore', 'Hands', 'Mutant', 'MutantHarness', 'mutant']


class Mutant(Protocol):
    """What the list needs to know of a backend that lacks something."""

    races: ClassVar[bool]
    """Whether it takes a race to notice: which tests do may differ from run to run."""
    limit_sec: ClassVar[int]
    """For one test."""

    @classmethod
    def harness(cls) -> Harness:
        """A harness with an empty store."""


MUTANTS: list[type[Mutant]] = []
T = TypeVar('T', bound=type[Mutant])


def mutant(kind: T) -> T:
    """Put a class on the list. Its docstring says what it lacks, to readers of the documentation."""
    MUTANTS.append(kind)
    return kind


class DistantStore(EditableStore):
    """One that can be away: a call that meets that has its effect, and its answer is lost."""

    is_away = False
    back = threading.Event()


class Hands(MemoryBackend):
    """Ways for a mutant to reach into the store. Without any fault it keeps the protocol."""

    races: ClassVar[bool] = False
    limit_sec: ClassVar[int] = 30
    loses: ClassVar[int] = 0
    """How many of the last changes are gone after a restart."""
    forgets_position: ClassVar[bool] = False
    """Whether the position begins anew after a restart."""

    @classmethod
    def harness(cls) -> Harness:
        """See ``Mutant``."""
        return MutantHarness(cls)

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        """See ``SingleWriterBackend``."""
        try:
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        finally:
            if isinstance(self.store, DistantStore) and self.store.is_away:
                self.miss(self.store)

    def read_namespaces(self, limit: int) -> list[str]:
        """See ``BackendInfo.namespaces``."""
        if isinstance(self.store, DistantStore) and self.store.is_away:
            self.miss(self.store)
        return super().read_namespaces(limit)

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        if isinstance(self.store, DistantStore) and self.store.is_away:
            self.store.back.wait(timeout)
            return revision
        return super().wait(revision, timeout)

    def let_others_call(self, has_come: Callable[[], bool] = lambda: False) -> None:
        """Leave a gap of 20 ms, or until what another caller does in it has come: so it is met on a busy machine too."""
        with self.store.changed:
            self.store.changed.wait_for(has_come, 0.02)

    def miss(self, store: DistantStore) -> None:
        """What happens to a call while the store is away."""
        raise BackendUnavailable('the store is away')

    @property
    def space(self) -> MemorySpace:
        """The namespace as it is."""
        if self.options.namespace not in self.store.spaces:
            raise SchemaMismatch(f'there is no namespace {self.options.namespace!r}')
        return self.store.spaces[self.options.namespace]

    @property
    def number(self) -> int:
        """The revision's number, 0 where there is none."""
        return self.current_revision() or 0

    @property
    def state(self) -> NamespaceState:
        """Its state."""
        return self.space.state

    @property
    def records(self) -> History:
        """Its history."""
        assert self.space
        return self.store.histories.setdefault(self.options.namespace, History())

    def change(self, **fields: object) -> None:
        """Replace parts of the state past every rule."""
        self.change_space(state=attrs.evolve(self.state, **fields))  # type: ignore[arg-type]

    def change_space(self, **fields: object) -> None:
        """Replace parts of the namespace past every rule."""
        with self.store.changed:
            self.store.spaces[self.options.namespace] = attrs.evolve(self.space, **fields)  # type: ignore[arg-type]

    def change_node(self, name: str, **fields: object) -> None:
        """Replace parts of one node's record."""
        with self.store.changed:
            nodes = self.state.nodes
            if name in nodes:
                self.change(nodes={**nodes, name: attrs.evolve(nodes[name], **fields)})  # type: ignore[arg-type]


class MutantHarness(MemoryHarness):
    """A memory store that can be away, small enough for a run of the suite to take a few seconds."""

    abilities = frozenset(Ability) - {Ability.PROCESSES}
    pool_sizes, lock_counts, examples = (1_000,), (100,), 10

    def __init__(self, kind: type[Hands]) -> None:
        super().__init__(kind, store=DistantStore)
        self._kind = kind

    def connect(self, namespace: str = 'sync_', **options: float) -> Hands:
        """See ``Harness``."""
        return self._kind(self.store, BackendOptions(namespace, **options))

    def stop(self) -> None:
        """See ``Harness``."""
        assert isinstance(self.store, DistantStore)
        self.store.is_away, self.store.back = True, threading.Event()

    def start(self) -> None:
        """See ``Harness``."""
        assert isinstance(self.store, DistantStore)
        self.store.is_away = False
        self.store.back.set()

    def restart(self) -> None:
        """The last changes may be lost."""
        if self._kind.loses:
            for name, space in self.store.spaces.items():
                state = attrs.evolve(space.state, nodes=dict(list(space.state.nodes.items())[: -self._kind.loses]))
                self.store.spaces[name] = attrs.evolve(space, state=state)
        super().restart()
        if self._kind.forgets_position:
            self.store.position = 0
