"""Pins: the leader's part of rule R7.

Every task with a lock in force, and every item, has a pin, a token of its own. A new pin's first owner is the owner of the task's
hash token, the only node that may be working on the task; from the version that shows the pin, every node treats the task by its
pin and not by its hash. From there a pin is handed over like any token, within what the patterns allow. When the lock or item
goes, the pin's owner releases it and the pin is removed; then the hash applies again.

An item that has a lock too has one pin, to which the lock's patterns apply. Of the items of several groups that are one task, the
oldest counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import NamedTuple

import attrs

from jobsync._core.leader.inputs import LeaderView
from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.leader.row_changes import RowChanges
from jobsync._core.patterns import choose
from jobsync._core.planner.rebalance import PinRequest
from jobsync._core.records import NOBODY, Pin, TaskLock

__all__ = ['PinPlanner', 'wanted']

_LEAST_WAIT_SEC = 0.05
_FOREVER = float('inf')


def wanted(locks: Iterable[TaskLock], names: Set[str], spare: Set[str]) -> frozenset[str]:
    """Return those of ``spare`` without which some lock would have a later pattern of its list, or none (promise P6)."""
    choices = (choose(patterns, names)[1] for patterns in {lock.patterns for lock in locks})
    return frozenset().union(*(chosen for chosen in choices if chosen <= spare))


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


class _Draft(NamedTuple):
    """A pin before its place is chosen. A tuple is made in a fraction of the time of another class."""

    id: int
    task_id: str
    owner: str | None
    """None: no node can hold it."""
    target: str | None
    lock: TaskLock | None
    before: Pin | None
    """The pin's present row; None for a new one."""
    home: str | None = None
    """The name that lost the pin by leaving or dying."""
    frozen: bool = False
    """Its owner may be working unseen: not to be touched."""

    @property
    def group(self) -> str:
        """The group of the item; the one that it was in, if it is none any more."""
        return self.lock.group if self.lock is not None else self.before.group if self.before is not None else ''


@attrs.define
class PinChanges:
    """What a plan writes of pins."""

    written: list[Pin] = attrs.field(factory=list)
    removed: set[int] = attrs.field(factory=set)
    moved: int = 0
    """How many pass to a new owner."""
    locked: set[str | None] = attrs.field(factory=set)
    """The owners of the pins written or removed that are of no item."""
    declared: set[str] = attrs.field(factory=set)
    """The groups with items that are new or go."""
    placed: set[str] = attrs.field(factory=set)
    """The groups with items whose place is chosen by another pattern than before."""

    def remove(self, draft: _Draft) -> None:
        """Remove the pin of a draft."""
        self.removed.add(draft.id)
        self._explain(draft, None, None)

    def write(self, draft: _Draft, owner: str | None, target: str | None, pattern: str | None, number: int) -> None:
        """Write the pin of a draft, if it differs from the present one."""
        pin_id, task_id, _, _, lock, before, home, _ = draft
        home, version = None if home == owner else home, number
        group = lock.group if lock is not None else draft.group
        if before is not None:
            if before.owner == owner:
                version = before.version
                if (target, pattern, home, group) == (before.target, before.pattern, before.home, before.group):
                    return
            self._explain(draft, owner, pattern)
        elif group:
            self.declared.add(group)
        else:
            self.locked.add(owner)
        self.written.append(Pin(pin_id, task_id, owner, target, version, pattern, home, group))

    def _explain(self, draft: _Draft, owner: str | None, pattern: str | None) -> None:
        before, group = draft.before, draft.group
        groups = {group} if before is None else {group, before.group}
        if not any(groups):
            self.locked.add(owner)
        elif before is None or draft.lock is None or len(groups) > 1:
            self.declared.update(groups - {''})
        elif pattern != before.pattern:
            self.placed.add(group)


