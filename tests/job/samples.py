"""What workers in a mode that samples have said: which tokens they owned, and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tests.job.processes import Worker


def owned_at(samples: Iterable[dict[str, object]]) -> list[tuple[frozenset[int], float, float]]:
    """Stretches of time in which a worker was seen to own these tokens: from the first sample's start to the last one's.

    A sample's own tokens were claimable at some time between its two times. For the first of a stretch that is at its end
    at the latest, for the last at its beginning at the earliest: so between these it has certainly been so twice.
    """
    stretches: list[tuple[frozenset[int], float, float]] = []
    tokens: frozenset[int] = frozenset()
    for line in samples:
        seen = line.get('seen')
        if not isinstance(seen, list):
            continue
        before, after = seen
        found = line.get('tokens')
        if isinstance(found, list):
            tokens = frozenset(found)
            stretches.append((tokens, after, before))
        elif stretches:
            stretches[-1] = (tokens, stretches[-1][1], before)
    return [(tokens, start, end) for tokens, start, end in stretches if end >= start and tokens]


def overlaps(one: Worker, two: Worker) -> list[tuple[int, float]]:
    """How many tokens both owned at once, and for how long."""
    return [
        (len(mine & theirs), min(end, until) - max(start, since))
        for (mine, start, end), (theirs, since, until) in itertools.product(owned_at(one.said), owned_at(two.said))
        if mine & theirs and max(start, since) < min(end, until)
    ]


def load(worker: Worker) -> int:
    """How many tokens the worker has: by its last word, once a second sample agrees, for only that makes a stretch; else -1."""
    samples = [line for line in worker.said if 'seen' in line]
    changes = [number for number, line in enumerate(samples) if 'tokens' in line]
    if not changes or changes[-1] == len(samples) - 1:
        return -1
    return len(samples[changes[-1]]['tokens'])


def loads(*some: Worker) -> list[int]:
    """The same of several."""
    return [load(worker) for worker in some]
