"""A situation, judged: who is there, whose hands are off which token, and when there is reason to look again (rules R3 and R5).

An owner has acknowledged when its ``seen`` is exactly the version in which the target stands and it no longer lists the token in
``holding``. A commit makes a new version, so whoever has not acknowledged by then does so again: an acknowledgement never
outlives the version it was given for.

Tokens without a row (all of them, before the first distribution; some, after an edit by hand) have an unknown last owner.
Before the first distribution of a timeline there is none to fear but those of older timelines (R8). Later such tokens wait until
every live node has acknowledged a version that shows them ownerless, and until the longest timeout has passed of all that may
have had them: a member that is cut off has a lease for its own timeout, whether or not its record is still there. Nor are they
free while any member is WAITING::

    t=0   the rows of b's tokens are deleted by hand
    t=4   b, which has not read that, sends a heartbeat and is cut off; its own row is deleted too
    t=15  the tokens have had no row for a timeout, and every node with a record has acknowledged that
    t=18  the lease of b ends
    t=19  b is GONE
"""

from __future__ import annotations

from jobsync._core.assignment import ABSENT
from jobsync._core.leader.inputs import LeaderState, LeaderView, Policy
from jobsync._core.leader.owners import OwnerStatus, OwnerTable

__all__ = ['Handover']

_FIRST_LOOK_SEC, _LAST_LOOK_SEC = 0.03, 1.0
"""While acknowledgements are due, the leader looks for them at intervals that grow from the first to the second."""


class Handover:
    """What the leader goes by in one decision. The questions put to it leave their trace in what it says of waiting."""

    def __init__(self, situation: LeaderView, memory: LeaderState, policy: Policy) -> None:
        self.now, self.snapshot, self.locks = situation.now, situation.snapshot, situation.locks
        self.old = old = situation.assignment
        self.memory, self.policy = memory, policy
        self.fresh = not old.members
        """No distribution has been made in this timeline."""
        self.has_absent = ABSENT in old.owners and not self.fresh
        """Whether there are tokens without a row."""
        self.owners = {old.names[position] for position in old.owners if position >= 0}
        """The names that own anything."""
        self.owners.update(pin.owner for pin in old.pins.values() if pin.owner is not None)
        timeouts = [policy.timeout_sec, *(node.timeout_sec for node in self.snapshot.nodes)]
        self.longest_timeout = max(timeouts + [member.timeout_sec for member in old.members.values()])
        """After that, whoever may still be working has no lease: registered nodes, and members whose record is not there."""
        self.longest_ever = max(self.longest_timeout, self.snapshot.longest_timeout_sec, policy.longest_timeout_sec)
        """After that, not even a node of an older timeline has one, or one of which nothing is known."""
        self.owner_table = OwnerTable.judge(
            self.snapshot,
            self.owners,
            old.members,
            situation.suspects,
            memory.absent,
            policy.timeout_sec,
            self.now,
            policy.rejoin_grace_sec,
            self.longest_ever,
            policy.max_removals,
        )
        self.stuck = self._find_stuck()
        """Nodes whose work may not get through: they keep what they own and are given nothing."""
        self.look_at: list[float] = []
        """When something is due that no change of the store would tell of."""
        if self.owner_table.decided_at is not None:
            self.look_at.append(self.owner_table.decided_at)
        if memory.version != self.snapshot.version:
            memory.version, memory.version_read_at = self.snapshot.version, self.now
            memory.acknowledged_at = memory.seen_at = None
        self.lost: dict[int, float] = {}
        """Tokens without a row that have been asked about, and when each was first read."""
        self.acknowledged = self.outstanding = False
        """Whether something was let go of; whether something is still to be."""
        self._unseen = False
        """Whether by a node that has not even seen the version."""
        self._is_any_waiting = OwnerStatus.WAITING in self.owner_table.standing.values()
        self._all_have_seen = all(node.seen == old.version for node in self.owner_table.alive.values())

    def _find_stuck(self) -> frozenset[str]:
        """Return the nodes that say that they are no candidates (R4), until they have acknowledged a version newer than that.

        Such a node might never read what it is given. If none is a candidate, none is better than another.
        """
        alive, doubted = self.owner_table.alive.values(), self.memory.doubted
        if all(not node.candidate for node in alive):
            return frozenset()
        found = {node.ref: doubted.get(node.ref, self.snapshot.version.number) for node in alive if not node.candidate}
        self.memory.doubted = found
        return frozenset(node.name for node in alive if node.ref in found and node.seen.number <= found[node.ref])

    @property
    def look_again_at(self) -> float | None:
        """When to look again at the latest; None for not before something changes."""
        return min(self.look_at, default=None)

    def let_go_of(self, owner: str, tokens: set[int]) -> set[int]:
        """Which of these tokens their owner, who is present, is done with: it has acknowledged so in the version at hand."""
        node = self.owner_table.alive[owner]
        if node.seen != self.old.version:
            self.outstanding = self._unseen = True
            return set()
        done = tokens - node.holding
        self.acknowledged = self.acknowledged or bool(done)
        self.outstanding = self.outstanding or len(done) < len(tokens)
        return done

    def is_free_of_holders(self, token: int) -> bool:
        """Whether a token without a row can be in nobody's hands any more."""
        first = self.lost[token] = self.memory.lost.get(token, self.now)
        due = first + self.longest_timeout
        if self.now < due:
            self.look_at.append(due)
            return False
        if self._is_any_waiting:  # its lease may have begun after this token was first read, and ends before it is GONE
            return False
        if self._all_have_seen and not any(token in node.holding for node in self.owner_table.alive.values()):
            return True
        self.look_at.append(self.now + _LAST_LOOK_SEC)
        return False

    def note_acknowledgements(self) -> None:
        """Once all has been asked: remember when acknowledgements began to come, and look soon for those that are still due."""
        memory = self.memory
        memory.lost = self.lost
        if self.acknowledged and memory.acknowledged_at is None:
            memory.acknowledged_at = self.now
        if not self._unseen and memory.seen_at is None:
            memory.seen_at = self.now
        if self.outstanding:
            waited = self.now - memory.version_read_at
            self.look_at.append(self.now + min(_LAST_LOOK_SEC, max(_FIRST_LOOK_SEC, waited / 4)))
