"""Mutants of limits: what a store takes in one transaction, one page, one key or one column, where the author met no more."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from urllib.parse import quote

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync.backend import (
    Claim,
    Guard,
    HistoryKind,
    LockEdit,
    LockReading,
    NodeRef,
    Plan,
    Purged,
    Rebalance,
    Registration,
    Revision,
    Snapshot,
    Timeline,
)
from jobsync.backends.single_writer import Row
from jobsync.errors import BackendUnavailable

PAGE = 100
"""Records of one transaction, or of one answer."""
INTEGER = 2**31 - 1


# Transactions of a hundred records


class Portions(Hands):
    """Writes the first hundred records of one kind of a commit with all others, and the rest a moment later."""

    races = True

    def first(self, plan: Plan) -> Plan:
        """Return the plan with the first portion alone."""
        raise NotImplementedError

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        first = self.first(plan)
        if first == plan:
            return super().commit(ref, plan, guard)
        with self.store.changed:
            before = self.space.assignment
            revision = super().commit(ref, plan, guard)
            after = self.space.assignment
            self.change_space(assignment=before.commit(first, revision))
        self.let_others_call()
        with self.store.changed:
            if self.state.version == revision:
                self.change_space(assignment=after)
        return revision


@mutant
class RowsInPortions(Portions):
    """Writes the rows of a commit a hundred at a time: readers, and a crash, find a part of it."""

    def first(self, plan: Plan) -> Plan:
        is_long = any(len(group.tokens) > PAGE for group in plan.groups)
        groups = tuple(attrs.evolve(group, tokens=group.tokens[:PAGE]) for group in plan.groups)
        return attrs.evolve(plan, groups=groups) if is_long else plan


@mutant
class PinsInPortions(Portions):
    """Writes the pins of a commit a hundred at a time."""

    def first(self, plan: Plan) -> Plan:
        return attrs.evolve(plan, pins=plan.pins[:PAGE])


@mutant
class MembersInPortions(Portions):
    """Writes the members of a commit a hundred at a time."""

    def first(self, plan: Plan) -> Plan:
        return attrs.evolve(plan, members=dict(list(plan.members.items())[:PAGE]))


@mutant
class EvictionsInPortions(Hands):
    """Removes the nodes that a commit evicts a hundred at a time: one that wakes meanwhile goes on with what others own."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            nodes = self.state.nodes if plan.evictions else {}
            revision = super().commit(ref, plan, guard)
            late = {eviction.ref.name: nodes[eviction.ref.name] for eviction in plan.evictions[PAGE:]}
            self.change(nodes={**self.state.nodes, **late})
        if late:
            self.let_others_call()
            with self.store.changed:
                self.change(nodes={name: node for name, node in self.state.nodes.items() if name not in late})
        return revision


@mutant
class OneOfManyDeparted(Hands):
    """Compares the first of the nodes that left, and removes whatever has the names of the others."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            names = {departed.name for departed in plan.departed}
            revision = super().commit(ref, attrs.evolve(plan, departed=plan.departed[:1]), guard)
            self.change(nodes={name: node for name, node in self.state.nodes.items() if name not in names})
            return revision


# Answers of a hundred or a thousand records


@mutant
class OnePageOfRebalances(Hands):
    """A reading has the newest hundred rebalances."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date, item=item)
        return found[:PAGE] if kind is HistoryKind.REBALANCE else found


@mutant
class OnePageOfAnItem(Hands):
    """A reading of one item has its newest hundred records."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date, item=item)
        return found if item is None else found[:PAGE]


@mutant
class LimitOfOnePage(Hands):
    """Takes no limit above a thousand, which is the most that one answer has."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        return super().history(kind, limit=limit and min(limit, 1_000), date=date, item=item)


@mutant
class ExpireInPages(Hands):
    """Removes the first 25 of the locks that have expired."""

    def edit_locks(self, edit: LockEdit) -> int:
        if edit.remove is None or not edit.remove.expired or edit.remove.task_ids is not None:
            return super().edit_locks(edit)
        with self.store.changed:
            now = self.store.now()
            expired = [lock.task_id for lock in super().read_locks().locks if lock.expires_at and lock.expires_at <= now]
            return super().edit_locks(attrs.evolve(edit, remove=attrs.evolve(edit.remove, task_ids=frozenset(expired[:25]))))


