"""Redis and Valkey: a value with its fence in a key beside it, both written by one script.

Everything that writes the value must do so through here. The key of the fence must live as long as a former owner might: give it
no expiry, and do not let the server evict it (``maxmemory-policy`` ``noeviction`` or one of the ``volatile-`` kind).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jobsync.errors import ConfigError
from jobsync.fencing.number import check_keys, checked_fence, stale

__all__ = ['redis_set', 'redis_set_async']


def redis_set(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """Set the value, and remember the fence it was written under. ``client`` is a ``redis.Redis``, or one of a cluster.

    The fence is stored in ``fence_key``, by default one that stays beside ``key`` in a cluster: ``fence:{key}``, or if the key
    has braces of its own that say where, ``key`` and ``:fence``. So no value's key may be of these forms. Raises ``StaleFence``
    if a higher fence has written, and what the client raises.
    """
    _judge(client.eval(*_call(key, value, fence, fence_key)), key, fence)


async def redis_set_async(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """The same with a client of ``redis.asyncio``."""
    _judge(await client.eval(*_call(key, value, fence, fence_key)), key, fence)


def _call(key: str, value: str | bytes | float, fence: int, fence_key: str | None) -> tuple[Any, ...]:
    check_keys(key, fence_key, _is_of_a_fence)
    stored_at = fence_key or _beside(key)
    if stored_at is None:
        raise ConfigError(f'key is {key!r}: a cluster would put another key elsewhere because of its braces; give a fence_key')
    return _script(), 2, key, stored_at, value, checked_fence(fence)


def _beside(key: str) -> str | None:
    """A key in the same slot of a cluster, which is chosen by what stands in the first braces, if anything does; None if none is.

    No two keys have one in common: the first form ends in ``:fence``, the other in a brace.
    """
    _, opening, rest = key.partition('{')
    tag, closing, _ = rest.partition('}')
    if opening and closing and tag:
        return f'{key}:fence'
    return None if '}' in key else f'fence:{{{key}}}'


def _is_of_a_fence(key: str) -> bool:
    owners = (key.removesuffix(':fence'), key.removeprefix('fence:{').removesuffix('}'))
    return any(owner and _beside(owner) == key for owner in owners)


def _judge(highest: Any, key: str, fence: int) -> None:
    if highest is not None:
        raise stale(fence, f'key {key!r}', highest.decode() if isinstance(highest, bytes) else highest)


@cache
def _script() -> str:
    return Path(__file__).with_name('set.lua').read_text(encoding='utf-8')
