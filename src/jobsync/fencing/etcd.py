"""etcd: a value, and its fence in a second key, both put by one transaction that compares.

All writers of the value must use this function.
"""

from __future__ import annotations

from typing import Any

from jobsync._core.redact import cut_repr
from jobsync.fencing.number import check_keys, checked_fence, stale

__all__ = ['etcd_put']

_FENCE = '/fence'
_DIGITS = 16
"""The length that fences are padded to, which is that of the largest: etcd compares values as text."""


def etcd_put(client: Any, key: str, value: str | bytes, fence: int, *, fence_key: str | None = None) -> None:
    """Put a value under a fence, and store the fence beside it. Raises what the client raises, too.

    Args:
        client: A client of ``etcd3``.
        key: The value's key. It may not end in ``/fence``.
        value: The value.
        fence: The number that ``job.fence(task)`` has returned.
        fence_key: The key of the fence. None: ``key`` and ``/fence``.

    Raises:
        StaleFence: A higher fence has written. No value is put.
        ConfigError: A key or the fence is not allowed.
    """
    check_keys(key, fence_key, lambda name: name.endswith(_FENCE))
    stored_at = fence_key or key + _FENCE
    is_not_higher = client.transactions.value(stored_at) < _text(checked_fence(fence) + 1)
    is_absent = client.transactions.version(stored_at) == 0
    writes = [client.transactions.put(key, value), client.transactions.put(stored_at, _text(fence))]
    while True:
        # For etcd no comparison with the value of an absent key is true, so an absent key needs a transaction of its own.
        # t=0  the first transaction fails, and finds no fence
        # t=1  another client puts the fence, or deletes it
        # t=2  the second transaction fails: the first is tried again
        done, answers = client.transaction(compare=[is_not_higher], success=writes, failure=[client.transactions.get(stored_at)])
        if done:
            return
        if found := answers[0]:
            raise stale(fence, f'key {cut_repr(key)}', int(found[0][0]))
        done, _ = client.transaction(compare=[is_absent], success=writes, failure=[])
        if done:
            return


def _text(number: int) -> str:
    return f'{number:0{_DIGITS}}'
