"""The list of mutants, and their way into the store."""

from __future__ import annotations

from typing import ClassVar

import attrs

from jobsync.backends.memory import MemoryBackend
from jobsync.backends.memory.store import Space
from jobsync.backends.single_writer import Head, Trails
from jobsync.testing.conformance.reference import MemoryHarness

MUTANTS: list[type[MemoryBackend]] = []


def mutant(kind: type[MemoryBackend]) -> type[MemoryBackend]:
    """Put a class on the list."""
    MUTANTS.append(kind)
    return kind


class Hands(MemoryBackend):
    """Ways for a mutant to reach into the store."""

    harness: ClassVar[type[MemoryHarness]] = MemoryHarness

    @property
    def space(self) -> Space:
        """The namespace as it is."""
        return self.store.spaces[self.options.namespace]

    @property
    def head(self) -> Head:
        """Its head."""
        return self.space.head

    @property
    def trails(self) -> Trails:
        """Its trails."""
        return self.store.trails.setdefault(self.options.namespace, Trails())

    def change(self, **fields: object) -> None:
        """Replace parts of the head past every rule."""
        self.change_space(head=attrs.evolve(self.head, **fields))  # type: ignore[arg-type]

    def change_space(self, **fields: object) -> None:
        """Replace parts of the namespace past every rule."""
        with self.store.changed:
            self.store.spaces[self.options.namespace] = attrs.evolve(self.space, **fields)  # type: ignore[arg-type]

    def change_node(self, name: str, **fields: object) -> None:
        """Replace parts of one node's record."""
        with self.store.changed:
            nodes = self.head.nodes
            if name in nodes:
                self.change(nodes={**nodes, name: attrs.evolve(nodes[name], **fields)})  # type: ignore[arg-type]
