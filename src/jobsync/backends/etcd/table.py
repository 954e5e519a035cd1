"""The assignment: records of tokens, members and pins in a chain, and the whole that a handle has made of them."""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import attrs

from jobsync.backends.etcd.chain import Chain, Entry
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import State
from jobsync.core.model import Member, Pin, Revision
from jobsync.core.tokens import Assignment, Changes, Plan, TokenGroup

__all__ = ['Record', 'Table', 'decoded', 'encoded']


@attrs.frozen
class Record:
    """What one commit wrote, or all there is."""

    members: Mapping[str, Member | None]
    """Those written; None for a name that is no member any more."""
    groups: tuple[TokenGroup, ...] = ()
    pins: tuple[Pin, ...] = ()
    """Those written."""
    unpinned: frozenset[int] = frozenset()


def encoded(record: Record) -> bytes:
    """JSON, a zero byte, and the numbers of the tokens of all groups; compressed."""
    groups = [[group.owner, group.target, group.home, group.version, len(group.tokens)] for group in record.groups]
    members = [[name, *(attrs.astuple(member) if member else ())] for name, member in record.members.items()]
    head = [members, groups, [attrs.astuple(pin) for pin in record.pins], sorted(record.unpinned)]
    numbers = array('i')
    for group in record.groups:
        numbers.extend(group.tokens)
    return zlib.compress(json.dumps(head, separators=(',', ':')).encode() + b'\0' + little(numbers).tobytes(), 1)


def decoded(data: bytes) -> Record:
    """The opposite."""
    head, _, tail = zlib.decompress(data).partition(b'\0')
    members, groups, pins, unpinned = json.loads(head)
    numbers, start, found = little(array('i', tail)), 0, []
    for owner, target, home, version, count in groups:
        found.append(TokenGroup(numbers[start : start + count], owner, target, home, version))
        start += count
    return Record(
        members={name: Member(*fields) if fields else None for name, *fields in members},
        groups=tuple(found),
        pins=tuple(Pin(*pin) for pin in pins),
        unpinned=frozenset(unpinned),
    )


def little(numbers: array[int]) -> array[int]:
    """The same in the byte order of the store, or back."""
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def planned(assignment: Assignment, plan: Plan, number: int) -> Record:
    """What a plan writes: a token's or pin's version is that of the commit if its owner changes, and stays otherwise."""
    positions = {name: position for position, name in enumerate(assignment.names)} | {None: -1}
    groups = []
    for group in plan.groups:
        owner = positions.get(group.owner, len(positions))
        versions: dict[int, array[int]] = defaultdict(lambda: array('i'))
        for token in group.tokens:
            versions[assignment.since[token] if assignment.owner[token] == owner else number].append(token)
        groups += [attrs.evolve(group, tokens=tokens, version=version) for version, tokens in versions.items()]
    pins = []
    for pin in plan.pins:
        before = assignment.pins.get(pin.id)
        pins.append(attrs.evolve(pin, version=before.version if before and before.owner == pin.owner else number))
    return Record(plan.members, tuple(groups), tuple(pins), plan.unpinned)


def followed(assignment: Assignment, revision: Revision, record: Record) -> Assignment:
    """The assignment after a record of changes."""
    pins = {id_: pin for id_, pin in assignment.pins.items() if id_ not in record.unpinned}
    pins |= {pin.id: pin for pin in record.pins}
    ordered = tuple(pins[id_] for id_ in sorted(pins)) if record.pins else tuple(pins.values())
    return assignment.apply(Changes(revision, assignment.version, record.members, record.groups, ordered))


def together(assignment: Assignment, records: Sequence[Record]) -> Record:
    """What was written to members and tokens by the records that led to ``assignment``, as it stands."""
    if len(records) == 1:
        return records[0]
    members = {name: assignment.members.get(name) for record in records for name in record.members}
    tokens = {token for record in records for group in record.groups for token in group.tokens}
    return Record(members, regrouped(assignment, tokens))


def regrouped(assignment: Assignment, tokens: Iterable[int]) -> tuple[TokenGroup, ...]:
    """Some tokens as they stand."""
    rows: dict[tuple[str | None, str | None, str | None, int], array[int]] = defaultdict(lambda: array('i'))
    for token in sorted(tokens):
        row = assignment.row(token)
        rows[row.owner, row.target, row.home, row.version].append(token)
    return tuple(TokenGroup(tokens, *row) for row, tokens in rows.items())


@attrs.frozen
class Whole:
    """The assignment at one version, and the changes that led to it, as far as they are in the chain."""

    timeline: str
    assignment: Assignment
    changes: Mapping[Revision, Record]


class Table:
    """Reads and prepares the assignment. Thread-safe: what it remembers is one value, replaced as a whole."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._last: Whole | None = None

    def read(self, state: State, since: Revision | None, deadline: float) -> Changes:
        """What ``Backend.read_assignment`` answers in this state."""
        whole = self.at(state, deadline)
        assignment, later = whole.assignment, state.table.since(since)
        if later is None:
            record, since = Record(assignment.members, tuple(assignment.groups())), None
        else:
            record = together(assignment, [whole.changes[entry.revision] for entry in later])
        return Changes(assignment.version, since, record.members, record.groups, tuple(assignment.pins.values()))

    def at(self, state: State, deadline: float) -> Whole:
        """The assignment in this state: what is remembered, and the records since then."""
        chain, last = state.table, self._last
        known = (
            last
            if last and last.timeline == state.timeline.id and len(last.assignment.owner) == state.settings.total_tokens
            else None
        )
        later = chain.since(known.assignment.version) if known else None
        changes = dict(known.changes) if known else {}
        wanted = [entry for entry in chain.entries[1:] if entry.revision not in changes]
        if later is None:
            wanted.insert(0, chain.entries[0])
        found = {entry.revision: decoded(data) for entry, data in self._records.read(wanted, deadline)}
        if known is None or later is None:
            whole = chain.entries[0]
            base = Assignment.empty(state.settings.total_tokens)
            record = found.pop(whole.revision, Record({}))
            assignment = base.apply(Changes(whole.revision, None, record.members, record.groups, record.pins))
            later = chain.entries[1:]
        else:
            assignment = known.assignment
        changes = {entry.revision: found.get(entry.revision) or changes[entry.revision] for entry in chain.entries[1:]}
        for entry in later:
            assignment = followed(assignment, entry.revision, changes[entry.revision])
        self._last = Whole(state.timeline.id, assignment, MappingProxyType(changes))
        return self._last

    def planned(self, state: State, plan: Plan, revision: Revision, deadline: float) -> tuple[Chain, bytes, Entry]:
        """The chain after a commit, and the record to put there for it."""
        assignment = self.at(state, deadline).assignment
        record = planned(assignment, plan, revision.number)
        if state.table.is_long:
            after = followed(assignment, revision, record)
            record = Record(after.members, tuple(after.groups()), tuple(after.pins.values()))
        data = encoded(record)
        entry = Entry(revision, len(data))
        return Chain((entry,)) if state.table.is_long else state.table.with_changes(entry), data, entry
