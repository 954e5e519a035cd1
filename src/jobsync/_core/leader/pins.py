"""Pins: the leader's part of rule R7.

Every task with a lock in force, and every item, has a pin, a token of its own. A new pin's first owner is the owner of the task's
hash token, the only node that may be working on the task; from the version that shows the pin, every node treats the task by its
pin and not by its hash. From there a pin is handed over like any token, within what the patterns allow. When the lock or item
goes, the pin's owner releases it and the pin is removed; then the hash applies again.

An item that has a lock too has one pin, to which the lock's patterns apply. Of the items of several groups that are one task, the
oldest counts.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from itertools import chain

import attrs

from jobsync._core.leader.handover import Released
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.leader.pin_changes import PinChanges, PinDraft
from jobsync._core.leader.row_changes import RowChanges
from jobsync._core.patterns import NodeNames
from jobsync._core.planner.pins import Places
from jobsync._core.planner.rebalance import PinRequest
from jobsync._core.records import NOBODY, Pin, TaskLock

__all__ = ['PinPlanner', 'in_force', 'wanted']

_LEAST_WAIT_SEC = 0.05


def wanted(locks: Iterable[TaskLock], names: Set[str], spare: Set[str]) -> frozenset[str]:
    """Return those of ``spare`` without which some lock would have a later pattern of its list, or none (promise P6)."""
    choices = NodeNames(frozenset(names)).choices({lock.patterns for lock in locks})
    return frozenset().union(*(chosen for _, chosen in choices.values() if chosen <= spare))


def in_force(locks: Iterable[TaskLock]) -> dict[str, TaskLock]:
    """Return what applies to each task, of locks and items by their ids."""
    found: dict[str, TaskLock] = {}
    for lock in locks:
        before = found.setdefault(lock.task_id, lock)
        if before is lock or (before.group and lock.group):
            continue
        item, policy = (lock, before) if lock.group else (before, lock)
        found[lock.task_id] = attrs.evolve(item, patterns=policy.patterns)
    return found


class PinPlanner:
    """The pins' part of one decision: what to request of the planner, and what to write once the planner has chosen."""

    def __init__(
        self,
        view: LeaderView,
        state: LeaderState,
        owner_table: OwnerTable,
        released: Released,
        receivers: Set[str],
        stuck: Set[str],
        token_of: Callable[[str], int],
    ) -> None:
        self._old, self._owner_table, self._released = view.assignment, owner_table, released
        self._receivers, self._token_of = receivers, token_of
        self._stuck = frozenset(name for name in stuck if owner_table.alive[name].weight > 0)
        now, locks = view.snapshot.now, view.locks
        timed = [(lock, lock.expires_at) for lock in locks if lock.expires_at is not None]
        expired = [lock for lock, expires_at in timed if expires_at <= now]
        self._locks = (
            in_force(lock for lock in locks if lock.expires_at is None or lock.expires_at > now) if expired else in_force(locks)
        )
        self._choices = state.node_names(receivers | self._stuck).choices({lock.patterns for lock in self._locks.values()})
        # An item expires only if its row was changed manually, and stays: the store removes expired task locks alone.
        pins = {lock.task_id: self._old.pins.get(self._old.total_tokens + lock.id) for lock in expired if not lock.group}
        self.can_drop_expired = bool(pins) and all(pin is None or pin.task_id in self._locks for pin in pins.values())
        """Whether an expired lock is still in the store, and no such lock has a pin any more, except one of an item."""
        ends = [expires_at for _, expires_at in timed if expires_at > now]
        self.due_at = view.now + max((min(ends) - now).total_seconds(), _LEAST_WAIT_SEC) if ends else math.inf
        """When the first lock in force expires; infinity if none does."""
        self.resting: defaultdict[frozenset[str], Places] = defaultdict(lambda: defaultdict(list))
        """Pins that stay as they are unless the planner moves them, as a rule nearly all of a hundred thousand: for each set of
        nodes that they may be on, their ids by their owners."""
        self._drafts = tuple(self._draft())
        """The other pins that may be touched."""
        total, pin_ids, pinned = self._old.total_tokens, self._old.pins, self._old.pin_of
        self._new = [lock for task, lock in self._locks.items() if task not in pinned and total + lock.id not in pin_ids]
        """The locks and items for which there are no pins yet."""
        self._new_tokens: dict[int, int] = {}
        """The hash tokens of their tasks, by the ids of the locks, once they were computed."""

    def _draft(self) -> Iterator[PinDraft]:
        old, owner_table = self._old, self._owner_table
        total, locks, choices = old.total_tokens, self._locks, self._choices
        present = {name for name, status in owner_table.status.items() if status is OwnerStatus.PRESENT and not self._stuck}
        for pin in old.pins.values():
            lock, owner = locks.get(pin.task_id), pin.owner
            if lock is not None and owner in present and pin.target is None and not (pin.home or pin.group or lock.group):
                pattern, allowed = choices[lock.patterns]
                if pin.pattern == pattern and total + lock.id == pin.id:
                    self.resting[allowed][owner].append(pin.id)
                    continue
            # A lock's row may have been given another task manually. The pin of that task would overwrite the pin of the first
            # one, which is released before. If the first task has another lock by now, it has another pin after that.
            if lock is not None and total + lock.id != pin.id and self._tasks.get(pin.id, pin.task_id) != pin.task_id:
                lock = None
            status = owner_table.status.get(owner) if owner is not None else None
            if status is OwnerStatus.WAITING:
                continue  # not to be touched: its owner may be working unseen
            target, home = pin.target, pin.home
            if status is not OwnerStatus.PRESENT:
                home = owner or home
                owner, target = None, target if target in self._receivers else None
            elif target is not None and target != NOBODY and target not in self._receivers:
                target = NOBODY
            if pin.target is not None and self._released.has(pin.owner, pin.id):
                owner, target, home = None, None if target == NOBODY else target, None
            yield PinDraft(pin, lock, owner, target, home)

    @cached_property
    def _tasks(self) -> Mapping[int, str]:
        """For the id that the pin of each lock would have, the lock's task."""
        return {self._old.total_tokens + lock.id: lock.task_id for lock in self._locks.values()}

    def _settled(self, lock: TaskLock, owner: str | None = None, target: str | None = None) -> str | None:
        """Return the stuck node that a pin stays on, or goes to because no other node is left; None if the planner chooses."""
        if not self._stuck:
            return None
        chosen = self._choices[lock.patterns][1]
        if owner in chosen & self._stuck and target is None:
            return owner
        if chosen <= self._stuck:
            return target if target in chosen else min(chosen, default=None)
        return None

    def requests(self, place: array[int], names: Sequence[str]) -> Iterator[PinRequest]:
        """Yield the other pins to be placed: each that has a lock, unless its owner is stuck."""
        choices, total, token_of = self._choices, self._old.total_tokens, self._token_of
        for before, lock, owner, target, home in self._drafts:
            if lock is None or self._settled(lock, owner, target):
                continue
            at = owner if target is None or target == NOBODY else target
            yield PinRequest(before.id, at, choices[lock.patterns][1], home, lock.group, lock.cost)
        for lock in self._new:
            if not self._settled(lock):
                token = self._new_tokens[lock.id] = token_of(lock.task_id)
                at = names[place[token]] if place[token] >= 0 else None
                yield PinRequest(total + lock.id, at, choices[lock.patterns][1], None, lock.group, lock.cost)

    def settle(self, places: Mapping[int, str | None], changes: RowChanges, number: int) -> PinChanges:
        """Return what to write of the pins, where ``changes`` are of the hash tokens.

        ``number`` becomes the version of the pins whose owner changes, new ones included.
        """
        found = PinChanges(number)
        for draft in chain(self._moved(places), self._drafts):
            before, lock, owner, target, _ = draft
            place = pattern = None
            if lock is None:
                # t=0   a works on the pinned task; the lock is cleared
                # t=1   removed at once, the pin would leave the task to its hash token, which b owns: b begins it too
                # So the pin has the target ``NOBODY`` until a has released it, unless a owns the hash token as well.
                home, known = changes.owner_of(self._token_of(before.task_id))
                if owner is None or (known and home == owner):
                    found.remove(draft)
                    continue
            else:
                place = self._settled(lock, owner, target) or places.get(before.id)
                pattern = self._choices[lock.patterns][0] if place is not None else _last_pattern(before, lock)
            found.moved += owner is None and place not in (None, before.owner)
            found.write(draft, *_owner_and_target(owner, place), pattern)
        for lock in self._new:
            pin_id = self._old.total_tokens + lock.id
            place, owner = self._settled(lock) or places.get(pin_id), None
            if self._old.members:
                # The task may be in flight on the node that owns its hash token: the pin begins there, whatever its place.
                token = self._new_tokens.get(lock.id)
                owner, known = changes.owner_of(self._token_of(lock.task_id) if token is None else token)
                if not known:
                    continue
            pattern = self._choices[lock.patterns][0] if place is not None else None
            found.add(pin_id, lock, *_owner_and_target(owner, place), pattern)
        return found

    def _moved(self, places: Mapping[int, str | None]) -> Iterator[PinDraft]:
        for by_owner in self.resting.values():
            for owner, ids in by_owner.items():
                for pin_id in ids:
                    if places[pin_id] != owner:
                        pin = self._old.pins[pin_id]
                        yield PinDraft(pin, self._locks[pin.task_id], owner)


def _owner_and_target(owner: str | None, place: str | None) -> tuple[str | None, str | None]:
    """Return the row's owner and target, of a pin that this owner has, if any, and that is to be at this place, if at any."""
    if owner is None:
        return place, None
    return owner, None if place == owner else NOBODY if place is None else place


def _last_pattern(pin: Pin, lock: TaskLock) -> str | None:
    """Return the pattern that was in force before no live node matched any, if the lock still has it."""
    return pin.pattern if pin.pattern in lock.patterns else None
