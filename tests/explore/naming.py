"""Names of steps, by which a way can be written down and gone again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.explore.terms import Term

from jobsync.backend import LockEdit

if TYPE_CHECKING:
    from tests.explore.cluster import Cluster, State, Step

__all__ = ['led_to', 'step_name', 'taken']

_MOST_STEPS = 200
"""Within so many steps of a cluster to which nothing happens the next step of a beginning must be possible."""


def step_name(cluster: Cluster, step: Step) -> str:
    """Return the name of a step: no other step from the same state has it."""
    who = '' if step.process < 0 else cluster.name(step.process)
    more = step.more
    if hasattr(more, 'command'):
        more = more.command.head.__name__
    elif isinstance(more, tuple):
        more = f'lane {more[0]}'
    elif isinstance(more, Term):
        more = more.head.__name__
    elif isinstance(more, LockEdit):
        more = None
    return ' '.join(str(part) for part in (step.kind, who, more) if part)


def taken(cluster: Cluster, state: State, name: str) -> tuple[Step, State] | None:
    """Return the step of this name and the state after it; None if there is no such step."""
    return next(((step, after) for step, after in cluster.steps(state) if step_name(cluster, step) == name), None)


def led_to(cluster: Cluster, state: State, name: str) -> State:
    """Return the state after the step of this name, before which the cluster goes on until there is such a step."""
    for _ in range(_MOST_STEPS):
        if (found := taken(cluster, state, name)) is not None:
            return found[1]
        state = _gone_on(cluster, state)
    raise RuntimeError(f'{cluster.world.name}: there is no step {name!r}')


def _gone_on(cluster: Cluster, state: State) -> State:
    """Return the next state if nothing else happens: a process that is paused stays so, what is late stays late."""
    calls = [(step, after) for step, after in cluster.steps(state) if step.kind in {'call', 'fails', 'tick'}]
    first = calls[0][0].process
    # Of the calls of one process the last: a heartbeat puts off the next reading, so work comes first.
    return [after for step, after in calls if step.process == first and not (step.kind == 'tick' and step.more)][-1]
