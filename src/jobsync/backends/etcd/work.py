"""How the trails are stored: what one call claimed or audited is one record, and so is a rebalance."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence

import attrs

from jobsync.backends.etcd.chain import CHUNK
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.store import Store
from jobsync.core.model import Rebalance

__all__ = ['Work', 'read_work', 'rebalance_of', 'rebalance_value']

KeyValue = tuple[bytes, bytes]
CHUNK_NAME = 7
"""Bytes of a slash and a chunk's number."""


@attrs.frozen
class Work:
    """What one call recorded."""

    node: str
    date: dt.date
    at: dt.datetime
    items: Sequence[str]

    @property
    def keys(self) -> Iterator[tuple[str, dt.date, str]]:
        """Item, date and node of each."""
        return ((item, self.date, self.node) for item in self.items)

    def of(self, items: Sequence[str]) -> Work:
        """The same, of these items only."""
        return attrs.evolve(self, items=items)

    def encoded(self, trail: bytes, *, new_key: bool = False) -> tuple[KeyValue, list[KeyValue]]:
        """The record's key and value, and those of its chunks, if it is too large for one value.

        The value is a line of JSON that tells all but the items, and then these, compressed. The chunks' keys begin with the
        record's, so they come right after it.
        """
        content = json.dumps(list(dict.fromkeys(self.items))).encode()
        name = hashlib.sha256(f'{self.node}\0'.encode() + content).hexdigest()[:32]
        key = trail + self.date.isoformat().encode() + b'/' + (secrets.token_hex(16) if new_key else name).encode()
        value = packed(content)
        parts = [value[start : start + CHUNK] for start in range(0, len(value), CHUNK)] if len(value) > CHUNK else []
        head = json.dumps({'node': self.node, 'at': self.at.isoformat(), 'chunks': len(parts)}).encode()
        chunks = [(key + f'/{number:0{CHUNK_NAME - 1}x}'.encode(), part) for number, part in enumerate(parts)]
        return (key, head + b'\n' + (b'' if parts else value)), chunks


def read_work(store: Store, prefix: bytes, at: int, deadline: float) -> Iterator[tuple[bytes, Work]]:
    """The records of a trail, or of one of its dates, at etcd's revision ``at``; each with its key."""
    record, head, parts = b'', {}, [b'']
    for key, value in store.range(prefix, at, deadline):
        is_chunk = key[-CHUNK_NAME:].startswith(b'/')
        if not is_chunk:
            line, _, packed = value.partition(b'\n')
            record, head, parts = key, json.loads(line), [packed]
        elif key[:-CHUNK_NAME] == record:
            parts.append(value)
        else:  # a chunk whose record was never written
            continue
        if len(parts) == head['chunks'] + 1:
            date = dt.date.fromisoformat(record.split(b'/')[-2].decode())
            items = json.loads(unpacked(b''.join(parts)))
            yield record, Work(head['node'], date, dt.datetime.fromisoformat(head['at']), items)


def rebalance_value(rebalance: Rebalance) -> bytes:
    """As it is stored."""
    fields = attrs.asdict(rebalance) | {'triggered_at': rebalance.triggered_at.isoformat()}
    return json.dumps(fields, separators=(',', ':')).encode()


def rebalance_of(value: bytes) -> Rebalance:
    """From what is stored."""
    fields = json.loads(value)
    return Rebalance(**{**fields, 'triggered_at': dt.datetime.fromisoformat(fields['triggered_at'])})
