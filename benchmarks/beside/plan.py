"""Beside our plan: the peer's, for the tasks that it can express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from benchmarks.beside.offering import Offer, Slots
from benchmarks.plan import peer_seconds, start_peer
from benchmarks.rivals.environments import python_of

from jobsync.bench.bench import Contestant, Run

__all__ = ['OFFERS']

_TASKS = {'one joins': 'join', 'one leaves': 'leave', 'nothing to do': 'nothing', 'first plan': 'first'}
"""Ours, in the words of ``plan_peer``."""


def peer(slots: Slots, case: str) -> Mapping[str, Contestant]:
    """A process with the same owners as ours."""
    name, _, size = case.partition(': ')
    if name not in _TASKS:
        return {}
    tokens, nodes = (int(number.replace(',', '')) for number in size.split(' x '))

    @contextmanager
    def started() -> Iterator[Run]:
        with start_peer(str(python_of('peer')), _TASKS[name], nodes, tokens) as process:
            try:
                yield partial(peer_seconds, process)
            finally:
                process.kill()

    return {'peer': Contestant(slots.have('peer', case, started))}


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {('plan', 'plan'): (peer,)}
