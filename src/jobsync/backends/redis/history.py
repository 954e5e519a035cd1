"""Claims, audits and rebalances, from what ``history.lua`` returns. Records that jobsync did not write are left out."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from typing import TypeVar

from jobsync.backend import Audit, Claim, HistoryKind, Plan, Rebalance
from jobsync.backends.redis.records import moment, pairs

__all__ = ['history_of', 'incomplete_of', 'packed_rebalance']

T = TypeVar('T', bound=Claim | Audit)

NUMBER = 20
"""The length of the revision's number, which ``commit.lua`` puts before a rebalance: by it those of one time are sorted."""


def packed_rebalance(stamp: int, leader: str, plan: Plan) -> str:
    """Return the rebalance of a plan, '' if it is not to be recorded. ``stamp`` distinguishes rebalances that are alike."""
    counts = plan.nodes_before, plan.nodes_after, plan.moved, plan.duration_ms, plan.number
    return json.dumps([str(stamp), leader, plan.reason, *counts]) if plan.is_recorded else ''


def history_of(kind: HistoryKind, flat: Sequence[bytes], limit: int | None) -> Sequence[Claim | Audit | Rebalance]:
    """Return records, newest first, from records and times in turn."""
    if kind is HistoryKind.REBALANCE:
        return tuple(_rebalances(flat))[:limit]
    found = sorted(_records(Claim if kind is HistoryKind.CLAIM else Audit, flat), key=lambda each: (each.item, each.node))
    found.sort(key=lambda each: each.created_on, reverse=True)
    return tuple(found[:limit])


def incomplete_of(now: bytes, flat: Sequence[bytes], older_than: dt.timedelta) -> tuple[Claim, ...]:
    """Return what ``Backend.incomplete`` returns, from claims that no node has audited and their times in turn."""
    newest: dict[tuple[str, dt.date], Claim] = {}
    for claim in _records(Claim, flat):
        key = claim.item, claim.date
        newest[key] = max(newest.get(key, claim), claim, key=lambda each: each.created_on)
    before = moment(now) - older_than
    old = (claim for claim in newest.values() if claim.created_on <= before)
    return tuple(sorted(old, key=lambda claim: (claim.created_on, claim.item)))


def _records(kind: type[T], flat: Sequence[bytes]) -> Iterator[T]:
    for record, time in pairs(flat):
        with contextlib.suppress(ValueError, OverflowError):
            date, item, node = record.decode().split('\0')
            yield kind(item, node, dt.date.fromisoformat(date), moment(time))


def _rebalances(flat: Sequence[bytes]) -> Iterator[Rebalance]:
    for raw, time in pairs(flat):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            _, leader, reason, *counts = json.loads(raw[NUMBER:])
            yield Rebalance(moment(time), reason, leader, *counts)
