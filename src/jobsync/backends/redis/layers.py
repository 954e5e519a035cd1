"""The assignment as Redis keeps it: layers of token groups, a base and the entries of a log.

Each entry was written by one commit. A token's row is the row of the last layer that has the token. A layer is packed as its
groups without their tokens, in JSON, and the tokens of all groups, four bytes each: a commit writes its plan as given, and reads
no other token. With its layer an entry has the members that its commit changed, for readers of a difference. When the log gets
long, the leader folds its oldest entries into the base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import attrs

from jobsync.backend import Member, TokenGroup
from jobsync.backends._common.tokens import packed_groups, unpacked_groups
from jobsync.backends.redis.records import sealed, unsealed

__all__ = ['Layer', 'entries_to_fold', 'is_long', 'packed', 'unpacked']

Layer = tuple[TokenGroup, ...]

MOST_ENTRIES = 64
"""A reader that is further behind reads everything, which costs less than as many differences."""
SMALL = 256 * 1024
"""Bytes below which a log is never too large. While hundreds of nodes join, a commit writes 70 kB: one must stay in the
log, or each node reads everything at the next one."""


def is_long(entries: int, log_size: int, base_size: int) -> bool:
    """Return whether to fold a log: it has many entries, or is larger than its base."""
    return entries > MOST_ENTRIES or log_size > max(base_size, SMALL)


def entries_to_fold(base_size: int, sizes: Sequence[int]) -> int:
    """Return how many of the oldest entries to fold, so that at most half remains of what ``is_long`` allows."""
    kept, room = 0, max(base_size, SMALL) // 2
    for size in reversed(sizes[-MOST_ENTRIES // 2 :]):
        room -= size
        if room < 0:
            break
        kept += 1
    return len(sizes) - kept


def packed(layer: Layer, members: Mapping[str, Member | None] | None = None) -> bytes:
    """Return a layer, and the members that changed with it, as one blob."""
    groups, body = packed_groups(layer)
    head = [groups, {name: attrs.astuple(member) if member else None for name, member in (members or {}).items()}]
    return sealed(b'layer', json.dumps(head).encode() + b'\n' + body)


def unpacked(blob: bytes) -> tuple[Iterator[TokenGroup], Mapping[str, Member | None]]:
    """Return the groups and members given to ``packed``; none for an empty blob; ``SpoiltRecord`` if the blob was changed."""
    if not blob:
        return iter(()), {}
    head, _, body = unsealed(b'layer', blob).partition(b'\n')
    found, members = json.loads(head)
    return unpacked_groups(found, body), {name: Member(*fields) if fields else None for name, fields in members.items()}
