"""From what the leader has read to what it commits: rules R3, R5 and R7.

``decide`` is called whenever something may have changed. It judges every owner (``standing``), works out for each token and
pin who is to have it (``rebalance``), and writes down the difference:

- A token whose owner's hands are off it (gone, or it has acknowledged letting go) passes to its place in this very commit.
- A token whose owner is present gets its place as *target*, and waits for the owner's acknowledgement.
- A token whose owner may still be working unseen is not touched.

An owner has acknowledged when its ``seen`` is exactly the version in which the target stands and it no longer lists the token in
``holding``. A commit makes a new version, so whoever has not acknowledged by then does so again: an acknowledgement never
outlives the version it was given for.

Tokens without a row (all of them, before the first distribution; some, after an edit by hand) have an unknown last owner.
Before the first distribution of a timeline there is none to fear but those of older timelines (R8). Later such tokens wait until
every live node has acknowledged a version that shows them ownerless and one timeout has passed for those that are not there.

What a leader remembers between two calls (``Memory``) is times on its own clock only; losing it makes things slower, not unsafe.
Who takes part, and since when, is ``admission``'s matter.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

import attrs

from jobsync.core import pinning
from jobsync.core.decision import Decision, Memory, Policy, Situation
from jobsync.core.model import Eviction, Member, Node, NodeRef, NodeState
from jobsync.core.rebalance import FREE, STUCK, rebalance
from jobsync.core.standing import Roster
from jobsync.core.tokens import ABSENT, UNOWNED, Plan
from jobsync.core.writing import Writing, write

__all__ = ['decide']

_GATHER_SEC = 0.5
"""How long, from the first acknowledgement of a version, the others are waited for, so that one commit serves all. A commit makes
a new version, which the stragglers must acknowledge instead: without push that costs them a heartbeat interval."""
_GATHER_HELD_SEC = 0.1
"""The same from when all have seen it, and some are still busy: whoever has only to be told that tokens go is ready by then."""
_FIRST_LOOK_SEC, _LAST_LOOK_SEC = 0.03, 1.0
"""While acknowledgements are due, the leader looks for them at intervals that grow from the first to the second."""


def decide(situation: Situation, memory: Memory, policy: Policy, token_of: Callable[[str], int]) -> Decision:
    """What the leader should commit now. ``token_of`` gives the hash token of a task's key.

    The leader of a cluster at rest looks all the time at what it has looked at before, and need not go through every token
    again: where there was nothing to do and nothing to wait for, there is none until something changes.
    """
    made_from = situation.substance, policy
    if memory.rest is not None and memory.rest[0] == made_from:
        return memory.rest[1]
    planner = _Planner(situation, memory, policy, token_of)
    decision = planner.decide()
    memory.rest = (made_from, decision) if planner.is_at_rest else None
    return decision


class _Planner:
    """One decision in the making."""

    def __init__(self, situation: Situation, memory: Memory, policy: Policy, token_of: Callable[[str], int]) -> None:
        self.now, self.me = situation.now, situation.me
        self.snapshot, self.old, self.locks = situation.snapshot, situation.assignment, situation.locks
        self.memory, self.policy, self.token_of = memory, policy, token_of
        self.look_at: list[float] = []
        self.fresh = not self.old.members
        """No distribution has been made in this timeline."""
        self.has_absent = ABSENT in self.old.owners and not self.fresh
        self.owners = {self.old.names[position] for position in self.old.owners if position >= 0}
        self.owners.update(pin.owner for pin in self.old.pins.values() if pin.owner is not None)
        self.roster = Roster.judge(
            self.snapshot,
            self.owners,
            self.old.members,
            situation.suspects,
            memory.absent,
            policy.timeout_sec,
            self.now,
            policy.rejoin_grace_sec,
        )
        if self.roster.decided_at is not None:
            self.look_at.append(self.roster.decided_at)
        if memory.version != self.snapshot.version:
            memory.version, memory.version_read_at = self.snapshot.version, self.now
            memory.acknowledged_at = memory.seen_at = None
        self.next_number = self.snapshot.revision.number + 1
        """Of the revision that a commit will make, or less: no fence that was ever given is as high."""
        self.longest_timeout = max([policy.timeout_sec, *(node.timeout_sec for node in self.snapshot.nodes)])
        self.all_have_seen = all(node.seen == self.old.version for node in self.roster.alive.values())
        self.evictions = tuple(
            Eviction(node.ref, node.heartbeat)
            for node in self.snapshot.nodes
            if node.state is NodeState.JOINED and node.name not in self.roster.alive
        )
        self.departed = tuple(
            node.ref for node in self.snapshot.nodes if node.state is NodeState.LEFT and node.ref not in self.roster.returning
        )
        self.lost: dict[int, float] = {}
        """Tokens without a row, and when that was first read."""
        self.handed_over: set[int] = set()
        """Tokens that a present owner has let go of."""
        self.held_back: frozenset[str] = frozenset()
        """Members that are given nothing for now."""
        self.writing = Writing((), 0)
        self.acknowledged = self.outstanding = self.unseen = False
        """Whether a token was let go of; whether one is still to be; whether by a node that has not even seen the version."""
        self.is_at_rest = False
        """Whether there is nothing to do, and nothing that time alone could bring."""

    # --- the steps -------------------------------------------------------------------------------------------------------

    def decide(self) -> Decision:
        memory = self.memory
        members = self._members()
        if members is None:
            return Decision(None, min(self.look_at, default=None))
        weights = {name: self.roster.alive[name].weight for name in members if name in self.roster.alive}
        for name in [name for name in weights if self.roster.is_waiting(name)]:
            del weights[name]
        self.held_back = self._held_back({name for name, weight in weights.items() if weight > 0})
        weights.update(dict.fromkeys(self.held_back, 0.0))
        receivers = {name for name, weight in weights.items() if weight > 0}
        names, place, home = self._places(receivers)
        pins = pinning.PinPlanner(self, receivers)
        placement = rebalance(weights, names, place, home, pins.requests(place, names))
        memory.lost = self.lost
        self.writing = write(self.old, self.roster, self.handed_over, placement.moves, receivers)
        groups = self.writing.groups
        written, unpinned, pin_moves = pins.settle(placement.pins)
        evictions, departed = self.evictions, self.departed
        structural = bool(evictions or departed or self._changed(members))
        if self.acknowledged and memory.acknowledged_at is None:
            memory.acknowledged_at = self.now
        if not self.unseen and memory.seen_at is None:
            memory.seen_at = self.now
        gathering = (
            self.outstanding
            and not structural
            and memory.acknowledged_at is not None
            and self.now < memory.acknowledged_at + _GATHER_SEC
            and (memory.seen_at is None or self.now < max(memory.acknowledged_at, memory.seen_at) + _GATHER_HELD_SEC)
        )
        if self.outstanding:
            waited = self.now - memory.version_read_at
            self.look_at.append(self.now + min(_LAST_LOOK_SEC, max(_FIRST_LOOK_SEC, waited / 4)))
        if gathering or not (groups or written or unpinned or structural):
            if not (self.outstanding or memory.admission.newcomers or memory.lost or self.roster.decided_at):
                memory.unsettled_since = memory.cause = None
                self.is_at_rest = not self.look_at
            return Decision(None, min(self.look_at, default=None), expired=pins.has_expired and not pins.expiring)
        if memory.unsettled_since is None:
            memory.unsettled_since = self.now
        reason = self._reason(evictions, departed, members, bool(written or unpinned))
        if memory.cause is None or (structural and reason is not None):
            memory.cause = (reason or 'hand-over', len(self.old.members))
        plan = Plan(
            reason=memory.cause[0],
            members=self._changed(self._fenced(members, unpinned)),
            groups=groups,
            pins=written,
            unpinned=unpinned,
            evictions=evictions,
            departed=departed,
            moved=self.writing.moved + pin_moves,
            nodes_before=memory.cause[1],
            nodes_after=len(weights),
            duration_ms=round(1000 * (self.now - memory.unsettled_since)),
        )
        return Decision(plan, min(self.look_at, default=None))

    def _members(self) -> dict[str, Member] | None:
        """Who takes part from this plan on; None while there is nothing to do but wait."""
        roster, memory, policy = self.roster, self.memory, self.policy
        members = dict(roster.members)
        newcomers = [node for name, node in roster.alive.items() if name not in members and not roster.is_waiting(name)]
        memory.admission.note(newcomers, self.snapshot, set(self.departed), self.now)
        if self.fresh:
            enough = policy.minimum_nodes is not None and len(roster.alive) >= policy.minimum_nodes
            formed = policy.minimum_nodes is None and self.now >= policy.form_at
            if not (enough or formed):
                if policy.minimum_nodes is None:
                    self.look_at.append(policy.form_at)
                return None
            safe_at = memory.timeline_read_at + self.longest_timeout
            trusted = policy.trust_first_timeline and self.snapshot.timeline.generation == 0
            if not trusted and self.now < safe_at:
                self.look_at.append(safe_at)
                return None
        elif any(roster.is_present(name) for name in members):
            newcomers = self._admitted(newcomers)
        members.update({node.name: Member(node.incarnation, node.timeout_sec) for node in newcomers})
        return {name: self._with_since(name, member) for name, member in members.items()}

    def _admitted(self, newcomers: list[Node]) -> list[Node]:
        """Those that are to be members now, some of them without tokens (see ``admission``)."""
        admission, roster = self.memory.admission, self.roster
        strangers = [node for node in newcomers if admission.is_rolling(self.now) and not self._has_home(node.name)]
        admission.hold(strangers)
        gone = {eviction.ref for eviction in self.evictions}.union(self.departed)
        drained = {node.ref for node in roster.alive.values() if node.weight == 0}
        going = frozenset(ref for ref in gone | drained if ref.name in self.owners)
        if len(strangers) < len(newcomers) and not (gone or going):
            due = min(admission.newcomers[node.ref] for node in newcomers) + self.policy.rebalance_delay_sec
            if self.now < due:
                self.look_at.append(due)
                newcomers = strangers
        admission.let_in(roster.alive, going, self.now)
        return newcomers

    def _has_home(self, name: str) -> bool:
        """Whether it has lost tokens by leaving, which it is to have back."""
        return name in self.old.names and self.old.names.index(name) in self.old.home

    def _held_back(self, names: set[str]) -> frozenset[str]:
        """The members that are given nothing yet: never all, and none that a task lock has been waiting for."""
        admission = self.memory.admission
        held = {ref.name for ref in admission.held} & names
        wanted = pinning.wanted(self.locks, names, held) if held and self.policy.locks_enabled else frozenset()
        if held == names or wanted:
            wanted = wanted or frozenset(held)
            admission.held = {ref: until for ref, until in admission.held.items() if ref.name not in wanted}
        self.look_at += admission.held.values()
        return frozenset(held - wanted)

    def _with_since(self, name: str, member: Member) -> Member:
        """A run that is new under its name owns everything under a higher fence than the run before it."""
        was = self.old.members.get(name)
        same = was is not None and was.incarnation == member.incarnation
        return attrs.evolve(member, since=was.since if was is not None and same else self.next_number)

    def _fenced(self, members: dict[str, Member], unpinned: frozenset[int]) -> dict[str, Member]:
        """A task whose pin goes is owned by its hash token from now on, whose row may be older than the pin's."""
        for pin_id in unpinned:
            owner, _ = self.owner_after(self.token_of(self.old.pins[pin_id].task_id))
            if owner in members:
                members[owner] = attrs.evolve(members[owner], since=self.next_number)
        return members

    def _changed(self, members: Mapping[str, Member]) -> dict[str, Member | None]:
        """What a plan says of its members: those that are new or other than before, and None for those that go."""
        old = self.old.members
        changed: dict[str, Member | None] = dict.fromkeys(old.keys() - members.keys())
        changed.update({name: member for name, member in members.items() if old.get(name) != member})
        return changed

    def _places(self, receivers: set[str]) -> tuple[list[str], array[int], array[int]]:
        """For each token who is to have it as things stand, for the planner to improve on."""
        old, roster = self.old, self.roster
        names = list(old.names)
        positions = {name: position for position, name in enumerate(names)}
        for name in sorted(receivers - positions.keys()):
            positions[name] = len(names)
            names.append(name)
        place = array('i', [FREE]) * old.total_tokens if self.fresh else old.owner[:]
        waiting = {position for name, position in positions.items() if roster.is_waiting(name)}
        if waiting:
            for token, at in enumerate(place):
                if at in waiting:
                    place[token] = STUCK
        self._find_lost(place)
        self._follow_targets(place, positions, receivers)
        return names, place, old.home

    def _follow_targets(self, place: array[int], positions: Mapping[str, int], receivers: set[str]) -> None:
        """Tokens being handed over are where they are going, if somebody is there to take them."""
        old, roster = self.old, self.roster
        alike: dict[tuple[int, str], list[int]] = {}
        for token, target in old.targets.items():
            alike.setdefault((old.owner[token], target), []).append(token)
        for (owner_at, target), tokens in alike.items():
            owner = old.names[owner_at] if owner_at >= 0 else None
            if owner_at == ABSENT or roster.is_waiting(owner):
                continue
            free = set(tokens)
            if owner is not None and roster.is_present(owner):
                free = self._let_go_of(owner, free)
                self.handed_over |= free
            for token in tokens:
                place[token] = positions[target] if target in receivers else FREE if token in free else owner_at

    def _find_lost(self, place: array[int]) -> None:
        """Free the tokens without a row once nobody can still hold them."""
        if self.has_absent:
            for token, owner in enumerate(self.old.owner):
                if owner == ABSENT:
                    place[token] = FREE if self.is_free_of_holders(token) else STUCK

    # --- judgements ------------------------------------------------------------------------------------------------------

    def has_let_go(self, owner: str, token: int) -> bool:
        """Whether a present owner has acknowledged, in the version at hand, that it is done with a token it was asked for."""
        return bool(self._let_go_of(owner, {token}))

    def _let_go_of(self, owner: str, tokens: set[int]) -> set[int]:
        """The same of several tokens: those of them that it is done with."""
        node = self.roster.alive[owner]
        if node.seen != self.old.version:
            self.outstanding = self.unseen = True
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
        if self.all_have_seen and not any(token in node.holding for node in self.roster.alive.values()):
            return True
        self.look_at.append(self.now + _LAST_LOOK_SEC)
        return False

    def owner_after(self, token: int) -> tuple[str | None, bool]:
        """Who owns a hash token after this commit, and whether that is known."""
        if token in self.writing.owners:
            return self.writing.owners[token], True
        position = self.old.owner[token]
        return (self.old.names[position] if position >= 0 else None), position != ABSENT or self.fresh

    # --- writing it down -------------------------------------------------------------------------------------------------

    def _reason(
        self, evictions: tuple[Eviction, ...], departed: tuple[NodeRef, ...], members: Mapping[str, Member], pins: bool
    ) -> str | None:
        """Why, for people; None if this only goes on with what is under way."""
        if self.fresh:
            return 'first distribution'
        parts = []
        if evictions:
            parts.append(f'node dead: {_listed([eviction.ref.name for eviction in evictions])}')
        if departed:
            parts.append(f'node left: {_listed([ref.name for ref in departed])}')
        joined = [name for name, member in members.items() if self.old.members.get(name) != member]
        if let_in := [name for name in joined if name not in self.held_back]:
            parts.append(f'node joined: {_listed(let_in)}')
        if held := [name for name in joined if name in self.held_back]:
            parts.append(f'node joined, to replace one that goes: {_listed(held)}')
        if parts:
            return '; '.join(parts)
        if self.acknowledged:
            return None
        return 'task locks' if pins else 'rebalance'


def _listed(names: list[str]) -> str:
    shown = sorted(names)
    return ', '.join(shown[:5]) + (f' and {len(shown) - 5} more' if len(shown) > 5 else '')


assert UNOWNED == FREE
assert ABSENT == STUCK
