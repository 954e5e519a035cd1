"""Which tokens no node holds any more: those an owner has released, and those without a row (rules R3 and R5).

Each function answers from what the leader has read, changes nothing, and says when time alone may change the answer.

*Release.* An owner has released a token when ``seen`` in its record is the version in which the token's target stands, and
``holding`` no longer lists the token; or an earlier version, if the token has been requested of the owner without a break since
then (``requests``). "At least this version" would not do: in a history that has gone back two versions may have one number.

*Tokens without a row* (all of them, before the first distribution; some, after a manual edit) have an unknown last owner. Before
the first distribution of a timeline only nodes of older timelines may hold them (R8). Later such a token waits until every live
node has acknowledged a version that shows it ownerless, and until the longest timeout has passed of all nodes that may have had
it: a member that is cut off has a lease for its own timeout, whether or not its record is still there. Nor is the token free
while any member is WAITING::

    t=0   the rows of b's tokens are deleted manually
    t=4   b, which has not read that, sends a heartbeat and is cut off; its own row is deleted too
    t=15  the tokens have had no row for a timeout, and every node with a record has acknowledged that
    t=18  the lease of b ends
    t=19  b is GONE
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Set

import attrs

from jobsync._core.assignment import ABSENT, Assignment
from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.leader.requests import Requests
from jobsync._core.records import Member, Node

__all__ = ['Released', 'Rowless', 'find_released', 'find_rowless', 'longest_timeout', 'polling_pause']

_FIRST_POLL_SEC, _LAST_POLL_SEC = 0.03, 1.0
"""While acknowledgements are due, the leader polls for them at intervals that grow from the first to the second."""


def longest_timeout(own_sec: float, nodes: Iterable[Node], members: Mapping[str, Member]) -> float:
    """Return the seconds after which no node that may be working has a lease: registered nodes, and members without a record."""
    return max([own_sec, *(node.timeout_sec for node in nodes), *(member.timeout_sec for member in members.values())])


@attrs.frozen
class Released:
    """What present owners have released of their tokens and pins with a target, as of one version.

    It is known by owner, so it takes no memory for the tokens, which may be half a million.
    """

    holding: Mapping[str, Set[int]]
    """The present owners that have acknowledged the version, or an earlier one that counts, and the tokens and pins that each of
    them still holds, or was requested to release later than that."""
    count: int
    """How many tokens and pins have been released."""
    is_complete: bool
    """Whether every token and pin with a target has been released by its present owner."""
    owners: int
    """How many present owners have a token or pin to release."""
    answered: int
    """How many of them have acknowledged all that was requested of them, whether or not they still hold some of it."""

    @property
    def is_seen(self) -> bool:
        """Whether every such owner has acknowledged what is requested of it, though it may still hold tokens."""
        return self.answered == self.owners

    def has(self, owner: str | None, token: int) -> bool:
        """Return whether the owner has released a token or pin of its own that has a target."""
        holding = None if owner is None else self.holding.get(owner)
        return holding is not None and token not in holding

    def at(self, assignment: Assignment) -> list[Set[int] | None]:
        """Return for each position in the ``owner`` of an assignment what that owner holds, or None if it has released nothing.

        Positions below 0 count from the end, as in any list.
        """
        return [*map(self.holding.get, assignment.names), None, None]


def polling_pause(waited_sec: float) -> float:
    """Return how many seconds pass from one poll for acknowledgements to the next, ``waited_sec`` after the version was read."""
    return min(_LAST_POLL_SEC, max(_FIRST_POLL_SEC, waited_sec / 4))


def find_released(assignment: Assignment, owner_table: OwnerTable, requests: Requests) -> Released:
    """Return which tokens and pins that have a target their present owners have released."""
    asked = Counter(pin.owner for pin in assignment.pins.values() if pin.owner is not None and pin.target is not None)
    for (owner, _), count in assignment.moves.items():
        asked[owner] += count
    present = {name: count for name, count in asked.items() if owner_table.is_present(name)}
    found = {name: _holding(owner_table.alive[name], requests) for name in present}
    holding = {name: tokens for name, tokens in found.items() if tokens is not None}
    seen = {name: owner_table.alive[name].seen.number for name in holding}
    late = [request for request in requests.added if seen.get(request.owner, math.inf) < request.version.number]
    for request in late:
        holding[request.owner] = holding[request.owner] | frozenset(request.tokens)
    held = sum(assignment.asked_of(token) == name for name, tokens in holding.items() for token in tokens)
    released = sum(present[name] for name in holding) - held
    return Released(
        holding=holding,
        count=released,
        is_complete=released == sum(present.values()),
        owners=len(present),
        answered=len(holding.keys() - {request.owner for request in late}),
    )


def _holding(owner: Node, requests: Requests) -> Set[int] | None:
    """Return what an owner still holds, perhaps of what it is to hand over; None if no acknowledgement of it counts."""
    # t=0   version 7 gives token 3 the target b; its owner a reads so, and has a task of token 3 in flight
    # t=1   a acknowledges version 7 and reports token 3 in ``holding``: it claims no more of it, and still works on it
    # t=2   the task ends; a's next heartbeat reports nothing, and token 3 may pass on
    # Had a acknowledged version 8 instead, in which token 3 is its own again, it might be claiming it.
    return owner.holding if owner.seen in requests.versions else None


@attrs.frozen
class Rowless:
    """The tokens without a row, once there was a first distribution."""

    first_read: Mapping[int, float]
    """For each of them, when the leader first read so."""
    free: frozenset[int]
    """The tokens among them that no node can hold any more."""
    due_at: float
    """When more of them may be free; infinity if time alone brings nothing."""


def find_rowless(
    assignment: Assignment, owner_table: OwnerTable, first_read: Mapping[int, float], longest_timeout_sec: float, now: float
) -> Rowless:
    """Return the tokens without a row and which of them are free, given the ``first_read`` of the leader's last decision."""
    if not assignment.has_absent or not assignment.members:
        return Rowless({}, frozenset(), math.inf)
    rowless = {token: first_read.get(token, now) for token, owner in enumerate(assignment.owner) if owner == ABSENT}
    # A WAITING member's lease may have begun after the token was first read, and ends before the member is GONE.
    is_any_waiting = OwnerStatus.WAITING in owner_table.status.values()
    is_seen = all(node.seen == assignment.version for node in owner_table.alive.values())
    held = frozenset().union(*(node.holding for node in owner_table.alive.values()))
    free, due_at = [], math.inf
    for token, first in rowless.items():
        if now < first + longest_timeout_sec:
            due_at = min(due_at, first + longest_timeout_sec)
        elif is_any_waiting:
            continue
        elif is_seen and token not in held:
            free.append(token)
        else:
            due_at = min(due_at, now + _LAST_POLL_SEC)
    return Rowless(rowless, frozenset(free), due_at)
