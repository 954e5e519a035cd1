"""Mutants that count attempts wrongly."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.records import Claim, NodeRef, Unclaimed
from jobsync.backends.single_writer import Attempts


@mutant
class LivingRunsLost(Hands):
    """Counts the attempts of other runs that are still registered."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            runs = {item: self.records.attempts.get((item, date), ()) for item in items}
            counts = {item: sum(run.name != ref.name for run in runs[item]) for item in items}
            lost = {item: count for item, count in counts.items() if count > (tolerated or 0)}
            return found if tolerated is None else attrs.evolve(found, lost_attempts=lost)


@mutant
class OneAttemptOfANode(Hands):
    """Takes the attempt of a node's new run for the one of the run before, which it forgets."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            for key, runs in self.records.attempts.items():
                if ref in runs:
                    self.records.attempts[key] = tuple(run for run in runs if run == ref or run.name != ref.name)
            return found


@mutant
class RecordedOverTheLimit(Hands):
    """Records the claims of items that it refuses."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            self.records.add([Claim(item, ref.name, date, self.store.now()) for item in found.lost_attempts])
            return found


@mutant
class AttemptedOverTheLimit(Hands):
    """Counts the attempts of a run at items that it was refused."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            self.records.add([Attempts(tuple(found.lost_attempts), date, ref)])
            return found


@mutant
class EveryClaimCounts(Hands):
    """Counts claims without a limit as attempts."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        return super().append_claims(ref, items, date, 1000 if tolerated is None else tolerated)


@mutant
class AttemptsOnAnyDay(Hands):
    """Counts the attempts at an item of all dates together."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed, self.transaction() as tx:
            lost = self.records.lost_attempts
            is_joined: Callable[[NodeRef], bool] = tx.state.is_joined
            days = {day for _, day in self.records.attempts}
            counts = {item: sum(lost(item, day, is_joined) for day in days) for item in items}
            over = {item: count for item, count in counts.items() if tolerated is not None and count > tolerated}
            found = super().append_claims(ref, [item for item in items if item not in over], date, tolerated)
            return attrs.evolve(found, lost_attempts={**found.lost_attempts, **over})


@mutant
class GivenUpAndCounted(Hands):
    """Counts attempts that their run has given up."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts(items if ref is None else (), date, ref)


@mutant
class GivenUpForOthers(Hands):
    """Forgets every attempt at an item when one run gives its own up."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts(items, date, None)


@mutant
class GivenUpFromMemory(Hands):
    """Reads the attempts at an item, and writes those that are left a moment later: one that begins between is undone."""

    races = True

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        before = {item: self.records.attempts.get((item, date), ()) for item in items}
        self.let_others_call()
        with self.store.changed:
            for item, runs in before.items():
                self.records.attempts[item, date] = runs
            super().forget_attempts(items, date, ref)


@mutant
class ReleasedForEver(Hands):
    """Counts no attempt at an item any more that was released."""

    released: frozenset[tuple[str, dt.date]] = frozenset()

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            for key in self.released:
                self.records.attempts.pop(key, None)
            return found

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts(items, date, ref)
        if ref is None:
            self.released |= {(item, date) for item in items}


@mutant
class CompletedAndLost(Hands):
    """Lists items with lost attempts that were completed since."""

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        found = super().lost_attempts(date, at_least)
        return {**found, **{item: 1 for item, day in self.records.audited if day == date and at_least == 1}}


@mutant
class CompletedOnAllDates(Hands):
    """Forgets the attempts at an item of all dates when it is completed at one."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.store.changed:
            super().append_audits(node, items, date)
            for item, day in [*self.records.attempts]:
                if item in items:
                    del self.records.attempts[item, day]


@mutant
class LostAgainAfterAPurge(Hands):
    """Passes over the attempts at completed items, and keeps them: they are lost again once the audit is purged."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.store.changed:
            kept = dict(self.records.attempts)
            super().append_audits(node, items, date)
            self.records.attempts.update(kept)

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        with self.store.changed:
            found = super().lost_attempts(date, at_least)
            return {item: count for item, count in found.items() if (item, date) not in self.records.audited}

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            lost = {item: count for item, count in found.lost_attempts.items() if item not in found.completed}
            return attrs.evolve(found, lost_attempts=lost)


@mutant
class PlainClaimForgets(Hands):
    """A claim without ``tolerated`` forgets the run's attempt at the item, which is lost with the run all the same."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            if tolerated is None:
                super().forget_attempts([item for item in items if item not in found.completed], date, ref)
            return found


@mutant
class TwiceInOneCall(Hands):
    """Counts an item that one call has twice as two attempts."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            for item in set(items) if tolerated is not None else ():
                runs = self.records.attempts.get((item, date), ())
                if ref in runs and item not in found.lost_attempts:
                    self.records.attempts[item, date] = (*runs, *[ref] * (items.count(item) - 1))
            return found


@mutant
class AttemptsSince1970(Hands):
    """Counts the days of attempts from 1970, and takes any earlier one for the first."""

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        return super().lost_attempts(max(date, dt.date(1970, 1, 1)), at_least)


@mutant
class GivenUpByFormattedId(Hands):
    """Formats the ids of the items whose attempts are given up into a statement: a doubled percent sign in one becomes single."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts([item.replace('%%', '%') for item in items], date, ref)
