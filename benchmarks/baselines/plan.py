"""Baselines of the plan scenario: the peer's plan, for the tasks that it can express."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from benchmarks.baselines.offering import Offer, Slots
from benchmarks.libraries.catalogue import service
from benchmarks.libraries.process import LibraryProcess
from jobsync_bench.bench import Party

__all__ = ['OFFERS']

_TASKS = {'one joins': 'join', 'one leaves': 'leave', 'nothing to do': 'nothing', 'first plan': 'first'}
"""Tasks of the scenario, and their names in ``peer_plan``."""


def peer(slots: Slots, case: str) -> Mapping[str, Party]:
    """Offer a process with the same owners as in the scenario."""
    name, _, size = case.partition(': ')
    if name not in _TASKS:
        return {}
    tokens, nodes = (int(number.replace(',', '')) for number in size.split(' x '))

    def started() -> LibraryProcess:
        return service('peer plan').start(change=_TASKS[name], nodes=nodes, tokens=tokens)

    return {'peer': Party(partial(slots.have('peer', case, started).run, 'plan'))}


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {('plan', 'plan'): (peer,)}
