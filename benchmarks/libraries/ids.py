"""Ids of tasks, of the same kinds as in the ownership scenario."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, cycle, islice
from typing import Any

__all__ = ['KINDS', 'ids']

KINDS = ('int', 'str', 'Task')
_DISTINCT = 1_000


def ids(kind: str, owned: bool, calls: int, can_claim: Callable[[Any], bool], task_type: Callable[[int], object]) -> list[Any]:
    """Return ``calls`` ids, up to a thousand of them different, all owned by this worker or all not."""
    kinds: dict[str, Callable[[int], object]] = {'int': int, 'str': 'task-{}'.format, 'Task': task_type}
    every = map(kinds[kind], count(100_000))
    distinct = list(islice((task for task in every if can_claim(task) is owned), min(calls, _DISTINCT)))
    return list(islice(cycle(distinct), calls))
