"""Redis and Valkey: a value, and its fence in a second key, both written by one script.

All writers of the value must use these functions. The key of the fence must live as long as a former owner may: give it no
expiry, and do not let the server evict it (``maxmemory-policy`` ``noeviction`` or one of the ``volatile-`` kind).
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from jobsync._core.redact import cut_repr
from jobsync.errors import ConfigError
from jobsync.fencing.number import check_keys, checked_fence, stale

__all__ = ['redis_set', 'redis_set_async']

_SCRIPT = (resources.files(__package__) / 'set.lua').read_text(encoding='utf-8')


def redis_set(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """Set a value under a fence, and store the fence beside it. Raises what the client raises, too.

    Args:
        client: A ``redis.Redis`` or ``redis.RedisCluster``.
        key: The value's key. It may not have the form of a fence's key.
        value: The value.
        fence: The number that ``job.fence(task)`` has returned.
        fence_key: The key of the fence. None: one in the slot of ``key``, which is ``fence:{key}``, or ``key`` and ``:fence`` if
            ``key`` has braces that choose its slot.

    Raises:
        StaleFence: A higher fence has written. No value is set.
        ConfigError: A key or the fence is not allowed.
    """
    _check_result(client.eval(*_call(key, value, fence, fence_key)), key, fence)


async def redis_set_async(client: Any, key: str, value: str | bytes | float, fence: int, *, fence_key: str | None = None) -> None:
    """Set a value under a fence as ``redis_set`` does, with a client of ``redis.asyncio``.

    Args:
        client: A ``redis.asyncio.Redis`` or ``redis.asyncio.RedisCluster``.
        key: As for ``redis_set``.
        value: As for ``redis_set``.
        fence: As for ``redis_set``.
        fence_key: As for ``redis_set``.

    Raises:
        StaleFence: A higher fence has written. No value is set.
        ConfigError: A key or the fence is not allowed.
    """
    _check_result(await client.eval(*_call(key, value, fence, fence_key)), key, fence)


def _call(key: str, value: str | bytes | float, fence: int, fence_key: str | None) -> tuple[Any, ...]:
    check_keys(key, fence_key, _is_of_a_fence)
    stored_at = fence_key or _beside(key)
    if stored_at is None:
        raise ConfigError(
            f'key is {cut_repr(key)}: a cluster would put another key elsewhere because of its braces; give a fence_key'
        )
    return _SCRIPT, 2, key, stored_at, value, checked_fence(fence)


def _beside(key: str) -> str | None:
    """Return the key of a fence in the slot of ``key``; None if no such key can be made.

    The text in the first braces chooses the slot, if there is any. No two keys share a fence: the fence's key ends in ``:fence``
    for a key with such braces, and in a brace for a key without.
    """
    _, opening, rest = key.partition('{')
    tag, closing, _ = rest.partition('}')
    if opening and closing and tag:
        return f'{key}:fence'
    return None if '}' in key else f'fence:{{{key}}}'


def _is_of_a_fence(key: str) -> bool:
    owners = (key.removesuffix(':fence'), key.removeprefix('fence:{').removesuffix('}'))
    return any(owner and _beside(owner) == key for owner in owners)


def _check_result(highest: Any, key: str, fence: int) -> None:
    if highest is not None:
        raise stale(fence, f'key {cut_repr(key)}', highest.decode() if isinstance(highest, bytes) else highest)
