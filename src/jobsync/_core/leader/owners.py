"""What the leader may do with the tokens of each owning name (rules R4 and R5).

An owner is a name and an incarnation. Its tokens may be touched

- only in a hand-over (R3) while it is registered and not suspected: PRESENT;
- at once if it left, or is evicted in the very commit that gives them away, or makes this commit as its last: GONE;
- not before its timeout, or the longest known if it has no member entry, from the leader's first reading of it if its record is
  absent, or belongs to another incarnation that does not replace it: WAITING. Absent is not left: it may still be working;
- not before ``rejoin_grace_sec`` from then if it left and is expected back, which one that has died is not: WAITING as well.

If the name is registered by an incarnation that replaces the owner, the tokens are that incarnation's now, with no row changed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping

import attrs

from jobsync._core.leader.removals import Removals
from jobsync._core.records import Member, Node, NodeRef, NodeState, Snapshot

__all__ = ['OwnerStatus', 'OwnerTable', 'find_stuck']


class OwnerStatus(enum.Enum):
    """What the leader may do with an owner's tokens."""

    PRESENT = 'present'
    GONE = 'gone'
    WAITING = 'waiting'


@attrs.frozen
class OwnerTable:
    """Every registered node and every owner at one moment."""

    nodes: Mapping[str, Node]
    alive: Mapping[str, Node]
    """Registered and not suspected; every PRESENT owner is among them."""
    status: Mapping[str, OwnerStatus]
    """For each name that owns anything, or that the assignment has as a member."""
    members: Mapping[str, Member]
    """For the owners PRESENT or WAITING: the run their name means from this plan on."""
    removals: Removals
    """What goes with this plan."""
    absent_since: Mapping[tuple[str, str], float]
    """For each (name, incarnation) that is absent, or left and is expected back: when the leader first read so."""
    due_at: float
    """When the first of the WAITING is due; infinity if none is."""

    @classmethod
    def judge(
        cls,
        snapshot: Snapshot,
        owners: Iterable[str],
        members: Mapping[str, Member],
        suspects: Mapping[str, tuple[str, int]],
        absent_since: Mapping[tuple[str, str], float],
        *,
        now: float,
        timeout_sec: float,
        longest_timeout_sec: float,
        rejoin_grace_sec: float,
        max_removals: int,
        leaving: NodeRef | None = None,
    ) -> OwnerTable:
        """Judge ``owners`` and ``members``, given the ``absent_since`` of the leader's last judgement.

        ``timeout_sec`` is the leader's own heartbeat timeout, the least that an absent owner is waited for. An owner without a
        member entry is waited for ``longest_timeout_sec``, the longest timeout that the namespace has known. Owners that are
        GONE and too many for one plan are WAITING for the next, which follows at once. ``leaving`` is the leader whose last plan
        this is: it is GONE, and its record, which says JOINED until it deregisters, stays.
        """
        nodes = {node.name: node for node in snapshot.nodes}
        alive = {
            name: node
            for name, node in nodes.items()
            if node.state is NodeState.JOINED and suspects.get(name) != node.beat and node.ref != leaving
        }
        status: dict[str, OwnerStatus] = {}
        meant: dict[str, Member] = {}
        still_absent: dict[tuple[str, str], float] = {}
        staying: set[NodeRef] = set() if leaving is None else {leaving}
        due_at = math.inf
        for name in sorted({*owners, *members}):
            was, node = members.get(name), nodes.get(name)
            known = (
                was is not None and node is not None and (node.incarnation == was.incarnation or was.incarnation in node.replaces)
            )
            has_left = known and node is not None and node.state is NodeState.LEFT and not node.has_died
            if not known or (has_left and rejoin_grace_sec > 0):
                # t=0   the record of b is deleted manually, or lost; b has a lease and goes on claiming
                # t=1   the leader reads so, and counts from here, not from b's last heartbeat, which it cannot know
                # t=14  the lease of b ends
                # t=16  a timeout after t=1, the leader gives b's tokens away
                key = (name, was.incarnation if was else '')
                first = still_absent[key] = absent_since.get(key, now)
                wait_sec = rejoin_grace_sec if has_left else max(timeout_sec, was.timeout_sec if was else longest_timeout_sec)
                if now < first + wait_sec:
                    status[name] = OwnerStatus.WAITING
                    due_at = min(due_at, first + wait_sec)
                    if was is not None:
                        meant[name] = was
                    if has_left and node is not None:
                        staying.add(node.ref)
                    continue
            if name in alive:
                status[name] = OwnerStatus.PRESENT
                meant[name] = Member(alive[name].incarnation, alive[name].timeout_sec)
            else:
                status[name] = OwnerStatus.GONE
        gone = {
            name: members.get(name)
            for name, found in status.items()
            if found is OwnerStatus.GONE and (leaving is None or name != leaving.name)
        }
        removals = Removals.choose(nodes, alive, staying, gone, max_removals)
        for name in removals.later & gone.keys():
            status[name] = OwnerStatus.WAITING
            if name in members:
                meant[name] = members[name]
        return cls(nodes, alive, status, meant, removals, still_absent, due_at)

    def is_present(self, name: str | None) -> bool:
        """Return whether this owner keeps its tokens until it releases them."""
        return name is not None and self.status.get(name) is OwnerStatus.PRESENT

    def is_waiting(self, name: str | None) -> bool:
        """Return whether this owner's tokens must not be touched yet."""
        return name is not None and self.status.get(name) is OwnerStatus.WAITING


def find_stuck(
    alive: Iterable[Node], version_number: int, doubted: Mapping[NodeRef, int]
) -> tuple[frozenset[str], Mapping[NodeRef, int]]:
    """Return the names of the nodes whose work may not get through, and the updated ``doubted``.

    A stuck node is no candidate (R4) and might never read what it is given, so it keeps what it owns and is given nothing,
    until it has acknowledged a version newer than the one at which the leader first read so (``doubted``). If no node is a
    candidate, none is better than another, and none is stuck.
    """
    nodes = list(alive)
    if all(not node.candidate for node in nodes):
        return frozenset(), doubted
    found = {node.ref: doubted.get(node.ref, version_number) for node in nodes if not node.candidate}
    return frozenset(node.name for node in nodes if node.ref in found and node.seen.number <= found[node.ref]), found
