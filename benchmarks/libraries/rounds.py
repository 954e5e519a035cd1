"""Rounds of tasks that do nothing: what each process answers, and what all answers together come to.

A round is ``count`` tasks with numbers from ``first`` on. Every process that takes part answers which of them it did, and when it
began and ended on the clock that all processes of a host share. Imports nothing but Python's own library: both sides use it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ['NotOnce', 'Round', 'answer', 'doing', 'judged', 'line', 'numbers']


class NotOnce(Exception):
    """Some tasks of a round were done more than once or not at all."""


class Round(NamedTuple):
    """The outcome of a round."""

    seconds: float
    """Seconds from the first begin of a process to the last end."""
    tasks: int
    twice: int
    """Tasks that were done more than once."""
    missed: int
    """Tasks that were not done."""
    recorded: int
    """Tasks that the store has recorded as done."""

    @property
    def per_task(self) -> float:
        """Seconds per task of the round."""
        return self.seconds / self.tasks

    def check(self, who: str) -> None:
        """Raise ``NotOnce`` unless each task was done exactly once and is recorded."""
        if self.twice or self.missed or self.recorded != self.tasks:
            told = f'{self.twice} were done more than once, {self.missed} by nobody, and {self.recorded} are on record as done'
            raise NotOnce(f'{who}: of {self.tasks} tasks {told}')


def line(verb: str, first: int, count: int) -> str:
    """Return the line of input that requests a round."""
    return f'{verb} {first} {count}'


def numbers(first: str, count: str) -> range:
    """Return the tasks of a round, from the words of its line."""
    return range(int(first), int(first) + int(count))


def doing(work: Callable[[list[int]], object]) -> dict[str, Any]:
    """Run one process's part of a round: ``work`` appends every finished task to its list."""
    done: list[int] = []
    began = time.monotonic()
    work(done)
    return answer(began, done)


def answer(began: float, done: list[int]) -> dict[str, Any]:
    """Return the answer for one process's part of a round that ends now."""
    return {'began': began, 'ended': time.monotonic(), 'tasks': done}


def judged(answers: Iterable[Mapping[str, Any]], first: int, count: int, recorded: int) -> Round:
    """Combine the answers of all processes. Raises ``NotOnce`` for a task that was never in the round."""
    answers = list(answers)
    times = Counter(task for answer in answers for task in answer['tasks'])
    tasks = range(first, first + count)
    strange = [task for task in times if task not in tasks]
    if strange:
        raise NotOnce(f'{len(strange)} tasks were done that are not of the round, such as {strange[0]}')
    seconds = max(answer['ended'] for answer in answers) - min(answer['began'] for answer in answers)
    return Round(seconds, count, sum(number > 1 for number in times.values()), count - len(times), recorded)
