"""What may be done with the tokens of each owning name (rule R5).

An owner is a name and an incarnation. Its tokens may be touched

- only by hand-over (R3) while it is registered and not suspected: PRESENT;
- at once if it left, or is evicted in the very commit that gives them away: GONE;
- not before its timeout, or the longest known if no member entry tells it, from the leader's first reading of it if its record is
  absent, or belongs to another incarnation that does not declare this one over: WAITING. Absent is not left: it may still be
  working;
- not before ``rejoin_grace_sec`` from then if it left and is expected back: WAITING as well.

If the name is registered by an incarnation that replaces the owner, the tokens are that incarnation's now, with no row changed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import attrs

from jobsync._core.leader.removals import Removals
from jobsync._core.records import Member, Node, NodeRef, NodeState, Snapshot

__all__ = ['OwnerStatus', 'OwnerTable']


class OwnerStatus(enum.Enum):
    """What the leader may do with an owner's tokens."""

    PRESENT = 'present'
    GONE = 'gone'
    WAITING = 'waiting'


@attrs.frozen
class OwnerTable:
    """Every registered node and every owner, judged at one moment."""

    nodes: Mapping[str, Node]
    alive: Mapping[str, Node]
    """Registered and not suspected."""
    standing: Mapping[str, OwnerStatus]
    """For each name that owns anything, or that the assignment has as a member."""
    members: Mapping[str, Member]
    """For the owners PRESENT or WAITING: the run their name means from this plan on."""
    removals: Removals
    """What goes with this plan."""
    decided_at: float | None
    """When the first of the WAITING is due."""

    @classmethod
    def judge(
        cls,
        snapshot: Snapshot,
        owners: Iterable[str],
        members: Mapping[str, Member],
        suspects: Mapping[str, tuple[str, int]],
        absent_since: dict[tuple[str, str], float],
        timeout_sec: float,
        now: float,
        grace_sec: float = 0.0,
        longest_sec: float = 0.0,
        max_removals: int = 1000,
    ) -> OwnerTable:
        """Judge ``owners`` and ``members``.

        ``absent_since`` is the leader's memory of when it first read each (name, incarnation) absent, or left; it is brought up
        to date. ``timeout_sec`` is the leader's own heartbeat timeout, the least that an absent owner is waited for;
        ``grace_sec`` is how long one that left is expected back; ``longest_sec`` is the longest timeout that the namespace has
        known, for which an owner without a member entry is waited for. Of those GONE the ones that are too many for one plan are
        WAITING for the next, which is made at once.
        """
        nodes = {node.name: node for node in snapshot.nodes}
        alive = {name: node for name, node in nodes.items() if node.state is NodeState.JOINED and suspects.get(name) != node.beat}
        standing: dict[str, OwnerStatus] = {}
        meant: dict[str, Member] = {}
        still_absent: dict[tuple[str, str], float] = {}
        returning: set[NodeRef] = set()
        due: list[float] = []
        for name in sorted({*owners, *members}):
            was, node = members.get(name), nodes.get(name)
            known = (
                was is not None and node is not None and (node.incarnation == was.incarnation or was.incarnation in node.replaces)
            )
            has_left = known and node is not None and node.state is NodeState.LEFT
            if not known or (has_left and grace_sec > 0):
                key = (name, was.incarnation if was else '')
                first = still_absent[key] = absent_since.get(key, now)
                over_at = first + (grace_sec if has_left else max(timeout_sec, was.timeout_sec if was else longest_sec))
                if now < over_at:
                    standing[name] = OwnerStatus.WAITING
                    due.append(over_at)
                    if was is not None:
                        meant[name] = was
                    if has_left and node is not None:
                        returning.add(node.ref)
                    continue
            if name in alive:
                standing[name] = OwnerStatus.PRESENT
                meant[name] = Member(alive[name].incarnation, alive[name].timeout_sec)
            else:
                standing[name] = OwnerStatus.GONE
        gone = {name: members.get(name) for name, verdict in standing.items() if verdict is OwnerStatus.GONE}
        removals = Removals.choose(nodes, alive, returning, gone, max_removals)
        for name in removals.later & gone.keys():
            standing[name] = OwnerStatus.WAITING
            if name in members:
                meant[name] = members[name]
        absent_since.clear()
        absent_since.update(still_absent)
        return cls(
            nodes=nodes,
            alive=alive,
            standing=standing,
            members=meant,
            removals=removals,
            decided_at=min(due, default=None),
        )

    def is_present(self, name: str | None) -> bool:
        """Whether this owner keeps its tokens until it lets go of them."""
        return name is not None and self.standing.get(name) is OwnerStatus.PRESENT

    def is_waiting(self, name: str | None) -> bool:
        """Whether this owner's tokens must not be touched yet."""
        return name is not None and self.standing.get(name) is OwnerStatus.WAITING
