"""Mutants that do right in the one case their author thought of: a removal beside an addition, a second pin, another handle."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import attrs
from tests.backends.mutants.base import Hands, mutant
from tests.backends.mutants.overlapping import Overlapping

from jobsync._core.assignment import Changes, Plan
from jobsync._core.records import (
    Claim,
    Guard,
    HistoryKind,
    LockEdit,
    Node,
    NodeRef,
    Opened,
    Pulse,
    Purged,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backend import BackendOptions, Hint
from jobsync.backends.memory import MemoryStore
from jobsync.backends.single_writer import Row
from jobsync.errors import BackendUnavailable

# What is read


@mutant
class SomeTokensRemembered(Hands):
    """Keeps a reading of some tokens, and returns it as the whole assignment of the same version."""

    _kept: Changes | None = None

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        if since is not None:
            return super().read_assignment(since, tokens)
        with self.transaction(bulk=True) as tx:
            if self._kept is None or self._kept.version != tx.state.version:
                self._kept = super().read_assignment(None, tokens)
            return self._kept


@mutant
class HundredTokensWanted(Hands):
    """Passes the tokens of a reading as parameters of one statement, which takes a hundred."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        if tokens is not None and len(tokens) > 100:
            raise BackendUnavailable('too many parameters')
        return super().read_assignment(since, tokens)


@mutant
class SomeOfTwoVersions(Overlapping):
    """A reading that names tokens has their rows of a moment before its version."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        early = super().read_assignment(since, tokens)
        if tokens is None:
            return early
        self.let_others_call(lambda: self.state.version != early.version)
        late = super().read_assignment(since, tokens)
        return attrs.evolve(late, groups=early.groups) if late.base == early.base else late


@mutant
class SomeDifferencesLackPins(Hands):
    """A difference that names tokens has no pins: a node that reads so keeps a task where no pin keeps it any more."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return changes if tokens is None or changes.base is None else attrs.evolve(changes, pins=())


@mutant
class OpenedRemembered(Hands):
    """``open`` returns the timeline that its handle has read first, though another handle has renewed it since."""

    _opened: Opened | None = None

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        if self._opened is None or self._opened.settings != opened.settings:
            self._opened = opened
        return self._opened

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        super().renew_timeline(expected, at_least, longest_timeout_sec)
        self._opened = None


@mutant
class LeadershipBeforeThePulse(Overlapping):
    """A Pulse has the leadership of a moment before the rest of it."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.transaction() as tx:
            before = tx.state.leadership
        self.let_others_call(lambda: self.state.leadership != before)
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), leadership=before)


@mutant
class LeaderBeforeThePulse(Overlapping):
    """A Pulse has the leader's heartbeat of a moment before the rest of it: a leader that works looks as if it were silent."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.transaction() as tx:
            leader = tx.state.leadership.node
            before = tx.state.nodes[leader.name].heartbeat if leader and tx.state.is_joined(leader) else None
        if leader == ref:
            return super().heartbeat(ref, seen, holding, candidate)
        self.let_others_call()
        pulse = super().heartbeat(ref, seen, holding, candidate)
        return attrs.evolve(pulse, leader_heartbeat=None if pulse.leader_heartbeat is None else before)


@mutant
class PositionStandsStill(Hands):
    """Has one position for ever: a store that went back is not noticed by it."""

    def snapshot(self) -> Snapshot:
        return attrs.evolve(super().snapshot(), position=7)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), position=7)


@mutant
class PositionFallsByPurge(Hands):
    """The position counts the records that there are: after each purge every node takes the store for one that went back."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.store.changed:
            portion = super().purge(kind, before, limit, after)
            self.store.position -= 2 * bool(portion.deleted)
            return portion


@mutant
class NewestOfAnItemAlone(Hands):
    """``limit`` brings the oldest records where item and date are given too."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, date=date, item=item)
        is_oldest = limit is not None and item is not None and date is not None
        return found[max(0, len(found) - (limit or 0)) :] if is_oldest else found[:limit]


