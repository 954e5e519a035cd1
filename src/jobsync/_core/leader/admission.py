"""When a newcomer gets its share. Nothing here decides which node may own what: only how long a plan waits.

**Gathering.** Newcomers are gathered for ``rebalance_delay_sec``, so that several that start together are one rebalance. Where
tokens have to move anyway, newcomers get theirs at once. Hundreds that start together take longer than that to register, and
each plan would move again a part of what the one before has moved, with an answer of each owner that has to release something.
So while more than ``FEW`` are waiting, each that comes extends the time, by ``SECOND_SEC`` at most. While more than ``MANY`` are
waiting, or there are more than ``LARGE`` nodes, it does so the more, the longer they have been coming; and those that come while
many owners have to acknowledge what they are to release wait until they have. Neither adds more than ``LONGER_SEC``.

**Replacements.** A rolling replacement starts a node under a new name, and then stops an old one; again and again. Sharing with
each newcomer would move its tokens twice: first from all to the newcomer, then from the old node to all. So while that goes on,
a newcomer becomes a member that is given nothing. It gets its share from the next node that goes, one newcomer for one node, or
when it has been held back for ``HELD_SEC``. A replacement shows by a node that leaves in good order and is older, by
``HELD_SEC``, than one that registered within the last ``ROLL_SEC``; each node that joins within ``ROLL_SEC`` after it is a part
of it. So the first node of a replacement costs two moves, and each later one costs one.

The ages are by the store's clock: if it jumps, a newcomer waits without need, or does not wait. The times of waiting are by the
leader's own clock. Another leader, which remembers nothing, admits every node that is held back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from operator import attrgetter

import attrs

from jobsync._core.records import Node, NodeRef, NodeState, Snapshot

__all__ = ['HELD_SEC', 'ROLL_SEC', 'Admission']

HELD_SEC = 30.0
"""How long a newcomer is held back at the longest, from the leader's first reading of it. Kubernetes needs some ten seconds to
see that it is ready, and to stop an old node."""
ROLL_SEC = 120.0
"""How long after one step of a replacement the next may follow."""
FEW, MANY, LARGE = 5, 20, 100
SECOND_SEC, LONGER_SEC = 1.0, 10.0
"""How long a newcomer waits in a large cluster, whose leader may take that long to read of the next, and by how much others may
extend the time of more than a few; and by how much they may extend it in a large cluster, or if they are many."""


@attrs.define
class Admission:
    """What a leader remembers of newcomers, on its own clock."""

    newcomers: dict[NodeRef, float] = attrs.field(factory=dict)
    """For each registered node that is no member yet, when it was first read."""
    held: dict[NodeRef, float] = attrs.field(factory=dict)
    """Members that are given nothing yet, the oldest first, and until when."""
    going: frozenset[NodeRef] = frozenset()
    """Nodes that own something and leave or have died, for each of which a newcomer has been admitted, if there was one."""
    rolls_until: float = -math.inf
    """Until when a node that joins is taken for a part of a replacement."""

    def read(self, newcomers: Iterable[Node], snapshot: Snapshot, departed: Set[NodeRef], now: float) -> None:
        """Remember the nodes that are no members yet, and whether those that have left in good order are being replaced."""
        self.newcomers = {node.ref: self.newcomers.get(node.ref, now) for node in newcomers}
        left = [node.created_on for node in snapshot.nodes if node.ref in departed and not node.has_died]
        recent = [
            node.created_on
            for node in snapshot.nodes
            if node.state is NodeState.JOINED and (snapshot.now - node.created_on).total_seconds() < ROLL_SEC
        ]
        if left and recent and (max(recent) - min(left)).total_seconds() >= HELD_SEC:
            self.rolls_until = now + ROLL_SEC

    def admit(
        self,
        newcomers: list[Node],
        is_returning: Callable[[str], bool],
        alive: Mapping[str, Node],
        gone: Set[NodeRef],
        going: frozenset[NodeRef],
        is_busy: bool,
        delay_sec: float,
        now: float,
    ) -> tuple[list[Node], float]:
        """Return the newcomers that become members now, some of them held back, and when to decide on the others.

        ``is_returning`` says of a name whether it has tokens to get back. ``gone`` are the nodes this plan removes, ``going``
        those of them, and of the nodes of weight 0, that own anything. A plan that moves their tokens serves newcomers too.
        ``is_busy`` says whether many owners have yet to acknowledge what is requested of them.
        """
        strangers = [node for node in newcomers if now < self.rolls_until and not is_returning(node.name)]
        for node in sorted((node for node in strangers if node.weight > 0), key=attrgetter('seniority')):
            self.held[node.ref] = self.newcomers[node.ref] + HELD_SEC
        due_at = math.inf
        if len(strangers) < len(newcomers) and not (gone or going):
            read_at = [self.newcomers[node.ref] for node in newcomers]
            first, last = min(read_at), max(read_at)
            due, latest = first + delay_sec, first + delay_sec + LONGER_SEC
            if len(alive) > LARGE:
                due = max(due, first + SECOND_SEC)
            if len(newcomers) > MANY or len(alive) > LARGE:
                due = max(due, last + max(delay_sec, (last - first) / 4))
            elif len(newcomers) > FEW:
                due = max(due, min(last, first + SECOND_SEC) + delay_sec)
            due = latest if is_busy else min(due, latest)
            if now < due:
                newcomers, due_at = strangers, due
        able = {node.ref for node in alive.values() if node.weight > 0}
        self.held = {ref: until for ref, until in self.held.items() if now < until and ref in able}
        for ref in list(self.held)[: len(going - self.going)]:
            del self.held[ref]
        self.going = going
        return newcomers, due_at

    def held_among(self, names: Set[str]) -> frozenset[str]:
        """Return those of ``names`` that have not waited long enough."""
        return frozenset(ref.name for ref in self.held if ref.name in names)

    def hold_back(self, names: Set[str], needed: Set[str]) -> frozenset[str]:
        """Return those of ``names`` that are given nothing yet: never all of them, and none of the ``needed``."""
        held = self.held_among(names)
        freed = held & needed or (held if held == names else frozenset())
        self.held = {ref: until for ref, until in self.held.items() if ref.name not in freed}
        return held - freed

    @property
    def due_at(self) -> float:
        """When the first member that is held back has waited long enough; infinity if none is held back."""
        return min(self.held.values(), default=math.inf)
