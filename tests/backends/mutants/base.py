"""The list of mutants, and their way into the store."""

from __future__ import annotations

import attrs

from jobsync.backends.memory import MemoryBackend

MUTANTS: list[type[MemoryBackend]] = []


def mutant(kind: type[MemoryBackend]) -> type[MemoryBackend]:
    """Put a class on the list."""
    MUTANTS.append(kind)
    return kind


class Hands(MemoryBackend):
    """Ways for a mutant to reach into the store."""

    def change(self, **fields: object) -> None:
        """Replace parts of the namespace past every rule."""
        with self.store.changed:
            self.store.spaces[self._name] = attrs.evolve(self._space(), **fields)  # type: ignore[arg-type]

    def change_node(self, name: str, **fields: object) -> None:
        """Replace parts of one node's record."""
        with self.store.changed:
            nodes = self._space().nodes
            if name in nodes:
                self.change(nodes={**nodes, name: attrs.evolve(nodes[name], **fields)})  # type: ignore[arg-type]
