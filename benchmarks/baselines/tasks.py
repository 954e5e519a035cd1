"""Baselines of ``claim``: the peer's loop, a queue in a table, and procrastinate, all on the same PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial

from benchmarks.baselines.offering import ROLE, Offer, Slots, admitted, postgres_of
from benchmarks.baselines.teams import Team, peers, queue
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.rounds import Round
from jobsync_bench.bench import Party

__all__ = ['OFFERS']

_PROCESSES = (1, 4)
"""Numbers of processes with baselines. Other numbers would take half of the run's time."""
_TASKS = {
    ('peer', 'steps'): 2_000,
    ('skip-locked', 'one'): 2_000,
    ('skip-locked', 'kept'): 1_000,
    ('skip-locked', 'batch'): 20_000,
    ('procrastinate', 'one'): 500,
    ('procrastinate', 'many'): 1_000,
}
"""Tasks of a round: the work of one or two seconds."""
_QUICK = (('peer', 'steps'), ('skip-locked', 'one'))
_PILE = (('peer', 'steps'), ('skip-locked', 'kept'))
"""Those that record each task as ``batch`` does."""


def rate(team: Team, verb: str, count: int) -> float:
    """Return the tasks per second. Raises ``RuntimeError`` for a round in which tasks were done twice or not at all."""
    done: Round = team.round(verb, count)
    if done.twice or done.missed:
        raise RuntimeError(f'{team.name}: of {count} tasks {done.twice} were done more than once, {done.missed} by nobody')
    return 1 / done.per_task


def contestants(slots: Slots, case: str, chosen: Collection[tuple[str, str]] = _TASKS) -> Mapping[str, Party]:
    """Offer the chosen parties, with the same number of processes."""
    server, processes = postgres_of(slots.bench), int(case.split()[0])
    if server is None or processes not in _PROCESSES or (slots.bench.quick and processes > 1):
        return {}
    teams: dict[str, Callable[[], AbstractContextManager[Team]]] = {
        'peer': lambda: peers(server, processes),
        'skip-locked': lambda: queue('skip-locked', server.url(), processes),
        'procrastinate': lambda: queue('procrastinate', server.url(), processes),
    }
    found: dict[str, Party] = {}
    for (name, verb), count in _TASKS.items():
        if (name, verb) not in chosen or (slots.bench.quick and (name, verb) not in _QUICK):
            continue

        def started(name: str = name) -> AbstractContextManager[Team]:
            python_of(name)
            if name == 'peer':
                admitted(server, ROLE)
            return teams[name]()

        team = slots.have(name, processes, started)
        who = name if name == 'peer' else f'{name}, {verb}'
        found[who] = Party(partial(rate, team, verb, count // 2 if slots.bench.quick else count))
    return found


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {
    ('tasks', 'rate'): (contestants,),
    ('batch', 'rate'): (partial(contestants, chosen=_PILE),),
}
