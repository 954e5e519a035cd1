"""Marks and prices."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from jobsync._core.planner.apportionment import QuotientScale

weights = st.one_of(
    st.floats(0.01, 100),
    st.sampled_from([1.0, 2.0, 0.1, 0.2, 0.3, 0.1 + 0.2, 5e-324, 1e308]),
    st.integers(1, 9),
)


@given(st.lists(weights, min_size=2, max_size=2), st.integers(0, 10**6), st.integers(0, 10**6))
def test_marks_keep_their_order(pair: list[float], one: int, other: int) -> None:
    """Marks compare as load / weight does, exactly."""
    scale = QuotientScale.of(pair)
    exact = Fraction(one) / Fraction(pair[0]), Fraction(other) / Fraction(pair[1])
    found = scale.mark(0, one), scale.mark(1, other)
    assert (found[0] < found[1], found[0] == found[1]) == (exact[0] < exact[1], exact[0] == exact[1])


@given(st.lists(weights, min_size=1, max_size=5), st.integers(0, 100), st.data())
def test_loads_at_a_price(given_weights: list[float], load: int, data: st.DataObject) -> None:
    """``below`` and ``upto`` are the largest loads with a mark below, or at most, the price."""
    scale = QuotientScale.of(given_weights)
    node = data.draw(st.integers(0, len(given_weights) - 1))
    price = scale.mark(node, load) + data.draw(st.integers(-1, 1))
    below, upto = scale.below(node, price), scale.upto(node, price)
    assert scale.mark(node, below) < price <= scale.mark(node, below + 1)
    assert scale.mark(node, upto) <= price < scale.mark(node, upto + 1)


@given(st.lists(st.tuples(weights, st.integers(0, 30)), min_size=1, max_size=6), st.integers(0, 60))
def test_price(given_nodes: list[tuple[float, int]], items: int) -> None:
    """The price is the highest mark used when each item goes to the lowest next mark."""
    scale = QuotientScale.of([weight for weight, _ in given_nodes])
    loads = [load for _, load in given_nodes]
    nodes, poured, price = range(len(loads)), list(loads), 0
    for _ in range(items):
        price, node = min((scale.mark(node, poured[node] + 1), node) for node in nodes)
        poured[node] += 1
    assert scale.price(nodes, loads, items) == price
