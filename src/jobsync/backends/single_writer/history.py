"""Claims, audits and rebalances of one namespace. They only grow, so they are changed in place and copied for an image."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

import attrs

from jobsync.backend import Audit, Claim, HistoryKind, Rebalance

__all__ = ['History', 'Record']

Record = Claim | Audit | Rebalance


@attrs.define
class History:
    """What a namespace appends, oldest first. Made again by adding its records in order, the outdated ones too."""

    claims: dict[tuple[str, dt.date, str], Claim] = attrs.field(factory=dict)
    """By item, date and node."""
    audits: dict[tuple[str, dt.date, str], Audit] = attrs.field(factory=dict)
    audited: set[tuple[str, dt.date]] = attrs.field(factory=set)
    """Item and date of every audit."""
    rebalances: list[Rebalance] = attrs.field(factory=list)

    def copy(self) -> History:
        """The trails as they are now."""
        return History(dict(self.claims), dict(self.audits), set(self.audited), list(self.rebalances))

    def __len__(self) -> int:
        return len(self.claims) + len(self.audits) + len(self.rebalances)

    def __iter__(self) -> Iterator[Record]:
        """All records there are, each trail's oldest first."""
        yield from self.claims.values()
        yield from self.audits.values()
        yield from self.rebalances

    def add(self, records: Iterable[Record]) -> None:
        """Append records. A claim made again moves to the end; an audit made again stays as it was."""
        for record in records:
            if isinstance(record, Rebalance):
                self.rebalances.append(record)
                continue
            key = record.item, record.date, record.node
            if isinstance(record, Claim):
                self.claims.pop(key, None)
                self.claims[key] = record
            else:
                self.audits.setdefault(key, record)
                self.audited.add(key[:2])

    def history(self, kind: HistoryKind, limit: int | None, date: dt.date | None, item: str | None) -> Sequence[Record]:
        """One trail, newest first."""
        found: list[Record]
        if kind is HistoryKind.REBALANCE:
            found = list(self.rebalances)
        else:
            records = self.claims.values() if kind is HistoryKind.CLAIM else self.audits.values()
            found = [r for r in records if date in (None, r.date) and item in (None, r.item)]
        found.reverse()
        return tuple(sorted(found, key=_when, reverse=True)[:limit])

    def incomplete(self, date: dt.date | None, before: dt.datetime) -> tuple[Claim, ...]:
        """The newest claim of each item and date that nobody audited, if made at ``before`` or earlier; oldest first."""
        newest: dict[tuple[str, dt.date], Claim] = {}
        for claim in self.claims.values():
            key = claim.item, claim.date
            if date in (None, claim.date) and key not in self.audited:
                newest[key] = max(newest.get(key, claim), claim, key=_when)
        return tuple(sorted((claim for claim in newest.values() if claim.created_on <= before), key=_when))

    def purged(self, kind: HistoryKind, before: dt.datetime) -> History:
        """Return the trails without what ``Backend.purge`` deletes."""
        after = self.copy()
        if kind is HistoryKind.REBALANCE:
            after.rebalances = [r for r in self.rebalances if r.triggered_at >= before]
        elif kind is HistoryKind.CLAIM:
            after.claims = {k: c for k, c in self.claims.items() if c.created_on >= before or k[:2] not in self.audited}
        else:
            after.audits = {k: a for k, a in self.audits.items() if a.created_on >= before}
            after.audited = {key[:2] for key in after.audits}
        return after


def _when(record: Record) -> dt.datetime:
    return record.triggered_at if isinstance(record, Rebalance) else record.created_on
