"""Records of the assignment, and what successive records come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import attrs

from jobsync.backend import Member, Pin, Timeline, TokenGroup
from jobsync.backends._common.tokens import latest, packed_groups, unpacked_groups
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.errors import BackendUnavailable

__all__ = ['AssignmentRecord', 'SpoiltAssignment', 'decoded', 'encoded', 'latest_members', 'pins_after', 'whole']


class SpoiltAssignment(BackendUnavailable):
    """A part of the assignment of ``timeline`` is missing, or cannot be read."""

    def __init__(self, message: str, timeline: Timeline) -> None:
        super().__init__(message)
        self.timeline = timeline


@attrs.frozen
class AssignmentRecord:
    """What one commit wrote, or the whole assignment."""

    members: Mapping[str, Member | None] = attrs.field(factory=dict)
    """The members written; None for a name that is no member any more."""
    groups: Sequence[TokenGroup] = ()
    pins: Sequence[Pin] = ()
    """The pins written."""
    unpinned: Iterable[int] = ()
    """Ids of the pins removed."""


def encoded(record: AssignmentRecord) -> bytes:
    """Return JSON, a zero byte, and the numbers of the tokens of all groups; compressed."""
    groups, numbers = packed_groups(record.groups)
    members = [[name, *(attrs.astuple(member) if member else ())] for name, member in record.members.items()]
    head = [members, groups, [attrs.astuple(pin) for pin in record.pins], sorted(record.unpinned)]
    return packed(json.dumps(head, separators=(',', ':')).encode() + b'\0' + numbers)


def decoded(data: bytes) -> AssignmentRecord:
    """Return the record that ``encoded`` was given; ``ValueError`` for other data."""
    try:
        head, _, tail = unpacked(data).partition(b'\0')
        members, groups, pins, unpinned = json.loads(head)
        return AssignmentRecord(
            members={name: Member(*fields) if fields else None for name, *fields in members},
            groups=list(unpacked_groups(groups, tail)),
            pins=[Pin(*pin) for pin in pins],
            unpinned=unpinned,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f'a part of the assignment cannot be read ({error!r}): another program has written it') from error


def latest_members(records: Iterable[AssignmentRecord], *, drop_gone: bool = False) -> dict[str, Member | None]:
    """Return the members of successive records, each as the last record that has it; with or without those that went."""
    members = {name: member for record in records for name, member in record.members.items()}
    return {name: member for name, member in members.items() if member is not None or not drop_gone}


def pins_after(pins: Iterable[Pin], records: Iterable[AssignmentRecord]) -> tuple[Pin, ...]:
    """Return all pins, in order of their ids, after successive records that changed ``pins``."""
    after = {pin.id: pin for pin in pins}
    for record in records:
        for id_ in record.unpinned:
            after.pop(id_, None)
        after.update((pin.id, pin) for pin in record.pins)
    return tuple(after[id_] for id_ in sorted(after))


def whole(records: Sequence[AssignmentRecord]) -> AssignmentRecord:
    """Return successive records, the first of which is of the whole, as one."""
    groups = latest(group for record in reversed(records) for group in record.groups)
    return AssignmentRecord(latest_members(records, drop_gone=True), groups, pins_after((), records))
