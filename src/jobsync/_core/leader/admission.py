"""When a newcomer gets its share. Nothing here decides who may own what: only how long a plan waits.

**Gathering.** Newcomers are gathered for ``rebalance_delay_sec``, so that several that start together are one rebalance. Where
tokens have to move anyway, newcomers get theirs at once.

**Replacements.** A rolling replacement starts a node under a new name, and then stops an old one; again and again. Sharing with
each newcomer would move its tokens twice: first from all to the newcomer, then from the old node to all. So while that goes on,
a newcomer becomes a member that is given nothing. It gets its share from the next node that goes, one newcomer for one node, or
when it has been held back for ``HELD_SEC``. What tells of a replacement is a node that leaves in good order and is older, by
``HELD_SEC``, than one that registered within the last ``ROLL_SEC``; whoever joins within ``ROLL_SEC`` after it is a part of it.
So the first node of a replacement costs two moves, and each later one costs one.

The ages are by the store's clock: if it jumps, a newcomer waits that need not, or the other way round. The times of waiting are
by the leader's own. Another leader, which remembers nothing, lets in whoever is held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import attrs

from jobsync._core.records import Node, NodeRef, NodeState, Snapshot

__all__ = ['HELD_SEC', 'ROLL_SEC', 'Admission']

HELD_SEC = 30.0
"""How long a newcomer is held back at the longest, from the leader's first reading of it. Kubernetes needs some ten seconds to
see that it is ready, and to tell an old node to stop."""
ROLL_SEC = 120.0
"""How long after one step of a replacement the next may follow."""


@attrs.define
class Admission:
    """What a leader remembers of newcomers, on its own clock."""

    newcomers: dict[NodeRef, float] = attrs.field(factory=dict)
    """Those that are no members yet, and when each was first read."""
    held: dict[NodeRef, float] = attrs.field(factory=dict)
    """Members that are given nothing yet, the oldest first, and until when."""
    going: frozenset[NodeRef] = frozenset()
    """Nodes that own something and are on their way out, for each of which a newcomer has been let in, if there was one."""
    rolls_until: float = float('-inf')
    """Until when whoever joins is taken for a part of a replacement."""

    def note(self, newcomers: Iterable[Node], snapshot: Snapshot, departed: Set[NodeRef], now: float) -> None:
        """Take in what the leader has read: nodes that are no members yet, and those that have left in good order."""
        self.newcomers = {node.ref: self.newcomers.get(node.ref, now) for node in newcomers}
        left = [node.created_on for node in snapshot.nodes if node.ref in departed]
        recent = [
            node.created_on
            for node in snapshot.nodes
            if node.state is NodeState.JOINED and (snapshot.now - node.created_on).total_seconds() < ROLL_SEC
        ]
        if left and recent and (max(recent) - min(left)).total_seconds() >= HELD_SEC:
            self.rolls_until = now + ROLL_SEC

    def hold(self, newcomers: Iterable[Node]) -> None:
        """These become members, and are given nothing for now."""
        for node in sorted((node for node in newcomers if node.weight > 0), key=lambda node: (node.created_on, node.name)):
            self.held[node.ref] = self.newcomers[node.ref] + HELD_SEC

    def let_in(self, alive: Mapping[str, Node], going: frozenset[NodeRef], now: float) -> None:
        """One newcomer for each node that goes, and those that have waited long enough."""
        able = {node.ref for node in alive.values() if node.weight > 0}
        self.held = {ref: until for ref, until in self.held.items() if now < until and ref in able}
        for ref in list(self.held)[: len(going - self.going)]:
            del self.held[ref]
        self.going = going

    def is_rolling(self, now: float) -> bool:
        """Whether a replacement is going on."""
        return now < self.rolls_until
