"""The table of faults, and how a run goes through a list of them.

A fault is a function with ``@fault`` that takes the scene and yields seconds to wait: what stands before a ``yield`` is done,
then the time passes while other faults of the run go on, and what follows undoes it. The undoing leaves all workers that should
be there running, and the store as available as before.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from random import Random

import attrs
from tests.faults.cluster import Scene
from tests.faults.places import PLACES

from jobsync.testing.worker_log import now

__all__ = ['ALL', 'ETCD', 'FAULTS', 'NETWORK', 'REDIS', 'SQL', 'Fault', 'Happening', 'draw', 'fault', 'play', 'until']

ALL = tuple(PLACES)
NETWORK = tuple(name for name in PLACES if name != 'sqlite')
SQL = ('sqlite', 'postgresql')
REDIS = ('redis', 'redis-memory', 'redis-replica')
ETCD = ('etcd', 'etcd-3')

Steps = Iterator[float]


@attrs.frozen
class Fault:
    """One way in which something goes wrong."""

    name: str
    run: Callable[[Scene], Steps]
    stores: tuple[str, ...]
    promise: str
    """What bounds the time without an owner: P2, P3 or P4; ``R8`` if the store goes back in time; empty for no bound."""
    touches: frozenset[str]
    """What it must have for itself: ``workers``, ``lines``, ``store``, ``rows``."""
    weight: float
    """How often it is drawn, compared with others."""


FAULTS: dict[str, Fault] = {}
"""By name, in the order of the table."""


def fault(
    name: str, stores: Iterable[str] = ALL, *, promise: str = '', touches: str = 'workers', weight: float = 1.0
) -> Callable[[Callable[[Scene], Steps]], Callable[[Scene], Steps]]:
    """Put a function into the table."""

    def put(function: Callable[[Scene], Steps]) -> Callable[[Scene], Steps]:
        FAULTS[name] = Fault(name, function, tuple(stores), promise, frozenset(touches.split()), weight)
        return function

    return put


@attrs.define
class Happening:
    """A fault that was played, on the clock of the logs."""

    faults: tuple[Fault, ...]
    begin: float
    end: float = 0.0
    """When it was undone."""
    settled: bool = False
    """Whether the cluster was whole again in time."""
    quiet_at: float = 0.0
    """When the wait for that was over."""


def draw(store: str, random: Random, names: Iterable[str] = (), together: int = 1) -> tuple[Fault, ...]:
    """Draw faults that may happen at once, for a store."""
    chosen: list[Fault] = []
    candidates = [each for each in FAULTS.values() if store in each.stores and (not names or each.name in names)]
    while candidates and len(chosen) < together:
        picked = random.choices(candidates, [each.weight for each in candidates])[0]
        chosen.append(picked)
        candidates = [each for each in candidates if not each.touches & picked.touches and each is not picked]
    return tuple(chosen)


def play(scene: Scene, faults: tuple[Fault, ...], settle_sec: float) -> Happening:
    """Play faults at once, undo them, and wait until the cluster is whole."""
    happening = Happening(faults, now())
    order = itertools.count()
    due: list[tuple[float, int, Steps]] = []
    for each in faults:
        heapq.heappush(due, (now() + scene.random.uniform(0, 1) * (len(faults) > 1), next(order), each.run(scene)))
    while due:
        at, _, steps = heapq.heappop(due)
        time.sleep(max(0.0, at - now()))
        if (seconds := next(steps, None)) is not None:
            heapq.heappush(due, (now() + seconds, next(order), steps))
    happening.end = now()
    happening.settled = scene.wait_until(scene.is_settled, settle_sec)
    happening.quiet_at = now()
    return happening


def until(scene: Scene, condition: Callable[[], object], seconds: float, look_sec: float = 0.05) -> Steps:
    """Yield until a condition holds, at most so long."""
    end = now() + seconds
    while now() < end and not condition():
        yield look_sec
