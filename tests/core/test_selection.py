"""Which tokens are picked, against the plain form: look at one token after the other."""

from __future__ import annotations

import random
from array import array
from collections import Counter

import pytest

from jobsync._core.planner.selection import _lowest


def plainly(place: array[int], quota: list[int], held: bytearray) -> tuple[dict[int, array[int]], list[int]]:
    left = list(quota)
    picked: dict[int, array[int]] = {}
    for token, position in enumerate(place):
        if left[position] and not held[token]:
            left[position] -= 1
            picked.setdefault(position, array('i')).append(token)
    return picked, left


@pytest.mark.parametrize('blocks', [False, True])
@pytest.mark.parametrize('wanted', [1, 5, 40, 300])
@pytest.mark.parametrize('share', [0.001, 0.02, 0.5, 1.0])
def test_the_lowest_tokens_at_each_position(blocks: bool, wanted: int, share: float) -> None:
    """Whether few are wanted or many, scattered or in blocks; with tokens that need a place, and some that must stay.

    They come by position, rising. Positions differ by multiples of 256 too, and what is picked is taken off the quota.
    """
    rng = random.Random(f'{blocks} {wanted} {share}')
    positions = range(-2, 600)
    drawn = [rng.choice(positions) for _ in range(20_000)]
    place = array('i', sorted(drawn) if blocks else drawn)
    held = bytearray(rng.random() < 0.1 for _ in place)
    quota = [0] * (len(positions))
    free = Counter(at for token, at in enumerate(place) if not held[token])
    for position in rng.sample(positions, wanted):
        quota[position] = min(free[position], max(1, round(share * free[position])))
    expected = plainly(place, quota, held)
    assert (_lowest(place, quota, held), quota) == expected
