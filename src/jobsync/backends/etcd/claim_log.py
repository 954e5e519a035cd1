"""How the trails are stored: what one call claimed or audited is one record, and so is a rebalance."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from itertools import chain

import attrs

from jobsync.backend import Rebalance
from jobsync.backends.etcd.chunked_log import CHUNK
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.store import EtcdStore

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


UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""What reading a record raises that jobsync did not write."""


def read_work(store: EtcdStore, prefix: bytes, at: int, deadline: float) -> Iterator[tuple[bytes, Work | None]]:
    """Yield the records of a trail, or of one of its dates, at etcd's revision ``at``; each with its key.

    None stands for one that cannot be read (rule R9), such as a chunk whose record was never made to count.
    """
    key, values = b'', [b'']
    for found, value in chain(store.range(prefix, at, deadline), [(b'', b'')]):
        if key and found[:-CHUNK_NAME] == key and found[-CHUNK_NAME:].startswith(b'/'):
            values.append(value)
            continue
        if key:
            yield key, work_of(key, values)
        key, values = found, [value]


def work_of(key: bytes, values: Sequence[bytes]) -> Work | None:
    """Return what is stored under a key and its chunks; None if it cannot be read."""
    line, _, first = values[0].partition(b'\n')
    with contextlib.suppress(*UNREADABLE):
        head = json.loads(line)
        work = Work(
            node=head['node'],
            date=dt.date.fromisoformat(key.split(b'/')[-2].decode()),
            at=dt.datetime.fromisoformat(head['at']),
            items=json.loads(unpacked(b''.join([first, *values[1:]]))),
        )
        if (
            len(values) == head['chunks'] + 1
            and isinstance(work.node, str)
            and work.at.tzinfo
            and isinstance(work.items, list)
            and all(isinstance(item, str) for item in work.items)
        ):
            return work
    return None


def rebalance_value(rebalance: Rebalance) -> bytes:
    """As it is stored."""
    fields = attrs.asdict(rebalance) | {'triggered_at': rebalance.triggered_at.isoformat()}
    return json.dumps(fields, separators=(',', ':')).encode()


def rebalance_of(value: bytes) -> Rebalance | None:
    """Return what ``rebalance_value`` was given; None if it cannot be read (rule R9)."""
    with contextlib.suppress(*UNREADABLE):
        fields = json.loads(value)
        found = Rebalance(**{**fields, 'triggered_at': dt.datetime.fromisoformat(fields['triggered_at'])})
        if found.triggered_at.tzinfo:
            return found
    return None
