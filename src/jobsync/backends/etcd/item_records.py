"""Records of items, in the history and in the log of attempts: in chunks, a line of JSON and the items, compressed."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from jobsync.backends.etcd.chunked_log import KeyValue, chunks
from jobsync.backends.etcd.json_form import UNREADABLE, from_form, to_json
from jobsync.backends.etcd.packing import packed, unpacked

__all__ = [
    'ALONE', 'FIRST', 'begun_at', 'date_in', 'joined', 'place_of', 'record_chunks', 'record_in', 'record_name', 'records_in',
]  # fmt: skip

T = TypeVar('T')

FIRST = b'/000000'
"""How the key of a record's first chunk ends, which is written last."""

ALONE = b'item-'
"""How the name of a record begins that has one item. Others have hexadecimal names, as records of one item had before."""

BEGUN = re.compile(rb'/(?:item-[0-9a-f]{16}-)?([0-9a-f]{10})-[0-9a-f]{24}$')
"""The end of the name of a record of several chunks, with the second since 1970 in which it was begun."""


def place_of(item: str) -> bytes:
    """Return how the name of a record begins that has this item alone."""
    # t=0  a function runs every second: each tick is a claim of its own
    # t=1  the next tick reads its claims: by the end of the day it would read 86,400 records for that
    return ALONE + hashlib.sha256(item.encode()).hexdigest()[:16].encode() + b'-'


def record_chunks(
    prefix: bytes, of: str, head: object, items: Sequence[str], now: dt.datetime, *, is_new: bool = False
) -> list[KeyValue]:
    """Return the keys and values of a record, in the place of one with the same items and the same ``of``, unless ``is_new``."""
    items = list(dict.fromkeys(items))
    content = to_json(items)
    parts = chunks(b'', packed(content))
    name = hashlib.sha256(f'{of}\0'.encode() + content).hexdigest()[:32]
    if is_new or len(parts) > 1:
        # t=0  a node appends a record again: it writes all chunks of it but the first
        # t=1  a purge, which read the record of before, finds it unchanged since, and deletes all its chunks
        # t=2  the node puts the first chunk: the record is spoilt
        # So a record of several chunks never takes another one's place.
        # Its writer may die before it puts the first chunk: a purge sees by the name how old the others are.
        name = f'{int(now.timestamp()):010x}-{secrets.token_hex(12)}'
    prefix += place_of(items[0]) if len(items) == 1 else b''
    first = to_json(head) + b'\n' + parts[0][1]
    return [(prefix + name.encode() + key, value) for key, value in [(parts[0][0], first), *parts[1:]]]


def record_name(key: bytes) -> bytes:
    """Return the name of the record that the chunk at a key belongs to."""
    return key[: -len(FIRST)]


def records_in(chunks: Iterable[KeyValue]) -> Iterator[tuple[bytes, list[KeyValue]]]:
    """Yield the name of each record, and its chunks."""
    return ((name, list(parts)) for name, parts in groupby(chunks, key=lambda chunk: record_name(chunk[0])))


def date_in(name: bytes) -> dt.date | None:
    """Return the date in the name of a record; None if it has none, as a key that another program has written."""
    try:
        return dt.date.fromisoformat(name.split(b'/')[-2].decode())
    except (ValueError, IndexError):
        return None


def record_in(kind: type[T], data: bytes) -> tuple[T, tuple[str, ...]] | None:
    """Return the head of a record, of this type, and its items.

    None for a record that cannot be read (rule R9), such as one whose first chunk was never written.
    """
    line, _, content = data.partition(b'\n')
    try:
        return from_form(kind, json.loads(line)), from_form(tuple[str, ...], json.loads(unpacked(content)))
    except UNREADABLE:
        return None


def begun_at(name: bytes) -> float:
    """Return the second since 1970 in which a record of several chunks was begun; infinity if its name does not have it."""
    found = BEGUN.search(name)
    return int(found[1], 16) if found else math.inf


def joined(parts: Iterable[KeyValue]) -> bytes:
    """Return what the chunks of a record hold together."""
    return b''.join(value for _, value in parts)
