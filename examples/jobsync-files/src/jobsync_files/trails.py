"""What the lines of a trail come to: only ever added, so a later one may repeat or renew an earlier one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TypeVar

from jobsync.core.model import Audit, Claim, Rebalance
from jobsync_files.state import Namespace

__all__ = ['completed', 'in_force', 'newest_first', 'when']

Record = Claim | Audit | Rebalance
R = TypeVar('R', Claim, Audit, Rebalance, Record)


def in_force(namespace: Namespace, kind: type[R]) -> list[R]:
    """The records of a trail, oldest first: of one item, date and node the last claim counts, and the first audit."""
    records = namespace.read_trail(kind)
    if kind is Rebalance:
        return records
    found = dict[object, R]()
    for record in records:
        assert not isinstance(record, Rebalance)
        key = record.item, record.date, record.node
        if kind is Claim:
            found.pop(key, None)
        found.setdefault(key, record)
    return list(found.values())


def completed(namespace: Namespace) -> set[tuple[str, dt.date]]:
    """What anyone has audited: item and date."""
    return {(audit.item, audit.date) for audit in in_force(namespace, Audit)}


def when(record: Record) -> dt.datetime:
    """The time of a record."""
    return record.triggered_at if isinstance(record, Rebalance) else record.created_on


def newest_first(records: Sequence[R], date: dt.date | None, item: str | None) -> list[R]:
    """Those of one date or item, if given; of two at one time the later written comes first."""
    chosen = [r for r in records if isinstance(r, Rebalance) or (date in (None, r.date) and item in (None, r.item))]
    return sorted(reversed(chosen), key=when, reverse=True)  # noqa: C414 - which of equals comes first is the point
