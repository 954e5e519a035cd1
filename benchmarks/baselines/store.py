"""Baselines of writes: the peer on the same PostgreSQL, bare statements, and the smallest calls of the store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial

from benchmarks.baselines.bare import bare_calls, bare_statements
from benchmarks.baselines.offering import ROLE, Offer, Slots, admitted, postgres_of
from benchmarks.libraries.catalogue import service
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.process import LibraryProcess
from jobsync import plugins
from jobsync.backend import BackendOptions, Settings
from jobsync_bench.bench import Party, Run
from jobsync_bench.figures import Side
from jobsync_bench.scenarios.bulk import number_of
from jobsync_bench.timing import seconds

__all__ = ['OFFERS']

_NODES = 10
_TOKENS = 10_000


def peer_of(slots: Slots, what: str, tokens: int, number: int) -> LibraryProcess | None:
    """Start a peer that leads ``number`` nodes (``joining``) or writes ``number`` rows (``trails``); None on other stores."""
    server = postgres_of(slots.bench)
    if server is None:
        return None

    def started() -> AbstractContextManager[LibraryProcess]:
        python_of('peer')
        some = {'nodes': number} if what == 'joining' else {'number': number}
        return service(f'peer {what}').start(port=admitted(server, ROLE), role=ROLE, tokens=tokens, **some)

    return slots.have('peer', (what, tokens, number), started)


def joining(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer the peer's ``distribute`` for the same change."""
    other = peer_of(slots, 'joining', int(case.split()[0].replace(',', '')), _NODES)
    if other is None:
        return {}

    def join() -> float:
        took = other.run('join')
        other.run('leave')
        return took

    return {'peer': Party(join)}


def nothing(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer the peer's ``distribute`` when nothing has changed."""
    other = peer_of(slots, 'joining', int(case.split()[0].replace(',', '')), _NODES)
    return {} if other is None else {'peer': Party(partial(other.run, 'nothing'))}


def bulk(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer the peer's public bulk calls."""
    other = peer_of(slots, 'trails', _TOKENS, number_of(slots.bench))
    return {} if other is None else {'peer': Party(partial(other.run, case))}


def one_task(slots: Slots, case: str) -> Mapping[str, Party]:  # noqa: ARG001 - every party is made by such a call
    """Offer the peer's ``add_task``, as called by ``audits`` for each of its tasks."""
    number = number_of(slots.bench)
    other = peer_of(slots, 'trails', _TOKENS, number)
    return {} if other is None else {'peer': Party(lambda: other.run('add_task') / number)}


def statements(slots: Slots) -> Mapping[str, Callable[[], float]]:
    """Start bare statements on tables like those of jobsync; None on other stores."""
    bench = slots.bench
    if postgres_of(bench) is None:
        return {}

    @contextmanager
    def made() -> Iterator[Mapping[str, Callable[[], float]]]:
        namespace = f'like_{secrets.token_hex(4)}_'
        with closing(plugins.connect(bench.store.url, BackendOptions(namespace))) as backend:
            backend.open(Settings(_TOKENS, 'xxh3', 1), create=True)
        with bare_statements(bench.store.url, namespace, number_of(bench)) as runs:
            yield runs

    return slots.have('bare', '', made)


def bare_bulk(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer one statement that inserts as many rows. Audits are measured with rows of claims."""
    run = statements(slots).get('locks' if case == 'locks' else 'claims')
    return {} if run is None else {'bare statement': Party(run, Side.FLOOR)}


def bare_row(slots: Slots, case: str) -> Mapping[str, Party]:  # noqa: ARG001 - every party is made by such a call
    """Offer the insert of one durable row."""
    run = statements(slots).get('row')
    return {} if run is None else {'bare statement': Party(run, Side.FLOOR)}


def smallest(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer the smallest read and the smallest confirmed write by the store's driver."""
    bench = slots.bench
    found = slots.have('smallest', '', lambda: bare_calls(bench.place, bench.store.url))
    if found is None:
        return {}
    ask, write = found
    run: Run = partial(seconds, write if case in ('heartbeat', 'one claim') else ask)
    return {'bare write' if case in ('heartbeat', 'one claim') else 'bare round trip': Party(run, Side.FLOOR)}


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {
    ('commit', 'join'): (joining,),
    ('commit', 'nothing'): (nothing,),
    ('bulk', 'bulk'): (bulk, bare_bulk),
    ('bulk', 'task'): (one_task, bare_row),
    ('calls', 'call'): (smallest,),
}
