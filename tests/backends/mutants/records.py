"""Mutants that keep less than they were given, or something else."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Assignment, Changes, Plan
from jobsync._core.records import (
    Audit,
    Claim,
    Guard,
    HistoryKind,
    LockEdit,
    LockFilter,
    NodeRef,
    NodeState,
    Pin,
    Pulse,
    Registration,
    Revision,
    Timeline,
    Unclaimed,
)
from jobsync.backends.single_writer import Row
from jobsync.errors import Evicted


@mutant
class HoldingLost(Hands):
    """Forgets what a node is still busy with: its tokens go on too early."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return super().heartbeat(ref, seen, frozenset(), candidate)


@mutant
class SeenBySomeoneElse(Hands):
    """Stores the present version as seen, whatever the node acknowledged."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed, self.transaction() as tx:
            return super().heartbeat(ref, tx.state.version, holding, candidate)


@mutant
class SeenByNumber(Hands):
    """Keeps what a node has seen where the number is the same: a commit that a restored store has lost stays acknowledged."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            known = self.state.nodes.get(ref.name) if self.options.namespace in self.store.spaces else None
            kept = known.seen if known is not None and known.seen.number == seen.number else seen
            return super().heartbeat(ref, kept, holding, candidate)


@mutant
class LeftIsGone(Hands):
    """Removes the record of a node that leaves: its tokens wait as if it might still be at work."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.store.changed:
            super().deregister(ref, died)
            node = self.state.nodes.get(ref.name)
            if node and node.ref == ref:
                self.change(nodes={name: other for name, other in self.state.nodes.items() if name != ref.name})


@mutant
class WeightRounded(Hands):
    """Keeps weights as whole numbers."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, weight=float(round(node.weight))), timeline, at_least, replacing)


@mutant
class FenceStays(Hands):
    """A token keeps its version when it goes to another owner."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction() as tx:
            before = tx.assignment().rows
            revision = super().commit(ref, plan, guard)
            table = self.space.assignment
            rows = [
                attrs.evolve(row, version=before[token].version) if row and token < len(before) and before[token] else row  # type: ignore[union-attr]
                for token, row in enumerate(table.rows)
            ]
            self.change_space(assignment=attrs.evolve(table, rows=rows, readings={}))
            return revision


@mutant
class FenceAlwaysRises(Hands):
    """A token's version rises with every write, so that its owner's own writes are refused."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            revision = super().commit(ref, plan, guard)
            table, written = self.space.assignment, {token for group in plan.groups for token in group.tokens}
            rows = [
                attrs.evolve(row, version=revision.number) if row and token in written else row
                for token, row in enumerate(table.rows)
            ]
            self.change_space(assignment=attrs.evolve(table, rows=rows, readings={}))
            return revision


@mutant
class PinRemembersItsFence(Hands):
    """A pin that was removed and comes back has its old version."""

    known: dict[int, Pin] | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction() as tx:
            self.known = {**(self.known or {}), **tx.assignment().pins}
            before = dict(tx.assignment().pins)
            revision = super().commit(ref, plan, guard)
            pins = {
                id_: attrs.evolve(pin, version=self.known[id_].version)
                if id_ not in before and id_ in self.known and self.known[id_].owner == pin.owner
                else pin
                for id_, pin in self.space.assignment.pins.items()
            }
            self.change_space(assignment=attrs.evolve(self.space.assignment, pins=pins, readings={}))
            return revision


@mutant
class UnpinnedStay(Hands):
    """Keeps pins that a plan removes."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, unpinned=frozenset()), guard)


@mutant
class MembersPileUp(Hands):
    """Keeps members that a plan removes: a name that may own nothing any more still means a run."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        members = {name: member for name, member in plan.members.items() if member is not None}
        return super().commit(ref, attrs.evolve(plan, members=members), guard)


@mutant
class MemberOfRunStays(Hands):
    """Keeps a member whose run is the one that it has: a change of its timeout, which others wait out, is lost."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        known = _assignment(self).members
        members = {
            name: known[name] if member and name in known and known[name].incarnation == member.incarnation else member
            for name, member in plan.members.items()
        }
        return super().commit(ref, attrs.evolve(plan, members=members), guard)


@mutant
class EvictedMembersGo(Hands):
    """Removes the members of nodes that a plan evicts, though it does not name them: the run that its rows mean is lost."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        members = {**dict.fromkeys(eviction.ref.name for eviction in plan.evictions), **plan.members}
        return super().commit(ref, attrs.evolve(plan, members=members), guard)


