"""Ids of tasks that a rival is asked about, of the kinds that ours is asked about."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, cycle, islice
from typing import Any

__all__ = ['KINDS', 'ids']

KINDS = ('int', 'str', 'Task')
_DISTINCT = 1_000


def ids(kind: str, owned: bool, calls: int, can_claim: Callable[[Any], bool], task_type: Callable[[int], object]) -> list[Any]:
    """``calls`` ids, of which up to a thousand differ, that this worker owns, or does not."""
    kinds: dict[str, Callable[[int], object]] = {'int': int, 'str': 'task-{}'.format, 'Task': task_type}
    every = map(kinds[kind], count(100_000))
    distinct = list(islice((task for task in every if can_claim(task) is owned), min(calls, _DISTINCT)))
    return list(islice(cycle(distinct), calls))
