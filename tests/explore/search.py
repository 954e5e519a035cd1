"""The search: every state that a world can reach, the nearest first."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from itertools import islice

import attrs
from tests.explore.cluster import Cluster, State, Step

__all__ = ['Found', 'explore']


@attrs.define
class Found:
    """What a search has found."""

    world: str
    states: int = 0
    steps: int = 0
    """Steps from one state to another, those to states that were known included."""
    depth: int = 0
    """How many steps away the farthest state is."""
    seconds: float = 0.0
    is_complete: bool = False
    """Whether every state that the world can reach was visited."""
    continued: int = 0
    """From how many states a fair continuation was run."""
    terms: int = 0
    """Distinct values that the states are made of."""
    problem: str = ''
    """What is wrong with the last state of ``way``; empty if nothing was found."""
    way: tuple[Step, ...] = ()
    """The shortest way to that state."""


def explore(cluster: Cluster, *, most: int | None = None, seconds: float | None = None, continue_every: int = 1) -> Found:
    """Visit the states of a world, the nearest first, until all are visited, ``most`` are, or the time is up.

    Checks P1 in each state; and of one in ``continue_every`` states, whether the cluster settles if nothing more happens to it.
    """
    return _Search(cluster, continue_every).run(most, seconds)


class _Search:
    """One search. Each state has a number, in the order of their discovery."""

    def __init__(self, cluster: Cluster, continue_every: int) -> None:
        self._cluster, self._continue_every = cluster, continue_every
        self._seen: set[int] = set()
        """The hashes of all states that were found: 61 bits, so two of ten million states share one in some 50,000 searches."""
        self._parents = array('I')
        """For each state the number of the one from which it was found first."""
        self._chosen = array('H')
        """For each state by which of the steps from there, in their order."""
        self.found = Found(cluster.world.name)

    def run(self, most: int | None, seconds: float | None) -> Found:
        """Search, and return what was found."""
        cluster, found, seen, parents, chosen = self._cluster, self.found, self._seen, self._parents, self._chosen
        begun = time.process_time()
        start = cluster.start()
        layer = [start]
        seen.add(hash(start))
        parents.append(0)
        chosen.append(0)
        first, steps, every = 0, 0, self._continue_every
        owned_twice = cluster.owned_twice
        while layer:
            following: list[State] = []
            for offset, state in enumerate(layer):
                for nth, (_, after) in enumerate(cluster.steps(state)):
                    steps += 1
                    key = hash(after)
                    if key in seen:
                        continue
                    seen.add(key)
                    number = len(parents)
                    parents.append(first + offset)
                    chosen.append(nth)
                    following.append(after)
                    if owned_twice(after):
                        return self._end(begun, steps, start, number, 'two processes claim one token or task')
                    if every and number % every == 0:
                        found.continued += 1
                        if not cluster.settles(after):
                            return self._end(begun, steps, start, number, 'the cluster does not settle by itself')
                if (most is not None and len(parents) >= most) or (
                    seconds is not None and time.process_time() - begun >= seconds
                ):
                    return self._end(begun, steps)
            first += len(layer)
            layer = following
            found.depth += 1
        found.is_complete = True
        return self._end(begun, steps)

    def _end(self, begun: float, steps: int, start: State | None = None, number: int = 0, problem: str = '') -> Found:
        found = self.found
        found.states, found.steps, found.seconds = len(self._parents), steps, time.process_time() - begun
        found.terms = len(self._cluster.machine.terms)
        if start is not None:
            found.problem, found.way = problem, tuple(self._way(start, number))
        return found

    def _way(self, start: State, number: int) -> Iterator[Step]:
        """Yield the steps to a state, made again from the beginning."""
        numbers = [number]
        while numbers[-1]:
            numbers.append(self._parents[numbers[-1]])
        state = start
        for number in reversed(numbers[:-1]):
            step, state = next(islice(self._cluster.steps(state), self._chosen[number], None))
            yield step
