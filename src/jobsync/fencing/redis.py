"""Redis and Valkey: a value with its fence in a key beside it, both written by one script.

Everything that writes the value must do so through here. The key of the fence must live as long as a former owner might: give it
no expiry, and do not let the server evict it (``maxmemory-policy`` ``noeviction`` or one of the ``volatile-`` kind).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jobsync.errors import ConfigError
from jobsync.fencing.number import checked_fence, stale

__all__ = ['redis_set', 'redis_set_async']


def redis_set(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """Set the value, and remember the fence it was written under. ``client`` is a ``redis.Redis``, or one of a cluster.

    The fence is stored in ``fence_key``, by default one that stays beside ``key`` in a cluster: ``{key}:fence``. Raises
    ``StaleFence`` if a higher fence has written, and what the client raises.
    """
    _judge(client.eval(*_call(key, value, fence, fence_key)), key, fence)


async def redis_set_async(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """The same with a client of ``redis.asyncio``."""
    _judge(await client.eval(*_call(key, value, fence, fence_key)), key, fence)


def _call(key: str, value: str | bytes | float, fence: int, fence_key: str | None) -> tuple[Any, ...]:
    if not isinstance(key, str) or not key:
        raise ConfigError(f'key is {key!r}: must be a string that is not empty')
    return _script(), 2, key, fence_key or _beside(key), value, checked_fence(fence)


def _beside(key: str) -> str:
    """A key in the same slot of a cluster: that is chosen by what stands in the first braces, if anything does."""
    _, opening, rest = key.partition('{')
    tag, closing, _ = rest.partition('}')
    if opening and closing and tag:
        return f'{key}:fence'
    if '}' in key:
        raise ConfigError(f'key is {key!r}: a cluster would put another key elsewhere because of its braces; give a fence_key')
    return f'{{{key}}}:fence'


def _judge(highest: Any, key: str, fence: int) -> None:
    if highest is not None:
        raise stale(fence, f'key {key!r}', highest.decode() if isinstance(highest, bytes) else highest)


@cache
def _script() -> str:
    return Path(__file__).with_name('set.lua').read_text(encoding='utf-8')
