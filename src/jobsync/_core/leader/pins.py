"""Pins: the leader's part of rule R7.

Every lock in force has a pin, a token of its own. A new pin's first owner is the owner of the task's hash token, for that node
alone may be working on the task; from the version that shows the pin, every node goes by it and not by the hash. From there a
pin is handed over like any token, within what the lock's patterns allow. When the lock goes, the pin's holder lets go of it
and the pin is removed; then the hash applies again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

import attrs

from jobsync._core.leader.handover import Handover
from jobsync._core.leader.row_changes import RowChanges
from jobsync._core.patterns import choose
from jobsync._core.planner.rebalance import PinRequest
from jobsync._core.records import NOBODY, Pin, TaskLock

__all__ = ['PinPlanner', 'wanted']


def wanted(locks: Iterable[TaskLock], names: Set[str], spare: Set[str]) -> frozenset[str]:
    """Those of ``spare`` without whom some lock would have to make do with a later pattern, or with none (promise P6)."""
    choices = (choose(patterns, names)[1] for patterns in {lock.patterns for lock in locks})
    return frozenset().union(*(chosen for chosen in choices if chosen <= spare))


@attrs.frozen
class _Draft:
    """A pin as it stands before places are chosen."""

    id: int
    task_id: str
    owner: str | None
    """None: in nobody's hands."""
    target: str | None
    lock: TaskLock | None
    before: Pin | None
    """The pin's present row; None for a new one."""
    home: str | None = None
    """The name that lost the pin by leaving or dying."""
    frozen: bool = False
    """Its owner may be working unseen: not to be touched."""


class PinPlanner:
    """The pins' part of one decision."""

    def __init__(self, handover: Handover, token_of: Callable[[str], int], receivers: Set[str], stuck: frozenset[str]) -> None:
        self._handover, self._token_of, self._receivers = handover, token_of, receivers
        self._stuck = frozenset(name for name in stuck if handover.owner_table.alive[name].weight > 0)
        self._choices: dict[tuple[str, ...], tuple[str | None, frozenset[str]]] = {}
        in_force: dict[str, TaskLock] = {}
        self.has_expired = self.expiring = False
        """Whether an expired lock is still in the store; whether such a lock still has a pin."""
        expired = set()
        if handover.policy.locks_enabled:
            for lock in handover.locks:
                if lock.expires_at is None or lock.expires_at > handover.snapshot.now:
                    in_force[lock.task_id] = lock
                    if lock.expires_at is not None:
                        left = (lock.expires_at - handover.snapshot.now).total_seconds()
                        handover.look_at.append(handover.now + max(left, 0.05))
                else:
                    self.has_expired = True
                    expired.add(handover.old.total_tokens + lock.id)
        self._locks = in_force
        self.expiring = not expired.isdisjoint(handover.old.pins)
        self._drafts = tuple(self._draft())

    def _draft(self) -> Iterator[_Draft]:
        handover, owner_table = self._handover, self._handover.owner_table
        # A lock's row may have been given another task by hand, and that task would overwrite the pin of the first one, which is
        # let go of before. If the first task has another lock by now, it has another pin after that.
        numbers = {handover.old.total_tokens + lock.id: lock.task_id for lock in self._locks.values()}
        pinned = set()
        for pin in handover.old.pins.values():
            pinned.add(pin.task_id)
            lock = self._locks.get(pin.task_id) if numbers.get(pin.id, pin.task_id) == pin.task_id else None
            if owner_table.is_waiting(pin.owner):
                yield _Draft(pin.id, pin.task_id, pin.owner, pin.target, lock, pin, frozen=True)
                continue
            owner, target, home = pin.owner, pin.target, pin.home
            if not owner_table.is_present(owner):
                home = owner or home
                owner, target = None, target if target in self._receivers else None
            elif target is not None and target != NOBODY and target not in self._receivers:
                target = NOBODY
            if owner is not None and target is not None and handover.let_go_of(owner, {pin.id}):
                owner, target, home = None, None if target == NOBODY else target, None
            yield _Draft(pin.id, pin.task_id, owner, target, lock, pin, home=home)
        for number, task_id in numbers.items():
            if task_id not in pinned and number not in handover.old.pins:
                yield _Draft(number, task_id, None, None, self._locks[task_id], None)

    def _choice(self, lock: TaskLock) -> tuple[str | None, frozenset[str]]:
        if lock.patterns not in self._choices:
            self._choices[lock.patterns] = choose(lock.patterns, self._receivers | self._stuck)
        return self._choices[lock.patterns]

    def _settled(self, draft: _Draft) -> str | None:
        """Return the stuck node that a pin stays on, or is to be on for want of another; None if the planner is to choose."""
        if not self._stuck or draft.lock is None:
            return None
        chosen = self._choice(draft.lock)[1]
        if draft.owner in chosen & self._stuck and draft.target is None:
            return draft.owner
        if chosen <= self._stuck:
            return draft.target if draft.target in chosen else min(chosen, default=None)
        return None

    def requests(self, place: array[int], names: Sequence[str]) -> list[PinRequest]:
        """What the planner is asked to place: every pin with a lock, whose owner may be asked."""
        asked = []
        for draft in self._drafts:
            if draft.lock is None or draft.frozen or self._settled(draft):
                continue
            at = draft.owner if draft.target in (None, NOBODY) else draft.target
            if draft.before is None:
                position = place[self._token_of(draft.task_id)]
                at = names[position] if position >= 0 else None
            asked.append(PinRequest(draft.id, at, self._choice(draft.lock)[1], draft.home))
        return asked

    def settle(
        self, places: Mapping[int, str | None], writing: RowChanges, number: int
    ) -> tuple[tuple[Pin, ...], frozenset[int], int]:
        """Return pins to write, pins to remove, and how many pass to a new owner, where ``writing`` has settled the hash tokens.

        ``number`` becomes the version of the pins whose owner changes, new ones included.
        """
        self._number = number
        written: list[Pin] = []
        removed: set[int] = set()
        moved = 0
        for draft in self._drafts:
            if draft.frozen:
                continue
            if draft.lock is None:
                home, known = writing.owner_of(self._token_of(draft.task_id))
                if draft.owner is None or (known and home == draft.owner):
                    removed.add(draft.id)
                else:
                    self._put(written, draft, draft.owner, NOBODY, None)
                continue
            place = self._settled(draft) or places.get(draft.id)
            pattern = self._choice(draft.lock)[0] if place is not None else _last_pattern(draft.before, draft.lock)
            owner = draft.owner
            if draft.before is None and not self._handover.fresh:
                owner, known = writing.owner_of(self._token_of(draft.task_id))
                if not known:
                    continue
            if owner is None:
                self._put(written, draft, place, None, pattern)
                moved += draft.before is not None and place is not None and place != draft.before.owner
            else:
                self._put(written, draft, owner, None if place == owner else NOBODY if place is None else place, pattern)
        return tuple(written), frozenset(removed), moved

    def _put(self, written: list[Pin], draft: _Draft, owner: str | None, target: str | None, pattern: str | None) -> None:
        before = draft.before
        version = before.version if before is not None and before.owner == owner else self._number
        pin = Pin(draft.id, draft.task_id, owner, target, version, pattern, None if draft.home == owner else draft.home)
        if pin != before:
            written.append(pin)


def _last_pattern(pin: Pin | None, lock: TaskLock) -> str | None:
    """The pattern that was in force before no live node matched any, if the lock still has it."""
    return pin.pattern if pin is not None and pin.pattern in lock.patterns else None