@mutant
class EvictedTokensFreed(Hands):
    """Frees the tokens of nodes that a plan evicts, though it does not name them: rows change that its leader did not."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        gone = {eviction.ref.name for eviction in plan.evictions}
        named = {token for group in plan.groups for token in group.tokens}
        groups = (group for group in _assignment(self).groups() if group.owner in gone)
        freed = [
            attrs.evolve(group, tokens=[token], owner=None) for group in groups for token in group.tokens if token not in named
        ]
        return super().commit(ref, attrs.evolve(plan, groups=(*plan.groups, *freed)), guard)


@mutant
class RemovedMembersNotTold(Hands):
    """Does not say in a difference who is no member any more: readers go on with a run that is over."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return attrs.evolve(changes, members={name: member for name, member in changes.members.items() if member is not None})


@mutant
class HomeForgotten(Hands):
    """Loses where a token had its home: a node that comes back does not get its own again."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        groups = tuple(attrs.evolve(group, home=None) for group in plan.groups)
        return super().commit(ref, attrs.evolve(plan, groups=groups), guard)


def _assignment(backend: Hands) -> Assignment:
    settings = backend.state.settings
    assert settings is not None
    return Assignment.empty(settings.total_tokens).apply(backend.read_assignment())


@mutant
class OwnerStays(Hands):
    """Keeps the owner of a token that a plan leaves to no node: the node that was the last to be drained goes on with it."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        before = _assignment(self)
        groups = tuple(
            attrs.evolve(group, tokens=[token], owner=group.owner or before.row(token).owner)
            for group in plan.groups
            for token in group.tokens
        )
        return super().commit(ref, attrs.evolve(plan, groups=groups), guard)


@mutant
class PatternOfPinStays(Hands):
    """Keeps the pattern by which the place of a pin was chosen, though none has chosen the new place."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        before = _assignment(self).pins
        pins = tuple(
            attrs.evolve(pin, pattern=pin.pattern or (known.pattern if (known := before.get(pin.id)) else None))
            for pin in plan.pins
        )
        return super().commit(ref, attrs.evolve(plan, pins=pins), guard)


@mutant
class NoRebalanceRecorded(Hands):
    """Commits without a rebalance in the history."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, moved=0), guard)


class _OfTokens(Plan):
    """A plan that is recorded only if it moves something."""

    @property
    def is_recorded(self) -> bool:
        return self.moved > 0


@mutant
class RemovalsUnrecorded(Hands):
    """Records no rebalance where a node goes that owns nothing: the history has no trace of its death."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, _OfTokens(**attrs.asdict(plan, recurse=False)), guard)


@mutant
class OneNamespaceListed(Hands):
    """Lists its own namespace alone, whether it is there or not."""

    def read_namespaces(self, limit: int) -> list[str]:
        return [self.options.namespace]


@mutant
class PatternsSorted(Hands):
    """Loses the order of a lock's patterns, which is that of preference."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = tuple(attrs.evolve(request, patterns=tuple(sorted(request.patterns))) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=put))


@mutant
class LockedAnew(Hands):
    """A lock that is put in another's place counts from now, not from when the task was locked first."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            count = super().edit_locks(edit)
            now, tasks, revision = self.store.now(), {request.task_id for request in edit.put}, self.state.revision.number
            locks = dict(self.space.locks.by_task)
            for task in tasks:
                locks[task] = attrs.evolve(locks[task], created_at=now, registered=revision)
            self.change_space(locks=attrs.evolve(self.space.locks, by_task=locks))
            return count


@mutant
class LockRevisionStays(Hands):
    """The leader cannot see that locks have changed."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.locks_revision
            count = super().edit_locks(edit)
            self.change(locks_revision=before)
            return count


@mutant
class TextCutShort(Hands):
    """Keeps 255 characters of a task's id."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = tuple(attrs.evolve(request, task_id=request.task_id[:255]) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=put))


@mutant
class CaseBlind(Hands):
    """Takes task ids that differ in case for one."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = tuple(attrs.evolve(request, task_id=request.task_id.lower()) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=put))


@mutant
class NoneForAnyCreator(Hands):
    """Takes the creator ``None``, the text, for no creator: the locks of all others are removed as well."""

    def edit_locks(self, edit: LockEdit) -> int:
        if edit.remove is not None and edit.remove.created_by == 'None':
            edit = attrs.evolve(edit, remove=attrs.evolve(edit.remove, created_by=None))
        return super().edit_locks(edit)


@mutant
class BlanksTrimmed(Hands):
    """Trims the names of nodes."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        ref = attrs.evolve(node.ref, name=node.ref.name.strip() or node.ref.name)
        super().register(attrs.evolve(node, ref=ref), timeline, at_least, replacing)


@mutant
class ClaimedThoughRefused(Hands):
    """Writes the claims of a node that is gone before it refuses them."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            try:
                return super().append_claims(ref, items, date, tolerated)
            except Evicted:
                self.records.add([Claim(item, ref.name, date, self.store.now()) for item in items[:1]])
                raise


