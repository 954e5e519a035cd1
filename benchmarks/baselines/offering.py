"""What an offer is given: the bench that ours is measured on, and places for what it starts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.servers import PostgresServer

from benchmarks.libraries.peer import admit
from benchmarks.places import ServedStore
from jobsync_bench.bench import Bench, Party

__all__ = ['ROLE', 'Offer', 'Slots', 'admitted', 'postgres_of']

T = TypeVar('T')

ROLE = 'peer'


class Slots:
    """What has been started beside one scenario: one thing in each slot, which ends when another takes its place, or at the end.

    So a process that has a million tokens at hand is there as long as it is measured, and not longer.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._taken: dict[str, tuple[Hashable, Any, ExitStack]] = {}

    def have(self, slot: str, key: Hashable, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What is in the slot, if that was made for ``key``; else what ``make`` gives, in its place."""
        if slot in self._taken:
            known, thing, stack = self._taken[slot]
            if known == key:
                there: T = thing
                return there
            del self._taken[slot]
            stack.close()
        stack = ExitStack()
        made = stack.enter_context(make())
        self._taken[slot] = (key, made, stack)
        return made

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End everything, the last first; if something went wrong, at once."""
        all_of_them = ExitStack()
        for _, _, stack in self._taken.values():
            all_of_them.push(stack)
        self._taken.clear()
        all_of_them.__exit__(kind, error, traceback)

    def __enter__(self) -> Self:
        return self


Offer = Callable[[Slots, str], Mapping[str, Party]]
"""Given the slots and the case, whoever can do that. Raises ``LibraryUnavailable``."""


def postgres_of(bench: Bench) -> PostgresServer | None:
    """The server that ours is measured on, if it is PostgreSQL."""
    store = bench.store
    return store.server if isinstance(store, ServedStore) and isinstance(store.server, PostgresServer) else None


def admitted(server: PostgresServer, *roles: str) -> str:
    """An empty database of the peer's on a server where it may have had one before, and its roles; the server's port."""
    server.psql('DROP DATABASE IF EXISTS peer WITH (FORCE)', *(f'DROP ROLE IF EXISTS {role}' for role in roles))
    return admit(server, *roles)
