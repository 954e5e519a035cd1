"""How even a placement is, how much a change moves, and the cost of a lookup. Imports only Python's own library and ``serving``.

``change`` is told how to place keys on nodes; it places them, has a node join or leave, and judges both placements.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from benchmarks.libraries.serving import per_call

__all__ = ['Change', 'Placing', 'change', 'names_of', 'quality']

Change = Literal['joins', 'leaves']
Placing = tuple[Callable[[int], Sequence[str]], Callable[[str], str]]
"""The nodes of the tokens from 0 on, as many as are asked for; and the node of one key, as a worker would look it up."""

_LOOKS = 5_000
_TASKS = 50_000


def names_of(nodes: int) -> list[str]:
    return [f'node-{number:04}' for number in range(nodes)]


def quality(placed: Sequence[str], nodes: Sequence[str]) -> dict[str, float]:
    """Of one placement, all as shares of the mean load: the largest and the smallest load, and the loads' standard deviation."""
    loads = Counter(dict.fromkeys(nodes, 0))
    loads.update(placed)
    mean = len(placed) / len(nodes)
    deviation = math.sqrt(sum((load - mean) ** 2 for load in loads.values()) / len(nodes))
    return {
        'most': max(loads.values()) / mean,
        'least': min(loads.values()) / mean,
        'deviation': deviation / mean,
    }


def change(place: Callable[[Sequence[str]], Placing], nodes: int, tokens: int, what: Change) -> dict[str, float]:
    """Place ``tokens`` on ``nodes``; then the last one joins the others, or leaves them.

    ``place`` is called with the names before and after. The answer is the ``quality`` of what comes out, and

    - ``moved``: tokens that change their node; ``fewest``: as many as must, for an even placement; ``between_others``: those
      between nodes that were there before and stay;
    - ``change_sec``: seconds for the change; ``look_sec``: of CPU, for one key;
    - ``tasks_most``: the largest share of 50,000 tasks, each looked up by its own id. Chance alone makes it about
      1 + 2.5 * sqrt(nodes / 50,000), at 100 nodes.
    """
    names = names_of(nodes)
    one = names[-1]
    before, after = (names[:-1], names) if what == 'joins' else (names, names[:-1])
    was = list(place(before)[0](tokens))
    start = time.perf_counter()
    placed, look = place(after)
    took = time.perf_counter() - start
    now = list(placed(tokens))
    moves = [(old, new) for old, new in zip(was, now, strict=True) if old != new]
    keys = [f'task-{number}' for number in range(_LOOKS)]
    return quality(now, after) | {
        'moved': len(moves),
        'fewest': tokens // nodes if what == 'joins' else was.count(one),
        'between_others': sum(one not in move for move in moves),
        'change_sec': took,
        'look_sec': per_call(look, keys),
        'tasks_most': quality([look(f'task-{number}') for number in range(_TASKS)], after)['most'],
    }
