"""The peer's side of ``plan.py``, for the peer's own environment: one line of input, one plan, its seconds on a line."""

from __future__ import annotations

import sys
import time


def main(task: str, nodes: int, tokens: int) -> None:
    from jobsync.client import compute_minimal_move_distribution as plan  # type: ignore[import-not-found]

    names = [f'node-{number:04}' for number in range(nodes)]
    before = {token: names[token % nodes] for token in range(tokens)}
    live = names[:-1] if task == 'leave' else names
    if task == 'first':
        before = {}
    elif task == 'join':
        before, _ = plan(tokens, names[:-1], before, {}, lambda name, pattern: name == pattern)
    for _ in sys.stdin:
        start = time.perf_counter()
        plan(tokens, live, before, {}, lambda name, pattern: name == pattern)
        print(time.perf_counter() - start, flush=True)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