@mutant
class PurgePagesByTime(Hands):
    """Goes on with a purge after the time of the last record: others of that time, as of one call, are never read."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        def when(row: Row) -> dt.datetime:
            return row.triggered_at if isinstance(row, Rebalance) else row.created_on

        with self.transaction(bulk=True) as tx:
            history = tx.history()
            rows = history.history(kind, None, None, None)
            old = sorted((row for row in rows if after < when(row).isoformat() and when(row) < before), key=when)[:limit]
            gone = [row for row in old if history._may_go(row)]
            if gone:
                tx.put(tx.state, purged=gone)
            return Purged(len(gone), when(old[-1]).isoformat() if old else '')


# Keys and columns


@mutant
class NamesAreFileNames(Hands):
    """Keeps each node in a file of its name, which may have 255 bytes: a longer name never registers."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        if len(quote(node.ref.name, '')) > 255:
            raise BackendUnavailable('File name too long')
        super().register(node, timeline, at_least, replacing)


@mutant
class ReplacesCutShort(Hands):
    """Keeps 4,000 characters of the runs that a node replaces."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        kept = frozenset(' '.join(sorted(node.replaces))[:4_000].split(' ')) if len(node.replaces) > PAGE else node.replaces
        super().register(attrs.evolve(node, replaces=kept), timeline, at_least, replacing)


@mutant
class LocksRevisionOf32Bits(Hands):
    """Keeps 31 bits of the revision at which locks have changed."""

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        return attrs.evolve(snapshot, locks_revision=snapshot.locks_revision & INTEGER)


@mutant
class RegisteredOf32Bits(Hands):
    """Keeps 31 bits of the revision at which a lock was added."""

    def read_locks(self) -> LockReading:
        reading = super().read_locks()
        return attrs.evolve(
            reading, locks=tuple(attrs.evolve(lock, registered=lock.registered & INTEGER) for lock in reading.locks)
        )


@mutant
class RebalancesOf32Bits(Hands):
    """Keeps 31 bits of the version that a rebalance made."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date, item=item)
        return tuple(attrs.evolve(r, version=r.version & INTEGER) if isinstance(r, Rebalance) else r for r in found)


@mutant
class TimesEndIn2038(Hands):
    """Keeps no time after January 2038: a lock that was to last longer ends then."""

    def edit_locks(self, edit: LockEdit) -> int:
        longest = dt.datetime(2038, 1, 19, tzinfo=dt.UTC) - self.store.now()
        put = (attrs.evolve(each, expires_in=each.expires_in and min(each.expires_in, longest)) for each in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=tuple(put)))


@mutant
class ClaimantsCutShort(Hands):
    """Keeps 190 characters of the name of the node that has claimed an item."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date, item=item)
        return tuple(attrs.evolve(row, node=row.node[:190]) if isinstance(row, Claim) else row for row in found)


@mutant
class PatternsOfOnePage(Hands):
    """Keeps the first hundred patterns of a lock."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = tuple(attrs.evolve(request, patterns=request.patterns[:PAGE]) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=put))


@mutant
class CreatorsCutShort(Hands):
    """Finds locks by the first 255 characters of their creator: those of a long one are never removed by it."""

    def edit_locks(self, edit: LockEdit) -> int:
        if edit.remove is not None and edit.remove.created_by is not None:
            edit = attrs.evolve(edit, remove=attrs.evolve(edit.remove, created_by=edit.remove.created_by[:255]))
        return super().edit_locks(edit)


@mutant
class LeasesInMilliseconds(Hands):
    """Keeps the timeouts of members in whole milliseconds: the leader waits for less than the lease of an absent owner."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        members = {
            name: member and attrs.evolve(member, timeout_sec=int(member.timeout_sec * 1_000) / 1_000)
            for name, member in plan.members.items()
        }
        return super().commit(ref, attrs.evolve(plan, members=members), guard)
