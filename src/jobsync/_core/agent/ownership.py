"""What one node may claim, as an immutable value that ``can_claim_task`` reads without a lock."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from itertools import compress

import attrs

from jobsync._core.assignment import Assignment
from jobsync._core.records import NodeRef
from jobsync._core.tokens import both, without

__all__ = ['Grant', 'Ownership']

Grant = tuple[float, Mapping[str, bool] | None, tuple[bool, ...]]
"""What a node may claim and until when, in the form that is quickest to read, as one value: the end of the lease; for every
pinned task whether it may be claimed, None if there are no pins; and for every hash token whether it may be claimed."""


@attrs.frozen(eq=False, slots=False)
class Ownership:
    """The tokens and pinned tasks a node may claim while its lease runs. Tokens being given up are not among them."""

    mine: bytes = attrs.field(repr=lambda mine: f'<{sum(mine)} tokens>')
    """For each hash token 1 or 0."""
    pins: Mapping[str, bool] = attrs.field(repr=False)
    """For every pinned task whether it may be claimed here. Such a task is never treated by its hash token.

    A bare dict, not to be written to: reading through a proxy takes twice as long.
    """
    pin_ids: frozenset[int] = frozenset()
    """The ids of the pins among this node's tokens."""

    @classmethod
    def nothing(cls, total_tokens: int) -> Ownership:
        """Return the ownership of a node that may claim nothing."""
        return cls(mine=bytes(total_tokens), pins={})

    @classmethod
    def under(cls, assignment: Assignment, ref: NodeRef) -> Ownership:
        """Return what ``assignment`` gives to this run of the node; another run of its name owns nothing."""
        # t=0   run 1 of a is stopped in the middle of a call
        # t=16  run 2 of a registers over it, and the leader commits that the name a means run 2
        # t=17  run 1 goes on and reads that: by its name it would own every token of run 2
        member = assignment.members.get(ref.name)
        pins = assignment.pins.values()
        if member is None or member.incarnation != ref.incarnation:
            return cls(mine=bytes(assignment.total_tokens), pins={pin.task_id: False for pin in pins})
        mine = assignment.owned_mask(ref.name)
        if assignment.targets:
            mine = without(mine, assignment.targets.mask)
        held = [pin for pin in pins if pin.owner == ref.name and pin.target is None]
        claimable = {pin.task_id: False for pin in pins}
        claimable.update((pin.task_id, True) for pin in held)
        return cls(mine=mine, pins=claimable, pin_ids=frozenset(pin.id for pin in held))

    def claims(self, key: str, token: int) -> bool:
        """Return whether the task with this key, whose hash token is ``token``, may be claimed."""
        if self.pins:
            pinned = self.pins.get(key)
            if pinned is not None:
                return pinned
        return self.mine[token] == 1

    def both(self, other: Ownership, pinned_tokens: Mapping[str, int]) -> Ownership:
        """Return what both ownerships allow: the ownership between reading a version and acknowledging it.

        ``pinned_tokens`` gives the hash token of each task that one of them pins.
        """
        return Ownership(
            mine=both(self.mine, other.mine),
            pins={key: self.claims(key, token) and other.claims(key, token) for key, token in pinned_tokens.items()},
            pin_ids=self.pin_ids & other.pin_ids,
        )

    def allows_same(self, other: Ownership, pinned_tokens: Mapping[str, int]) -> bool:
        """Return whether both ownerships allow the same tasks, by the same tokens and pins. See ``both``."""
        return (
            self.mine == other.mine
            and self.pin_ids == other.pin_ids
            and all(self.claims(key, token) == other.claims(key, token) for key, token in pinned_tokens.items())
        )

    def granted(self, deadline: float, mine: tuple[bool, ...] | None = None) -> Grant:
        """Return this ownership with the end of the lease, as one value. ``mine`` are the hash tokens, if they are at hand."""
        return deadline, self.pins or None, struct.unpack(f'{len(self.mine)}?', self.mine) if mine is None else mine

    @cached_property
    def tokens(self) -> frozenset[int]:
        """The claimable tokens, pins included: the same object for as long as nothing changes."""
        return frozenset(compress(range(len(self.mine)), self.mine)) | self.pin_ids

    def has(self, token: int) -> bool:
        """Return whether a token or pin is among ``tokens``."""
        return token in self.pin_ids or (0 <= token < len(self.mine) and self.mine[token] == 1)

    @property
    def count(self) -> int:
        """How many tokens may be claimed, pins included: without a set of them, which takes 65 MB for a million."""
        return self.mine.count(1) + len(self.pin_ids)

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be claimed."""
        return not self.pin_ids and 1 not in self.mine
