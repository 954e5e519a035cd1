"""Mutants of purges."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt

from tests.backends.mutants.base import Hands, mutant

from jobsync._core.records import HistoryKind, Purged


@mutant
class PurgesEverything(Hands):
    """Deletes records that are not old enough."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        return super().purge(kind, before + dt.timedelta(days=1), limit, after)


@mutant
class PurgeForgetsOpenWork(Hands):
    """Deletes claims whose work is not complete."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.store.changed:
            found = super().purge(kind, before, limit, after)
            old = [claim for claim in self.records.claims.values() if claim.created_on < before]
            if kind is HistoryKind.CLAIM:
                self.records.remove(old)
                return Purged(found.deleted + len(old))
            return found


@mutant
class PurgeReopensWork(Hands):
    """Deletes audits of claims that are still on record, which makes their work incomplete again."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.store.changed:
            found = super().purge(kind, before, limit, after)
            if kind is HistoryKind.AUDIT:
                old = [audit for audit in self.records.audits.values() if audit.created_on < before]
                self.records.remove(old)
                return Purged(found.deleted + len(old))
            return found


@mutant
class PurgeStopsAtOpenWork(Hands):
    """Ends a purge at a portion in which everything stays."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        found = super().purge(kind, before, limit, after)
        return found if found.deleted else Purged(0)


@mutant
class PurgesWithoutEnd(Hands):
    """Takes no portions: one call deletes everything, however much that is."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        return super().purge(kind, before, 1_000_000)


@mutant
class PurgeCountsFromTheOldest(Hands):
    """Goes on after so many of the oldest claims, though one of these may have been renewed since."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        if kind is not HistoryKind.CLAIM:
            return super().purge(kind, before, limit, after)
        with self.store.changed:
            first, records = int(after or '0'), self.records
            claims = list(records.claims.values())[first : first + limit]
            old = [claim for claim in claims if claim.created_on < before and (claim.item, claim.date) in records.audited]
            records.remove(old)
            first += len(claims) - len(old)
            return Purged(len(old), str(first) if first < len(records.claims) else '')


@mutant
class PurgeUndoesAppends(Hands):
    """Replaces the whole history by what is left of it as it was read: what was appended between is lost."""

    races = True

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.store.changed:
            read = self.records.copy()
        self.let_others_call(lambda: self.records.claims.keys() != read.claims.keys())
        with self.store.changed:
            found = super().purge(kind, before, limit, after)
            if found.deleted:
                self.records.remove([claim for key, claim in self.records.claims.items() if key not in read.claims])
            return found
