"""etcd: a value with its fence in a key beside it, both put by one transaction that compares.

Everything that writes the value must do so through here.
"""

from __future__ import annotations

from typing import Any

from jobsync.fencing.number import check_keys, checked_fence, stale

__all__ = ['etcd_put']

_FENCE = '/fence'
_DIGITS = 16
"""etcd compares values as text, so numbers are padded to one length: that of the largest fence."""


def etcd_put(client: Any, key: str, value: str | bytes, fence: int, *, fence_key: str | None = None) -> None:
    """Put the value, and remember the fence it was written under. ``client`` is one of ``etcd3``.

    The fence is stored in ``fence_key``, by default ``key`` and ``/fence``; so no value's key may end in that. Raises
    ``StaleFence`` if a higher fence has written, and what the client raises.
    """
    check_keys(key, fence_key, lambda name: name.endswith(_FENCE))
    stored_at = fence_key or key + _FENCE
    is_not_higher = client.transactions.value(stored_at) < _text(checked_fence(fence) + 1)
    is_absent = client.transactions.version(stored_at) == 0
    writes = [client.transactions.put(key, value), client.transactions.put(stored_at, _text(fence))]
    while True:
        # etcd takes no comparison with the value of an absent key for true. Between the two transactions another may put it, or
        # delete it: then the first is due again.
        done, answers = client.transaction(compare=[is_not_higher], success=writes, failure=[client.transactions.get(stored_at)])
        if done:
            return
        if found := answers[0]:
            raise stale(fence, f'key {key!r}', int(found[0][0]))
        done, _ = client.transaction(compare=[is_absent], success=writes, failure=[])
        if done:
            return


def _text(number: int) -> str:
    return f'{number:0{_DIGITS}}'
