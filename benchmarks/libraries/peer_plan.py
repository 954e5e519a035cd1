"""The peer's side of ``plan.py``, for the peer's own environment: each line of input, ``plan``, is one, answered by its seconds.

``first``, ``join``, ``leave`` and ``nothing`` are the changes to a cluster that both sides can express.
"""

from __future__ import annotations

import sys
import time

from benchmarks.libraries.serving import serve


def main(task: str, nodes: str, tokens: str) -> None:
    from jobsync.client import compute_minimal_move_distribution as plan  # type: ignore[import-not-found]

    count = int(tokens)
    names = [f'node-{number:04}' for number in range(int(nodes))]
    before = {token: names[token % len(names)] for token in range(count)}
    live = names[:-1] if task == 'leave' else names
    if task == 'first':
        before = {}
    elif task == 'join':
        before, _ = plan(count, names[:-1], before, {}, lambda name, pattern: name == pattern)

    def run(_: str) -> float:
        start = time.perf_counter()
        plan(count, live, before, {}, lambda name, pattern: name == pattern)
        return time.perf_counter() - start

    serve(task, run)


if __name__ == '__main__':
    main(*sys.argv[1:])
