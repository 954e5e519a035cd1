"""The assignment: records of tokens, members and pins in a chain."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import filterfalse

import attrs

from jobsync.backend import INITIAL, Changes, Member, Pin, Plan, Revision, TokenGroup
from jobsync.backends.etcd.chunked_log import ChunkedLog
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.store import Gone
from jobsync.errors import SchemaMismatch

__all__ = ['EtcdAssignment', 'Record', 'decoded', 'encoded']


@attrs.frozen
class Record:
    """What one commit wrote, or all there is."""

    members: Mapping[str, Member | None] = attrs.field(factory=dict)
    """Those written; None for a name that is no member any more."""
    groups: Sequence[TokenGroup] = ()
    pins: Sequence[Pin] = ()
    """Those written."""
    unpinned: Iterable[int] = ()


def encoded(record: Record) -> bytes:
    """Return JSON, a zero byte, and the numbers of the tokens of all groups; compressed."""
    groups = [[group.owner, group.target, group.home, group.version, len(group.tokens)] for group in record.groups]
    members = [[name, *(attrs.astuple(member) if member else ())] for name, member in record.members.items()]
    head = [members, groups, [attrs.astuple(pin) for pin in record.pins], sorted(record.unpinned)]
    numbers = array('i')
    for group in record.groups:
        numbers.extend(group.tokens)
    return packed(json.dumps(head, separators=(',', ':')).encode() + b'\0' + little(numbers).tobytes())


def decoded(data: bytes) -> Record:
    """Return the record that ``encoded`` was given; raise ``SchemaMismatch`` for other data."""
    try:
        head, _, tail = unpacked(data).partition(b'\0')
        members, groups, pins, unpinned = json.loads(head)
        numbers, start, found = little(array('i', tail)), 0, []
        for owner, target, home, version, count in groups:
            found.append(TokenGroup(numbers[start : start + count], owner, target, home, version))
            start += count
        return Record(
            members={name: Member(*fields) if fields else None for name, *fields in members},
            groups=found,
            pins=[Pin(*pin) for pin in pins],
            unpinned=unpinned,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaMismatch(f'a part of the assignment cannot be read ({error!r}): another program has written it') from error


def little(numbers: array[int]) -> array[int]:
    """Return numbers in the byte order of the store, or back in that of this machine."""
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def latest(records: Sequence[Record]) -> tuple[TokenGroup, ...]:
    """Return the tokens of successive records, each as the last record that has it."""
    if len(records) == 1:
        return tuple(records[0].groups)
    rows: dict[TokenGroup, array[int]] = {}
    seen: set[int] = set()
    for record in reversed(records):
        tokens = array('i')
        for group in record.groups:
            left = array('i', filterfalse(seen.__contains__, group.tokens))
            rows.setdefault(attrs.evolve(group, tokens=()), array('i')).extend(left)
            tokens.extend(left)
        if record is not records[0]:
            seen.update(tokens)
    return tuple(attrs.evolve(row, tokens=array('i', sorted(tokens))) for row, tokens in rows.items() if tokens)


def members_of(records: Iterable[Record]) -> dict[str, Member | None]:
    """Return the members of successive records, each as the last record that has it."""
    return {name: member for record in records for name, member in record.members.items()}


def pins_after(pins: Mapping[int, Pin], records: Iterable[Record]) -> dict[int, Pin]:
    """Return all pins, by id, after successive records that changed them."""
    after = dict(pins)
    for record in records:
        for id_ in record.unpinned:
            after.pop(id_, None)
        after.update((pin.id, pin) for pin in record.pins)
    return dict(sorted(after.items()))


def whole(records: Sequence[Record]) -> Record:
    """Return successive records, of which the first is of the whole, in one."""
    members = {name: member for name, member in members_of(records).items() if member is not None}
    return Record(members, latest(records), tuple(pins_after({}, records).values()))


class EtcdAssignment:
    """Reads the assignment, and prepares what a commit adds to it. Thread-safe."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._pins: tuple[Revision, Mapping[int, Pin]] = INITIAL, {}
        """All pins as last read, and the version of which they are: most readings then need the last records only."""

    def read(self, state: EtcdState, since: Revision | None, deadline: float) -> Changes:
        """Return what ``Backend.read_assignment`` answers in this state."""
        chain, (known, pins) = state.table, self._pins
        start, pins_start = chain.after(since), chain.after(known)
        first = min(start, pins_start)
        records = self._read(chain, first, deadline)
        pins = pins_after(pins if pins_start else {}, records[pins_start - first :])
        self._pins = state.version, pins
        if start:
            later = records[start - first :]
            changes = Record(members_of(later), latest(later) if later else ())
        else:
            changes = whole(records)
        return Changes(state.version, since if start else None, changes.members, tuple(changes.groups), tuple(pins.values()))

    def _read(self, chain: ChunkedLog, first: int, deadline: float) -> list[Record]:
        entries = chain.entries[first:]
        contents = self._records.read(entries, deadline)
        if None in contents:
            raise Gone('a record was replaced while it was read')
        return [decoded(data or b'') if entry.size else Record() for entry, data in zip(entries, contents, strict=True)]

    def planned(self, state: EtcdState, plan: Plan, deadline: float) -> tuple[bool, bytes]:
        """Return whether a commit writes the whole anew, and the record to put there for it."""
        record = Record(plan.members, plan.groups, plan.pins, plan.unpinned)
        if not state.table.is_long:
            return False, encoded(record)
        return True, encoded(whole([*self._read(state.table, 0, deadline), record]))
