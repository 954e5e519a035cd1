"""Claims, audits and rebalances of one namespace. They are many, and change only by an append or a purge.

So they are changed in place, and copied where that matters.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import attrs

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance

__all__ = ['Attempts', 'History', 'Record', 'Row', 'time_of']


@attrs.frozen
class Attempts:
    """A run attempts items, or its attempts at them are forgotten."""

    items: tuple[str, ...]
    date: dt.date
    ref: NodeRef | None
    """None: the attempts of every run are forgotten."""
    are_forgotten: bool = False


Row = Claim | Audit | Rebalance
Record = Row | Attempts
"""A record of the history, as ``History`` yields it and takes it."""


@attrs.define
class History:
    """The records that a namespace appends, oldest first.

    Adding all records ever appended in their order, outdated ones included, makes the same history again.
    """

    claims: dict[tuple[str, dt.date, str], Claim] = attrs.field(factory=dict)
    """By item, date and node."""
    audits: dict[tuple[str, dt.date, str], Audit] = attrs.field(factory=dict)
    rebalances: list[Rebalance] = attrs.field(factory=list)
    audited: Counter[tuple[str, dt.date]] = attrs.field(factory=Counter)
    """How many audits there are by item and date."""
    claimed: Counter[tuple[str, dt.date]] = attrs.field(factory=Counter)
    """How many claims there are by item and date."""
    attempts: dict[tuple[str, dt.date], tuple[NodeRef, ...]] = attrs.field(factory=dict)
    """By item and date, the runs that attempt it."""

    def copy(self) -> History:
        """Return the history as it is now."""
        counts = Counter(self.audited), Counter(self.claimed)
        return History(dict(self.claims), dict(self.audits), list(self.rebalances), *counts, dict(self.attempts))

    def __len__(self) -> int:
        return len(self.claims) + len(self.audits) + len(self.rebalances)

    def __iter__(self) -> Iterator[Record]:
        """Yield all claims, then all audits, then all rebalances, each oldest first, then the attempts."""
        yield from self.claims.values()
        yield from self.audits.values()
        yield from self.rebalances
        yield from (Attempts((item,), date, ref) for (item, date), runs in self.attempts.items() for ref in runs)

    def add(self, records: Iterable[Record]) -> None:
        """Append records. A repeated claim replaces the earlier one and moves to the end; a repeated audit changes nothing."""
        for record in records:
            if isinstance(record, Rebalance):
                self.rebalances.append(record)
                continue
            if isinstance(record, Attempts):
                self._add_attempts(record)
                continue
            key = record.item, record.date, record.node
            if isinstance(record, Claim):
                if self.claims.pop(key, None) is None:
                    self.claimed[key[:2]] += 1
                self.claims[key] = record
            elif key not in self.audits:
                self.audits[key] = record
                self.audited[key[:2]] += 1
                self.attempts.pop(key[:2], None)

    def remove(self, records: Iterable[Row]) -> History:
        """Delete records that are in the history, and return it."""
        rebalances: Counter[Rebalance] = Counter()
        for record in records:
            if isinstance(record, Rebalance):
                rebalances[record] += 1
                continue
            key = record.item, record.date, record.node
            is_claim = isinstance(record, Claim)
            (self.claims if is_claim else self.audits).pop(key)
            count = self.claimed if is_claim else self.audited
            count[key[:2]] -= 1
            if not count[key[:2]]:
                del count[key[:2]]
        if rebalances:
            kept = []
            for rebalance in self.rebalances:
                if rebalances[rebalance] > 0:
                    rebalances[rebalance] -= 1
                else:
                    kept.append(rebalance)
            self.rebalances = kept
        return self

    def _add_attempts(self, record: Attempts) -> None:
        for item in record.items:
            key = item, record.date
            left = tuple(ref for ref in self.attempts.pop(key, ()) if record.ref not in (None, ref))
            if record.ref is not None and not record.are_forgotten:
                left = (*left, record.ref)
            if left:
                self.attempts[key] = left

    def lost_attempts(self, item: str, date: dt.date, is_joined: Callable[[NodeRef], bool]) -> int:
        """Return how many of the runs that attempt an item are over."""
        return sum(not is_joined(ref) for ref in self.attempts.get((item, date), ()))

    def history(self, kind: HistoryKind, limit: int | None, date: dt.date | None, item: str | None) -> Sequence[Row]:
        """Return what ``Backend.history`` returns."""
        _, latest_first = self._records(kind)
        found = (r for r in latest_first if isinstance(r, Rebalance) or (date in (None, r.date) and item in (None, r.item)))
        if kind is HistoryKind.REBALANCE:
            # In the order of their commits, whatever the clocks of the leaders said.
            return tuple(islice(found, limit))
        # t=0  a function runs every second, and each tick reads its claims
        # t=1  a month later it would search millions for them. What is new is found first, and behind the last one there is none.
        count = (
            None if item is None or date is None else (self.claimed if kind is HistoryKind.CLAIM else self.audited)[item, date]
        )
        return tuple(sorted(islice(found, count), key=time_of, reverse=True)[:limit])

    def incomplete(self, date: dt.date | None, before: dt.datetime) -> tuple[Claim, ...]:
        """Return what ``Backend.incomplete`` returns, for claims made at ``before`` or earlier."""
        newest: dict[tuple[str, dt.date], Claim] = {}
        for claim in self.claims.values():
            key = claim.item, claim.date
            if date in (None, claim.date) and key not in self.audited:
                newest[key] = max(newest.get(key, claim), claim, key=time_of)
        return tuple(sorted((claim for claim in newest.values() if claim.created_on <= before), key=time_of))

    def outdated(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str) -> tuple[list[Row], str]:
        """Return what ``Backend.purge`` deletes in one portion, and how many records there are still to read, from the first on.

        The last are read first. A purge that read what is appended meanwhile might never end, and one that read on from the first
        would skip a record where one before it has gone, as a claim does that is repeated.
        """
        count, latest_first = self._records(kind)
        end = min(int(after), count) if after else count
        seen = list(islice(latest_first, count - end, count - end + limit))
        return [record for record in seen if time_of(record) < before and self._may_go(record)], str(end - len(seen) or '')

    def _records(self, kind: HistoryKind) -> tuple[int, Iterator[Row]]:
        """Return how many records there are, and the records, the latest first."""
        if kind is HistoryKind.REBALANCE:
            return len(self.rebalances), reversed(self.rebalances)
        if kind is HistoryKind.CLAIM:
            return len(self.claims), reversed(self.claims.values())
        return len(self.audits), reversed(self.audits.values())

    def _may_go(self, record: Row) -> bool:
        """Return whether an outdated record may go: a rebalance, a claim of completed work, or an audit without claims."""
        if isinstance(record, Rebalance):
            return True
        key = record.item, record.date
        return key in self.audited if isinstance(record, Claim) else key not in self.claimed


def time_of(record: Row) -> dt.datetime:
    """Return when something was recorded."""
    return record.triggered_at if isinstance(record, Rebalance) else record.created_on