@mutant
class NoRebalancesAreAll(Hands):
    """Takes a limit of 0 for none, where rebalances are read."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        return super().history(kind, limit=limit or None if kind is HistoryKind.REBALANCE else limit, date=date, item=item)


@mutant
class AgesInHours(Hands):
    """Compares ages in whole hours."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        return super().incomplete(date, dt.timedelta(hours=older_than // dt.timedelta(hours=1)))


@mutant
class AgesOf32Bits(Hands):
    """Takes an age for a number of seconds of 31 bits: of the oldest that users may give nothing is left."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        seconds = older_than.total_seconds()
        return super().incomplete(date, dt.timedelta(seconds=seconds if seconds < 2**31 else seconds - 2**32))


@mutant
class IncompleteOfTheLastNode(Hands):
    """Takes the claim of the node that comes last by name for the newest."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        with self.transaction(bulk=True) as tx:
            history, before = tx.history(), tx.context.now - older_than
            claims = sorted(history.claims.values(), key=lambda claim: claim.node)
            last = {(claim.item, claim.date): claim for claim in claims if date in (None, claim.date)}
            found = [claim for key, claim in last.items() if key not in history.audited and claim.created_on <= before]
            return tuple(sorted(found, key=lambda claim: claim.created_on))


@mutant
class WaitOf31Bits(Hands):
    """A wait brings the number of a revision with 31 bits."""

    def wait(self, revision: int, timeout: float) -> int:
        found = super().wait(revision, timeout)
        return found if found < 2**31 else int(found) & (2**31 - 1)


class HintsFrom(Hands):
    """Names the nodes of the changes after a number of the handle's own."""

    after = 0

    def wait(self, revision: int, timeout: float) -> int:
        found = super().wait(revision, timeout)
        if not isinstance(found, Hint) or found <= revision:
            return found
        return self.store.concerned[self.options.namespace].hint(int(found), max(revision, self.after))


@mutant
class HintsSinceOpened(HintsFrom):
    """A hint names the nodes of the changes since its handle was opened, and of no earlier ones, which a node may have missed."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        self.after = self.after or self.number
        return opened


@mutant
class HintsShownOnce(HintsFrom):
    """A hint names the nodes of changes that no wait of its handle has named: of two nodes one does not learn of its own."""

    def wait(self, revision: int, timeout: float) -> int:
        found = super().wait(revision, timeout)
        self.after = max(self.after, int(found))
        return found


# What is written


@mutant
class EmptyGroupIsAll(Hands):
    """Takes a group without tokens for a group of all tokens."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        def tokens_of(tokens: Sequence[int]) -> Sequence[int]:
            return tokens or range(self.state.settings.total_tokens if self.state.settings else 0)

        groups = tuple(attrs.evolve(group, tokens=tokens_of(group.tokens)) for group in plan.groups)
        return super().commit(ref, attrs.evolve(plan, groups=groups), guard)


class SomeEditsUnseen(Hands):
    """Leaves the revision of locks as it was after some edits: the leader goes on with locks that are not there any more."""

    def is_unseen(self, edit: LockEdit, before: set[str], after: set[str]) -> bool:
        """Return whether the leader is not to see this edit."""
        raise NotImplementedError

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed, self.transaction() as tx:
            keys = {lock.key for lock in tx.locks().reading().locks}
            removed = super().edit_locks(edit)
            if self.is_unseen(edit, keys, {lock.key for lock in super().read_locks().locks}):
                self.change(locks_revision=tx.state.locks_revision)
            return removed


@mutant
class RemovedLocksUnseen(SomeEditsUnseen):
    """The leader cannot see that locks were removed: the task stays where no lock keeps it any more."""

    def is_unseen(self, edit: LockEdit, before: set[str], after: set[str]) -> bool:
        return not edit.put


@mutant
class ChangedLocksUnseen(SomeEditsUnseen):
    """The leader cannot see that a lock was put in another's place."""

    def is_unseen(self, edit: LockEdit, before: set[str], after: set[str]) -> bool:
        return before == after


