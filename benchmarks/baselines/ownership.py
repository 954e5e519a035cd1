"""Baselines of ``can_claim_task``: that of the peer, ``belongs_to_self`` of tooz, and a row lock in a queue's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from tests.support.servers import PostgresServer, RedisServer

from benchmarks.baselines.offering import ROLE, Offer, Slots
from benchmarks.libraries.catalogue import service
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.peer import admit
from benchmarks.libraries.process import LibraryProcess
from benchmarks.libraries.tooz_group import Group
from benchmarks.libraries.tooz_group import admitted as admitted_to_redis
from jobsync_bench.bench import Party

__all__ = ['OFFERS']

_CALLS = 1_000
_WATCH_SEC = 1.0


def words_of(case: str) -> tuple[str, int]:
    """Return the kind of id, and 1 if it is owned."""
    kind, _, owned = case.partition(', ')
    return kind, int(owned == 'owned')


def peer(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer one of two workers of the peer."""

    @contextmanager
    def started() -> Iterator[LibraryProcess]:
        python_of('peer')
        server = slots.have('postgresql', '', lambda: closing(PostgresServer()))
        with service('peer claim').start(port=admit(server, ROLE), role=ROLE, calls=_CALLS) as other:
            yield other

    kind, owned = words_of(case)
    return {'peer': Party(partial(slots.have('peer', '', started).run, f'{kind} {owned}'))}


def tooz(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer a member of a partitioned group of three."""

    @contextmanager
    def started() -> Iterator[LibraryProcess]:
        python_of('tooz')
        with ExitStack() as stack:
            redis = stack.enter_context(closing(RedisServer()))
            yield Group(stack, admitted_to_redis(redis), _WATCH_SEC).member

    kind, owned = words_of(case)
    return {'tooz': Party(partial(slots.have('tooz', '', started).run, f'lookup {kind} {owned} {_CALLS}'))}


def queue(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer a table of tasks: a row lock checks whether a task is free. Only for the case in which all tasks are free."""
    if case != 'int, owned':
        return {}

    @contextmanager
    def started() -> Iterator[LibraryProcess]:
        python_of('skip-locked')
        server = slots.have('postgresql', '', lambda: closing(PostgresServer()))
        with service('skip-locked').start(url=server.url()) as other:
            other.ask(f'fill 0 {_CALLS}')
            yield other

    return {'skip-locked': Party(partial(slots.have('queue', '', started).run, 'decide 0 100'))}


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {('ownership', 'call'): (peer, tooz, queue)}
