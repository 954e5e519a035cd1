"""What counts as growth: series that were made up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from random import Random

import pytest
from tests.faults.endurance import established
from tests.faults.growth import ALLOWED, growth, slope
from tests.support.servers.program import free_port

NOISE = Random(7)


def series(value: Callable[[float], float], seconds: int = 1800, every: int = 20) -> list[tuple[float, float]]:
    """Samples of a function of time."""
    return [(float(at), value(at)) for at in range(0, seconds, every)]


def test_the_slope_is_that_of_most_pairs() -> None:
    """A line has its slope, also if one sample in five is far off."""
    assert slope(series(lambda at: 5 + 0.25 * at)) == pytest.approx(0.25)
    assert slope(series(lambda at: 1000.0 if at % 100 == 0 else 5 + 0.25 * at)) == pytest.approx(0.25, rel=0.3)


@pytest.mark.parametrize('what', ALLOWED)
def test_noise_is_no_growth(what: str) -> None:
    """What goes up and down around one value does not grow, nor does what was filled during the warm-up."""
    assert not growth(what, 'x', series(lambda _: 100 + NOISE.uniform(-3, 3)), 300).is_growing
    assert not growth(what, 'x', series(lambda at: min(at, 300.0)), 300).is_growing


@pytest.mark.parametrize(
    ('what', 'per_hour'), [('memory', 20_000), ('threads', 8), ('files', 12), ('connections', 12), ('records', 900)]
)
def test_a_leak_is_growth(what: str, per_hour: float) -> None:
    """A steady leak is found within half an hour, in spite of noise."""
    found = growth(what, 'x', series(lambda at: 100 + at * per_hour / 3600 + NOISE.uniform(-1, 1)), 300)
    assert found.is_growing
    assert 'GROWS' in str(found)


def test_too_few_samples_prove_nothing() -> None:
    """A measurement that was too short is no success."""
    assert growth('threads', 'x', series(lambda _: 5.0, 60), 0).is_growing


def test_connections_are_counted_from_both_kinds_of_sockets() -> None:
    """A client of etcd connects from a socket of IPv6, all others from one of IPv4."""
    # A port that the kernel chooses may have been a client's, whose server's end of the connection is still there.
    port = free_port()
    with closing(socket.create_server(('127.0.0.1', port))):
        assert established([port]) == 0
        with closing(socket.create_connection(('127.0.0.1', port))):
            assert established([port]) == 1
            with closing(socket.socket(socket.AF_INET6)) as other:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                other.connect(('::ffff:127.0.0.1', port))
                assert established([port]) == 2


def test_the_other_side_of_another_connection_is_not_counted() -> None:
    """A client of another server may have been given the number of the port as its own."""
    with closing(socket.create_server(('127.0.0.1', 0))) as another, closing(socket.socket()) as client:
        port = free_port()
        client.bind(('127.0.0.1', port))
        client.connect(another.getsockname())
        with closing(socket.create_server(('127.0.0.2', port))):
            assert established([port]) == 0
