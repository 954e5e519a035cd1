"""Placements judged: by hand, and ours against what the theory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import pytest
from benchmarks.libraries.placing import Change, Placing, change, names_of, quality
from benchmarks.scenarios import placement


def test_quality_is_relative_to_the_mean_and_counts_nodes_without_tokens() -> None:
    came = quality(['a', 'a', 'a', 'b'], ['a', 'b', 'c', 'd'])
    assert came == {'most': 3.0, 'least': 0.0, 'deviation': pytest.approx(math.sqrt((4 + 0 + 1 + 1) / 4))}


def by_remainder(nodes: Sequence[str]) -> Placing:
    """The placement everybody writes first: nearly all tokens move when a node joins."""
    return lambda tokens: [nodes[token % len(nodes)] for token in range(tokens)], lambda key: nodes[hash(key) % len(nodes)]


def test_what_moves_and_what_moves_needlessly_is_counted() -> None:
    came = change(by_remainder, 3, 12, 'joins')
    was = [token % 2 for token in range(12)]
    now = [token % 3 for token in range(12)]
    moves = [(old, new) for old, new in zip(was, now, strict=True) if old != new]
    assert came['moved'] == len(moves) == 8
    assert came['fewest'] == 4
    assert came['between_others'] == sum(2 not in move for move in moves) == 4
    assert came['most'] == came['least'] == 1.0


@pytest.mark.parametrize('what', get_args(Change))
@pytest.mark.parametrize(('nodes', 'tokens'), [(2, 10), (10, 1_003), (100, 10_000)])
def test_ours_is_even_and_moves_the_fewest(nodes: int, tokens: int, what: Change) -> None:
    came = placement.ours(nodes, tokens, what)
    assert came['between_others'] == 0
    assert came['moved'] == came['fewest']
    after = nodes if what == 'joins' else nodes - 1
    assert came['most'] - came['least'] <= after / tokens + 1e-9
    assert came['look_sec'] > 0


def test_nodes_have_names_of_one_length() -> None:
    assert names_of(3) == ['node-0000', 'node-0001', 'node-0002']