@mutant
class ClaimOfEachRun(Hands):
    """Keeps a claim for each run of a node: one item, date and name have two."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            runs, before = vars(self.store).setdefault('runs', {}), dict(self.records.claims)
            found = super().append_claims(ref, items, date, tolerated)
            claims = self.records.claims
            for key in [(item, date, ref.name) for item in items]:
                if claims.get(key) is not before.get(key):
                    run = runs.get((self.options.namespace, key), ref.incarnation)
                    if key in before and run != ref.incarnation:
                        claims[key[0], date, f'{ref.name} {run}'] = before[key]
                        self.records.claimed[key[:2]] += 1
                    runs[self.options.namespace, key] = ref.incarnation
            return found


@mutant
class OwnCompletionsOnly(Hands):
    """Returns, of the completed items, only those that the claiming node has completed itself."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            own = frozenset(item for item in found.completed if (item, date, ref.name) in self.records.audits)
            return attrs.evolve(found, completed=own)


@mutant
class CompletedOnAnyDay(Hands):
    """Takes an item for completed that was completed at another date, and records no claim of it."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed, self.transaction() as tx:
            completed = {item for item, _ in tx.history().audited}
            found = super().append_claims(ref, [item for item in items if item not in completed], date, tolerated)
            return attrs.evolve(found, completed=frozenset(completed.intersection(items)))


@mutant
class CompletedAndClaimed(Hands):
    """Renews the claims of completed items, which are then younger than their completion."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            self.records.add([Claim(item, ref.name, date, self.store.now()) for item in found.completed])
            return found


@mutant
class CompletionsReadOnce(Hands):
    """Reads what is completed at the first claim, and again only after its own audits: another handle's are not seen."""

    known: frozenset[tuple[str, dt.date]] | None = None

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed, self.transaction() as tx:
            history = tx.history()
            self.known = frozenset(history.audited) if self.known is None else self.known
            audited, history.audited = history.audited, Counter(self.known)
            try:
                return super().append_claims(ref, items, date, tolerated)
            finally:
                history.audited = audited

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        super().append_audits(node, items, date)
        self.known = None


@mutant
class AuditsFenced(Hands):
    """Refuses to record work that was done by a node that has been evicted since."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.transaction() as tx:
            if node not in tx.state.nodes:
                raise Evicted(f'{node} is not registered')
        super().append_audits(node, items, date)


@mutant
class AuditRenewed(Hands):
    """An audit that is repeated has the later time."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.store.changed:
            super().append_audits(node, items, date)
            now = self.store.now()
            self.records.audits.update({(item, date, node): Audit(item, node, date, now) for item in items})


@mutant
class LeftIsComplete(Hands):
    """Reads the claims of a node that has left as completed: what it gave up in the midst is not found again."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        with self.store.changed:
            left = {node.name for node in self.state.nodes.values() if node.state is NodeState.LEFT}
            return tuple(claim for claim in super().incomplete(date, older_than) if claim.node not in left)


@mutant
class DoneOnAnyDay(Hands):
    """Takes work for complete that was done at another date."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        with self.store.changed:
            done = {item for item, _ in self.records.audited}
            return tuple(claim for claim in super().incomplete(date, older_than) if claim.item not in done)


@mutant
class IncompleteSinceADay(Hands):
    """Reads incomplete work of later dates, too."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        return tuple(claim for claim in super().incomplete(None, older_than) if date is None or claim.date >= date)


@mutant
class OldestFirst(Hands):
    """Returns the history in the order it was written."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        return tuple(reversed(super().history(kind, date=date, item=item)))[:limit]


@mutant
class ItemsAreLocks(Hands):
    """An edit that removes locks removes items too."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            items = {lock.group for lock in self.read_locks().locks if lock.group and edit.remove is not None and not edit.group}
            return sum(super(ItemsAreLocks, self).edit_locks(attrs.evolve(edit, put=(), group=group)) for group in items) + (
                super().edit_locks(edit)
            )


@mutant
class OneItemForATask(Hands):
    """An item takes the place of the task's item in another group."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            others = {lock.group for lock in self.read_locks().locks if lock.group and edit.group} - {edit.group}
            tasks = LockFilter(task_ids=frozenset(request.task_id for request in edit.put))
            for group in others:
                super().edit_locks(LockEdit(tasks, group=group))
            return super().edit_locks(edit)


@mutant
class CostsForgotten(Hands):
    """All items cost the same."""

    def edit_locks(self, edit: LockEdit) -> int:
        return super().edit_locks(attrs.evolve(edit, put=tuple(attrs.evolve(request, cost=1.0) for request in edit.put)))


@mutant
class PinsWithoutGroup(Hands):
    """Pins are read without their group."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return attrs.evolve(changes, pins=tuple(attrs.evolve(pin, group='') for pin in changes.pins))
