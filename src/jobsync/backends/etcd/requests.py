"""Operations and comparisons of a transaction, as etcd's messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobsync.backends.etcd.protos import MESSAGES

__all__ = ['delete', 'end_of', 'exists', 'get', 'is_absent', 'is_value', 'put', 'unwritten', 'when']

Message = Any

RangeRequest, PutRequest, DeleteRangeRequest = (MESSAGES[f'{kind}Request'] for kind in ('Range', 'Put', 'DeleteRange'))
RequestOp, TxnRequest, Compare = MESSAGES['RequestOp'], MESSAGES['TxnRequest'], MESSAGES['Compare']


def end_of(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with ``prefix``, which ends in a slash."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def get(key: bytes, at: int = 0) -> Message:
    """Read one key at etcd's revision ``at`` (0: now)."""
    return RequestOp(request_range=RangeRequest(key=key, revision=at))


def put(key: bytes, value: bytes) -> Message:
    """Write one key."""
    return RequestOp(request_put=PutRequest(key=key, value=value))


def delete(first: bytes, end: bytes = b'') -> Message:
    """Remove the key ``first``, or all keys from ``first`` on, before ``end``."""
    return RequestOp(request_delete_range=DeleteRangeRequest(key=first, range_end=end))


def when(compares: Iterable[Message], success: Iterable[Message], failure: Iterable[Message] = ()) -> Message:
    """Do all of ``success`` if all comparisons hold, else all of ``failure``, atomically."""
    return TxnRequest(compare=compares, success=success, failure=failure)


def is_value(key: bytes, value: bytes) -> Message:
    """Compare: the key has exactly this value."""
    return Compare(result=Compare.EQUAL, target=Compare.VALUE, key=key, value=value)


def is_absent(key: bytes) -> Message:
    """Compare: there is no such key."""
    return Compare(result=Compare.EQUAL, target=Compare.CREATE, key=key, create_revision=0)


def exists(key: bytes) -> Message:
    """Compare: there is such a key."""
    return Compare(result=Compare.GREATER, target=Compare.CREATE, key=key, create_revision=0)


def unwritten(first: bytes, since: int, end: bytes = b'') -> Message:
    """Compare: the key ``first``, or no key from ``first`` on before ``end``, was written after etcd's revision ``since``."""
    return Compare(result=Compare.LESS, target=Compare.MOD, key=first, range_end=end, mod_revision=since + 1)
