"""Redis: a value is set unless a higher fence has set it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fencing.late import tell_of_a_late_write
from tests.fencing.places import redis_of, refused_of_many

from jobsync import ConfigError, StaleFence
from jobsync.fencing import redis_set, redis_set_async

pytestmark = pytest.mark.redis


@pytest.fixture
def client(redis_server: Any) -> Iterator[Any]:
    """Of an empty server."""
    client = redis_of(redis_server.url())
    client.flushdb()
    yield client
    client.close()


def test_fences(client: Any) -> None:
    """Equal and higher fences are accepted, a lower one is refused, and changes nothing."""
    redis_set(client, 'x', 'one', 7)
    redis_set(client, 'x', 'two', 7)
    redis_set(client, 'x', 'three', 10)
    with pytest.raises(StaleFence, match="key 'x' was not written under fence 9: 10 has written since"):
        redis_set(client, 'x', 'four', 9)
    assert client.get('x') == 'three'
    assert client.get('fence:{x}') == '10'


def test_the_largest_numbers(client: Any) -> None:
    """They are compared exactly."""
    redis_set(client, 'x', 'one', 2**53 - 1)
    with pytest.raises(StaleFence):
        redis_set(client, 'x', 'two', 2**53 - 2)


def test_answers_as_bytes(redis_server: Any, client: Any) -> None:
    """A client that does not decode is told the same."""
    with import_module('redis').Redis.from_url(redis_server.url()) as plain:
        redis_set(plain, 'x', b'\xff', 7)
        with pytest.raises(StaleFence, match='7 has written since'):
            redis_set(plain, 'x', b'', 6)
        assert plain.get('x') == b'\xff'


def test_on_an_event_loop(redis_server: Any, client: Any) -> None:
    """A client of ``redis.asyncio`` does the same."""

    async def work() -> None:
        async with import_module('redis.asyncio').Redis.from_url(redis_server.url()) as other:
            await redis_set_async(other, 'x', 'one', 7)
            with pytest.raises(StaleFence):
                await redis_set_async(other, 'x', 'two', 6)

    asyncio.run(work())
    assert client.get('x') == 'one'


def test_writers_at_once(client: Any) -> None:
    """Of many writers at once the highest fence is the last to be accepted, whoever comes when."""
    refused = refused_of_many(lambda fence: redis_set(client, 'x', str(fence), fence))
    assert client.get('x') == '19'
    assert 19 not in refused


@pytest.mark.parametrize(
    ('key', 'beside'), [('x', 'fence:{x}'), ('{user}:7', '{user}:7:fence'), ('a{b}c', 'a{b}c:fence'), ('{x', 'fence:{{x}')]
)
def test_the_fence_is_beside_the_value(client: Any, key: str, beside: str) -> None:
    """In a cluster both keys are in one slot."""
    redis_set(client, key, 'one', 7)
    assert set(client.keys()) == {key, beside}
    crc = import_module('redis.crc')
    assert crc.key_slot(key.encode()) == crc.key_slot(beside.encode())


def test_keys_of_ones_own(client: Any) -> None:
    """A key for the fence can be given, and must be where braces would part it from the value."""
    with pytest.raises(ConfigError, match='fence_key'):
        redis_set(client, 'a}b', 'one', 7)
    with pytest.raises(ConfigError, match='not empty'):
        redis_set(client, '', 'one', 7)
    redis_set(client, 'a}b', 'one', 7, fence_key='f')
    assert client.get('f') == '7'


PARTS = ('x', '{', '}', ':fence', 'fence:', ':')
KEYS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map(''.join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(keys=st.sets(KEYS, min_size=2, max_size=3))
@example(keys={'x', '{x}'})
@example(keys={'x', '{x}', 'fence:{x}', '{x}:fence'})
def test_no_two_keys_share_anything(client: Any, keys: set[str]) -> None:
    """Whatever the keys of values look like, each has a fence of its own, which is no other's value."""
    client.flushdb()
    accepted = []
    for fence, key in enumerate(sorted(keys)):
        with contextlib.suppress(ConfigError):
            redis_set(client, key, 'value', fence)
            accepted.append(key)
    assert [client.get(key) for key in accepted] == ['value'] * len(accepted)
    assert client.dbsize() == 2 * len(accepted)


@pytest.mark.parametrize('key', ['{x}:fence', 'fence:{x}', 'a{x}b:fence'])
def test_keys_of_fences_are_no_values(client: Any, key: str) -> None:
    """A key under which the fence of another is kept is refused, and so is a fence in the value's own place."""
    with pytest.raises(ConfigError, match='fence of another key'):
        redis_set(client, key, 'one', 7)
    with pytest.raises(ConfigError, match='fence_key is'):
        redis_set(client, 'x', 'one', 7, fence_key='x')
    assert client.dbsize() == 0


def test_a_late_write(redis_server: Any, tmp_path: Path) -> None:
    """Of a process that was stopped until another owned its task."""
    tell_of_a_late_write(tmp_path, redis_server.url())
