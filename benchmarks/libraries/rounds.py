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
    """Some tasks of a round were done more than once, or by nobody."""


class Round(NamedTuple):
    """What a round came to."""

    seconds: float
    """From the moment the first process began to the moment the last one ended."""
    tasks: int
    twice: int
    """How many tasks were done more than once."""
    missed: int
    """How many were done by nobody."""
    recorded: int
    """How many the store has on record as done, afterwards."""

    @property
    def per_task(self) -> float:
        """Seconds per task of the round."""
        return self.seconds / self.tasks

    def check(self, who: str) -> None:
        """Raise ``NotOnce`` unless each task was done exactly once, and is on record."""
        if self.twice or self.missed or self.recorded != self.tasks:
            told = f'{self.twice} were done more than once, {self.missed} by nobody, and {self.recorded} are on record as done'
            raise NotOnce(f'{who}: of {self.tasks} tasks {told}')


def line(verb: str, first: int, count: int) -> str:
    """The line of input by which a process is told to do a round."""
    return f'{verb} {first} {count}'


def numbers(first: str, count: str) -> range:
    """The tasks of a round, from the words of its line."""
    return range(int(first), int(first) + int(count))


def doing(work: Callable[[list[int]], object]) -> dict[str, Any]:
    """One process's part of a round: ``work`` appends every task that it has done to the list it is given."""
    done: list[int] = []
    began = time.monotonic()
    work(done)
    return answer(began, done)


def answer(began: float, done: list[int]) -> dict[str, Any]:
    """One process's part of a round that ends now."""
    return {'began': began, 'ended': time.monotonic(), 'tasks': done}


def judged(answers: Iterable[Mapping[str, Any]], first: int, count: int, recorded: int) -> Round:
    """What the answers of all processes come to. Raises ``NotOnce`` for a task that was never in the round."""
    answers = list(answers)
    times = Counter(task for answer in answers for task in answer['tasks'])
    tasks = range(first, first + count)
    strange = [task for task in times if task not in tasks]
    if strange:
        raise NotOnce(f'{len(strange)} tasks were done that are not of the round, such as {strange[0]}')
    seconds = max(answer['ended'] for answer in answers) - min(answer['began'] for answer in answers)
    return Round(seconds, count, sum(number > 1 for number in times.values()), count - len(times), recorded)
