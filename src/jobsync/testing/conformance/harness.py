"""The harness: the one object that an author supplies to connect the suite with a store.

A difference between stores is data here (``Harness.abilities``). A test that needs an ability which the harness lacks fails if a
declaration of the backend calls for the ability. Otherwise pytest skips the test and reports what was not tried.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

from jobsync.backend import Backend, BackendInfo, Reach

__all__ = ['Ability', 'Harness', 'UntestedDeclaration', 'needs']

Test = TypeVar('Test', bound=Callable[..., object])


class Ability(enum.Enum):
    """An action of the harness on its store, besides connecting to it."""

    RESTART = 'the store goes down and comes up again'
    CRASH = 'the store is killed while others use it, and comes up again'
    OUTAGE = 'the store is away for a while'
    REFUSAL = 'the store answers readings and refuses writes for a while'
    PROCESSES = 'other processes of this host reach the store'
    HAND_EDITS = 'rows are deleted as an operator does'
    SPOIL = 'records are made unreadable with other tools'
    CLOCK = "the store's time is set"
    FAILOVER = "the store's own identity changes"
    WIPE = 'the store loses everything'


CALLED_FOR: dict[Ability, Callable[[BackendInfo], bool]] = {
    Ability.RESTART: lambda info: info.durable,
    Ability.CRASH: lambda info: info.reach is Reach.NETWORK,
    Ability.OUTAGE: lambda info: info.reach is Reach.NETWORK,
    Ability.PROCESSES: lambda info: info.reach is not Reach.PROCESS,
    Ability.HAND_EDITS: lambda info: info.sql,
    Ability.SPOIL: lambda info: info.reach is not Reach.PROCESS,
    Ability.REFUSAL: lambda info: info.reach is Reach.NETWORK,
    Ability.WIPE: lambda info: info.reach is Reach.NETWORK,
}
"""For each ability the declarations of a backend that call for it. No declaration calls for the other abilities."""


class Harness:
    """One store for one test, empty at first. Override ``connect``, and the methods of each ability in ``abilities``."""

    abilities: frozenset[Ability] = frozenset()
    proves_declarations: bool = True
    """Whether a test fails whose ability is missing although a declaration of the backend calls for it."""
    pool_sizes: tuple[int, ...] = (10_000, 100_000)
    """Numbers of tokens to test, besides the largest pool that the backend declares; larger ones are cut down to that."""
    lock_counts: tuple[int, ...] = (2_000, 10_000)
    """Numbers of task locks to test."""
    examples: int = 25
    """How many sequences of calls are compared with the reference. Each runs in a namespace of its own."""
    rounds: int = 12
    """How many times the threads of a test race: through one handle, and as many through handles of their own."""

    stopped_sec: float = 5.0
    """``PROCESSES``: the longest time for which a process is kept stopped in the middle of a write, until another process has
    written. Must be longer than any lock with a time to live and any session that the store keeps for a process."""
    modules: tuple[str, ...] = ()
    """``PROCESSES``: names of modules that are imported before other processes are forked, to save time: the harness's own, the
    backend's and its driver's. None may start a thread when it is imported."""
    node_spoils: tuple[str, ...] = ('record',)
    """``SPOIL``: names of all ways in which the record of a node can be spoilt, for example one for each field."""
    lock_spoils: tuple[str, ...] = ('record',)
    """``SPOIL``: names of all ways in which a task lock can be spoilt."""

    def hurry(self) -> None:
        """Shorten the run: small pools, few locks, few sequences of calls, and processes that are stopped for a second."""
        self.pool_sizes, self.lock_counts, self.examples = (1_000,), (100,), 5
        self.stopped_sec = min(self.stopped_sec, 1.0)

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """Return a new handle that is not opened yet.

        Args:
            namespace: Name of the namespace that the handle uses.
            options: Further fields of ``BackendOptions``.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close every handle that ``connect`` returned, and remove the store."""

    def restart(self) -> None:
        """``RESTART``: kill the store without notice and start it again; return when it answers.

        ``CRASH``: calls may run meanwhile. This method itself must not lose a write that the store has acknowledged.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """``OUTAGE``: begin an outage, in which the store does not answer."""
        raise NotImplementedError

    def start(self) -> None:
        """``OUTAGE``: end the outage; return when the store answers."""
        raise NotImplementedError

    def refuse_writes(self) -> None:
        """``REFUSAL``: let the store answer reads and refuse writes from now on."""
        raise NotImplementedError

    def accept_writes(self) -> None:
        """``REFUSAL``: end the refusal; return when the store accepts writes."""
        raise NotImplementedError

    def connector(self) -> Callable[[str], Backend]:
        """Return (``PROCESSES``) a picklable function from the name of a namespace to a handle, for another process."""
        raise NotImplementedError

    def delete_node_row(self, namespace: str, name: str) -> None:
        """``HAND_EDITS``: delete the record of a node with the store's own tools."""
        raise NotImplementedError

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        """``HAND_EDITS``: delete the rows of tokens, and try to delete the rows of pins, which have higher numbers."""
        raise NotImplementedError

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        """``HAND_EDITS``: delete task locks by id."""
        raise NotImplementedError

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """``SPOIL``: make the record of a node unreadable in one of ``node_spoils``, but keep its name."""
        raise NotImplementedError

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """``SPOIL``: make a task lock unreadable in one of ``lock_spoils``, but keep its task id."""
        raise NotImplementedError

    def move_clock(self, by: dt.timedelta) -> None:
        """``CLOCK``: move the store's clock by this much, which may be negative."""
        raise NotImplementedError

    def fail_over(self) -> None:
        """``FAILOVER``: let another store with the same content answer from now on."""
        raise NotImplementedError

    def wipe(self) -> None:
        """``WIPE``: remove every record and the schema."""
        raise NotImplementedError


def needs(ability: Ability) -> Callable[[Test], Test]:
    """Mark a test, or every test of a class, that uses an ability of its ``harness``.

    Where the harness lacks the ability, pytest skips the test, or the test fails (``UntestedDeclaration``).
    """

    def decorate(test: Test) -> Test:
        if isinstance(test, type):
            for name, method in list(vars(test).items()):
                if name.startswith('test_'):
                    setattr(test, name, decorate(method))
            return test

        @functools.wraps(test)
        def checked(*args: Any, **arguments: Any) -> None:
            harness: Harness = arguments['harness']
            if ability in harness.abilities:
                test(*args, **arguments)
            else:
                if harness.proves_declarations:
                    check_not_called_for([ability], harness.connect().info)
                pytest.skip(f'needs {ability.name}: {ability.value}')

        return checked  # type: ignore[return-value]

    return decorate


class UntestedDeclaration(AssertionError):
    """A declaration of the backend that its harness cannot test."""


def check_not_called_for(abilities: Iterable[Ability], info: BackendInfo) -> None:
    """Raise ``UntestedDeclaration`` if ``info`` declares what only some of these abilities can test."""
    if wanted := [ability for ability in abilities if ability in CALLED_FOR and CALLED_FOR[ability](info)]:
        raise UntestedDeclaration(
            f'{info.name} declares durable={info.durable}, reach={info.reach.value}, sql={info.sql}: '
            f'its harness must declare and implement {", ".join(f"{ability} ({ability.value})" for ability in wanted)}'
        )