class PinPlanner:
    """The pins' part of one decision: what to request of the planner, and what to write once the planner has chosen."""

    def __init__(
        self,
        view: LeaderView,
        owner_table: OwnerTable,
        released: Set[int],
        receivers: Set[str],
        stuck: Set[str],
        token_of: Callable[[str], int],
        locks_enabled: bool,
    ) -> None:
        self._old, self._owner_table, self._released = view.assignment, owner_table, released
        self._receivers, self._token_of = receivers, token_of
        self._stuck = frozenset(name for name in stuck if owner_table.alive[name].weight > 0)
        self._choices: dict[tuple[str, ...], tuple[str | None, frozenset[str]]] = {}
        now = view.snapshot.now
        locks = view.locks if locks_enabled else [lock for lock in view.locks if lock.group]
        timed = [(lock, lock.expires_at) for lock in locks if lock.expires_at is not None]
        expired = [lock for lock, expires_at in timed if expires_at <= now]
        self._locks = (
            in_force(lock for lock in locks if lock.expires_at is None or lock.expires_at > now) if expired else in_force(locks)
        )
        pins = {lock.task_id: self._old.pins.get(self._old.total_tokens + lock.id) for lock in expired}
        self.can_drop_expired = bool(expired) and all(pin is None or pin.task_id in self._locks for pin in pins.values())
        """Whether an expired lock is still in the store, and no such lock has a pin any more, except one of an item."""
        ends = [expires_at for _, expires_at in timed if expires_at > now]
        self.due_at = view.now + max((min(ends) - now).total_seconds(), _LEAST_WAIT_SEC) if ends else _FOREVER
        """When the first lock in force expires; infinity if none does."""
        self._drafts = tuple(self._draft())
        self._new_tokens: dict[int, int] = {}
        """The hash tokens of new pins, once they were computed."""

    def _draft(self) -> Iterator[_Draft]:
        old, owner_table = self._old, self._owner_table
        total, locks = old.total_tokens, self._locks
        for pin in old.pins.values():
            # A lock's row may have been given another task manually. The pin of that task would overwrite the pin of the first
            # one, which is released before. If the first task has another lock by now, it has another pin after that.
            lock = locks.get(pin.task_id)
            if lock is not None and total + lock.id != pin.id and self._tasks.get(pin.id, pin.task_id) != pin.task_id:
                lock = None
            status = owner_table.status.get(pin.owner) if pin.owner is not None else None
            if status is OwnerStatus.WAITING:
                yield _Draft(pin.id, pin.task_id, pin.owner, pin.target, lock, pin, frozen=True)
                continue
            owner, target, home = pin.owner, pin.target, pin.home
            if status is not OwnerStatus.PRESENT:
                home = owner or home
                owner, target = None, target if target in self._receivers else None
            elif target is not None and target != NOBODY and target not in self._receivers:
                target = NOBODY
            if pin.id in self._released:
                owner, target, home = None, None if target == NOBODY else target, None
            yield _Draft(pin.id, pin.task_id, owner, target, lock, pin, home=home)
        pinned = old.pin_of
        for task_id, lock in locks.items():
            if task_id not in pinned and total + lock.id not in old.pins:
                yield _Draft(total + lock.id, task_id, None, None, lock, None)

    @cached_property
    def _tasks(self) -> Mapping[int, str]:
        """For the id that the pin of each lock would have, the lock's task."""
        return {self._old.total_tokens + lock.id: lock.task_id for lock in self._locks.values()}

    def _choice(self, lock: TaskLock) -> tuple[str | None, frozenset[str]]:
        if lock.patterns not in self._choices:
            self._choices[lock.patterns] = choose(lock.patterns, self._receivers | self._stuck)
        return self._choices[lock.patterns]

    def _settled(self, draft: _Draft) -> str | None:
        """Return the stuck node that a pin stays on, or goes to because no other node is left; None if the planner chooses."""
        if draft.lock is None:
            return None
        chosen = self._choice(draft.lock)[1]
        if draft.owner in chosen & self._stuck and draft.target is None:
            return draft.owner
        if chosen <= self._stuck:
            return draft.target if draft.target in chosen else min(chosen, default=None)
        return None

    def requests(self, place: array[int], names: Sequence[str]) -> list[PinRequest]:
        """Return what the planner is to place: every pin with a lock, unless its owner may be working unseen or is stuck."""
        requests, tokens = [], self._new_tokens
        for draft in self._drafts:
            pin_id, task_id, owner, target, lock, before, home, frozen = draft
            if lock is None or frozen or (self._stuck and self._settled(draft)):
                continue
            at = owner if target is None or target == NOBODY else target
            if before is None:
                position = place[tokens.setdefault(pin_id, self._token_of(task_id))]
                at = names[position] if position >= 0 else None
            requests.append(PinRequest(pin_id, at, self._choice(lock)[1], home, lock.group, lock.cost))
        return requests

    def settle(self, places: Mapping[int, str | None], changes: RowChanges, number: int) -> PinChanges:
        """Return what to write of the pins, where ``changes`` are of the hash tokens.

        ``number`` becomes the version of the pins whose owner changes, new ones included.
        """
        found = PinChanges()
        for draft in self._drafts:
            if draft.frozen:
                continue
            owner, place, pattern, lock, before = draft.owner, None, None, draft.lock, draft.before
            if lock is None:
                # t=0   a works on the pinned task; the lock is cleared
                # t=1   removed at once, the pin would leave the task to its hash token, which b owns: b begins it too
                # So the pin has the target ``NOBODY`` until a has released it, unless a owns the hash token as well.
                home, known = changes.owner_of(self._token_of(draft.task_id))
                if owner is None or (known and home == owner):
                    found.remove(draft)
                    continue
            else:
                place = (self._settled(draft) if self._stuck else None) or places.get(draft.id)
                pattern = self._choice(lock)[0] if place is not None else _last_pattern(before, lock)
                if before is None and self._old.members:
                    # The task may be in flight on the node that owns its hash token: the pin begins there, whatever its place.
                    token = self._new_tokens.get(draft.id)
                    owner, known = changes.owner_of(self._token_of(draft.task_id) if token is None else token)
                    if not known:
                        continue
            if owner is None:
                found.moved += before is not None and place is not None and place != before.owner
                owner, target = place, None
            else:
                target = None if place == owner else NOBODY if place is None else place
            found.write(draft, owner, target, pattern, number)
        return found


def _last_pattern(pin: Pin | None, lock: TaskLock) -> str | None:
    """Return the pattern that was in force before no live node matched any, if the lock still has it."""
    return pin.pattern if pin is not None and pin.pattern in lock.patterns else None
