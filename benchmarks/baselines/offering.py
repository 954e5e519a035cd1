"""Arguments of an offer: the bench, and slots for the processes that the offer starts."""

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
    """The processes of one scenario's baselines: one per slot, which ends when another takes its place, or with the scenario.

    So a process with a million tokens in memory runs only as long as it is measured.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._taken: dict[str, tuple[Hashable, Any, ExitStack]] = {}

    def have(self, slot: str, key: Hashable, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Return the content of the slot if it was made for ``key``; otherwise put the content from ``make`` into the slot."""
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
        """End the contents of all slots, the last first; immediately after an error."""
        all_of_them = ExitStack()
        for _, _, stack in self._taken.values():
            all_of_them.push(stack)
        self._taken.clear()
        all_of_them.__exit__(kind, error, traceback)

    def __enter__(self) -> Self:
        return self


Offer = Callable[[Slots, str], Mapping[str, Party]]
"""Returns the parties that can do the work, for slots and a case. Raises ``LibraryUnavailable``."""


def postgres_of(bench: Bench) -> PostgresServer | None:
    """Return the server of the bench, or None if it is not PostgreSQL."""
    store = bench.store
    return store.server if isinstance(store, ServedStore) and isinstance(store.server, PostgresServer) else None


def admitted(server: PostgresServer, *roles: str) -> str:
    """Make an empty database and roles for the peer, in place of earlier ones, and return the server's port."""
    server.psql('DROP DATABASE IF EXISTS peer WITH (FORCE)', *(f'DROP ROLE IF EXISTS {role}' for role in roles))
    return admit(server, *roles)
