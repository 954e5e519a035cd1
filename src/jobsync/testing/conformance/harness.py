"""What the suite needs to know of a store, and what it may do to it: the one object an author supplies.

A difference between stores is data here (``Harness.abilities``). A test that needs an ability the harness does not have fails if
something the backend declares of itself calls for it; else pytest skips it and says what was not tried.
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

Test = TypeVar('Test', bound=Callable[..., None])


class Ability(enum.Enum):
    """Something a harness can do to its store besides opening it."""

    RESTART = 'the store goes down and comes up again'
    CRASH = 'the store is killed while others use it, and comes up again'
    OUTAGE = 'the store is away for a while'
    REFUSAL = 'the store answers readings and refuses writes for a while'
    PROCESSES = 'other processes of this host reach the store'
    HAND_EDITS = 'rows are deleted as an operator would'
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
"""What a backend's declarations oblige its harness to be able to do. No declaration calls for the other abilities."""


class Harness:
    """One store for one test, empty at first. Override ``connect``, and what ``abilities`` declares."""

    abilities: frozenset[Ability] = frozenset()
    proves_declarations: bool = True
    """Whether it is a failure if the backend declares what no ability of the harness can put to the test."""
    pool_sizes: tuple[int, ...] = (10_000, 100_000)
    """Pools to try, besides the largest that the backend declares."""
    lock_counts: tuple[int, ...] = (2_000, 10_000)
    """Numbers of task locks to try."""
    examples: int = 25
    """How many sequences of calls are compared with the reference, each in a namespace of its own."""

    stopped_sec: float = 5.0
    """``PROCESSES``: for how long at most a process is kept stopped in the middle of a write, until another's write goes through.
    Must be longer than anything in the store lasts that stands for a process: a lock with a time to live, a session."""
    node_spoils: tuple[str, ...] = ('record',)
    """``SPOIL``: the names of all ways in which a node's record may be spoilt, a field each for instance."""
    lock_spoils: tuple[str, ...] = ('record',)
    """``SPOIL``: the names of all ways in which a task lock may be spoilt."""

    def hurry(self) -> None:
        """Settle for less, where a whole run takes too long: small pools, few locks, few sequences of calls."""
        self.pool_sizes, self.lock_counts, self.examples = (1_000,), (100,), 5

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """A fresh handle onto the store, not opened; ``options`` are fields of ``BackendOptions``."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every handle that ``connect`` gave and remove the store."""

    def restart(self) -> None:
        """``RESTART``: kill the store without notice and start it again; return when it answers.

        ``CRASH``: calls may be under way; what the store acknowledges to any of them must not be lost by this method itself.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """``OUTAGE``: from now on the store does not answer."""
        raise NotImplementedError

    def start(self) -> None:
        """``OUTAGE``: end it; return when the store answers."""
        raise NotImplementedError

    def refuse_writes(self) -> None:
        """``REFUSAL``: from now on the store answers readings, and refuses whatever changes something."""
        raise NotImplementedError

    def accept_writes(self) -> None:
        """``REFUSAL``: end it; return when the store accepts writes."""
        raise NotImplementedError

    def connector(self) -> Callable[[str], Backend]:
        """``PROCESSES``: a picklable function from a namespace to a handle, for use in another process."""
        raise NotImplementedError

    def delete_node_row(self, namespace: str, name: str) -> None:
        """``HAND_EDITS``: delete a node's record with the store's own tools."""
        raise NotImplementedError

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        """``HAND_EDITS``: delete the rows of tokens; try to delete those of pins, which have higher numbers."""
        raise NotImplementedError

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        """``HAND_EDITS``: delete task locks by id."""
        raise NotImplementedError

    def spoil_node(self, namespace: str, name: str, way: str) -> None:
        """``SPOIL``: make a node's record unreadable in one of ``node_spoils``, with the store's own tools; keep its name."""
        raise NotImplementedError

    def spoil_lock(self, namespace: str, task_id: str, way: str) -> None:
        """``SPOIL``: make a task lock unreadable in one of ``lock_spoils``, with the store's own tools; keep its task."""
        raise NotImplementedError

    def move_clock(self, by: dt.timedelta) -> None:
        """``CLOCK``: the store's time jumps by this much, which may be negative."""
        raise NotImplementedError

    def fail_over(self) -> None:
        """``FAILOVER``: another store with the same content answers from now on."""
        raise NotImplementedError

    def wipe(self) -> None:
        """``WIPE``: every record and the schema are gone."""
        raise NotImplementedError


def needs(ability: Ability) -> Callable[[Test], Test]:
    """Mark a test that uses an ability of its ``harness``; pytest skips the test where the harness lacks the ability."""

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def checked(*args: Any, **arguments: Any) -> None:
            harness: Harness = arguments['harness']
            if ability in harness.abilities:
                test(*args, **arguments)
            else:
                if harness.proves_declarations:
                    check_not_called_for(ability, harness.connect().info)
                pytest.skip(f'needs {ability.name}: {ability.value}')

        return checked  # type: ignore[return-value]

    return decorate


class UntestedDeclaration(AssertionError):
    """A backend declares what its harness has no way to put to the test."""


def check_not_called_for(ability: Ability, info: BackendInfo) -> None:
    """Raise ``UntestedDeclaration`` if a backend that declares ``info`` must be tested with ``ability``."""
    if ability in CALLED_FOR and CALLED_FOR[ability](info):
        raise UntestedDeclaration(
            f'{info.name} declares durable={info.durable}, reach={info.reach.value}, sql={info.sql}: '
            f'its harness must declare and implement {ability} ({ability.value})'
        )