@mutant
class OnePinOfATask(Hands):
    """A pin takes the place of another one of its task: of a lock and an item of one task only one is decided."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction(bulk=True) as tx:
            ids, tasks = {pin.id for pin in plan.pins}, {pin.task_id for pin in plan.pins}
            others = {pin.id for pin in tx.assignment().pins.values() if pin.task_id in tasks} - ids
            return super().commit(ref, attrs.evolve(plan, unpinned=plan.unpinned | others), guard)


@mutant
class KeysOf2500Bytes(Hands):
    """Keeps claims under item and node in a key of 2,500 bytes, unless the item alone is long: some tasks are never begun."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        if any(len(item.encode()) <= 1_800 < 2_500 < len(f'{item}{ref.name}'.encode()) for item in items):
            raise BackendUnavailable('the key is too long')
        return super().append_claims(ref, items, date, tolerated)


@mutant
class ClaimsOfNodesFolded(Hands):
    """Compares the nodes of claims without case: of two nodes that begin one item, one has no record."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            done = super().append_claims(ref, items, date, tolerated)
            alike = [
                claim
                for (item, day, node), claim in self.records.claims.items()
                if day == date and item in items and node != ref.name and node.casefold() == ref.name.casefold()
            ]
            self.records.remove(alike)
            return done


@mutant
class EvictedRunsFolded(Hands):
    """Compares the run that a plan evicts without case: a run that has taken its place loses its record."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            alike = {(node.name, node.incarnation.casefold()): node.ref for node in self.state.nodes.values()}
            evictions = (
                attrs.evolve(one, ref=alike.get((one.ref.name, one.ref.incarnation.casefold()), one.ref))
                for one in plan.evictions
            )
            return super().commit(ref, attrs.evolve(plan, evictions=tuple(evictions)), guard)


@mutant
class GivenUpFolded(Hands):
    """Compares the run that gives attempts up without case."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        with self.store.changed:
            super().forget_attempts(items, date, ref)
            for item in items if ref else ():
                for run in self.records.attempts.get((item, date), ()):
                    if ref and run.name == ref.name and run.incarnation.casefold() == ref.incarnation.casefold():
                        super().forget_attempts([item], date, run)


class KeepsRemoved(Hands):
    """Knows the runs that operators have removed."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self.removed = dict[NodeRef, Node]()

    def remove_node(self, ref: NodeRef) -> bool:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.nodes.get(ref.name)
            is_removed = super().remove_node(ref)
            if is_removed and before:
                self.removed[ref] = before
            return is_removed


@mutant
class RemovedCommits(KeepsRemoved):
    """Compares the leadership of a plan, and not that its leader has a record: a run that was removed commits."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            if ref not in self.removed or ref.name in self.state.nodes:
                return super().commit(ref, plan, guard)
            self.change(nodes={**self.state.nodes, ref.name: self.removed[ref]})
            try:
                return super().commit(ref, plan, guard)
            finally:
                self.change(nodes={name: node for name, node in self.state.nodes.items() if name != ref.name})


@mutant
class RemovedLosesNothing(KeepsRemoved):
    """Marks attempts as lost where a run leaves, is replaced or is evicted by a plan: those of one that was removed never are."""

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        with self.transaction(bulk=True) as tx:
            history = tx.history()
            items = [item for item, day in history.attempts if day == date]

            def is_alive(ref: NodeRef) -> bool:
                return ref in self.removed or tx.state.is_joined(ref)

            found = {item: history.lost_attempts(item, date, is_alive) for item in items}
            return {item: count for item, count in found.items() if count >= at_least}


@mutant
class SettingsInherited(Hands):
    """A new run of a name keeps the settings of the run before: no node finds that they differ."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.nodes.get(node.ref.name)
            super().register(attrs.evolve(node, settings=before.settings) if before else node, timeline, at_least, replacing)
