"""From what the leader has read to what it commits: rules R3, R5 and R7.

``decide`` is called whenever something may have changed. It judges every owner (``judgement``), works out for each token and
pin who is to have it (``rebalance``), and writes down the difference:

- A token whose owner's hands are off it (gone, or it has acknowledged letting go) passes to its place in this very commit.
- A token whose owner is present gets its place as *target*, and waits for the owner's acknowledgement.
- A token whose owner may still be working unseen is not touched.

*Why the commit compares the version and not the whole revision.* Between the snapshot and the commit nodes register, leave, weigh
otherwise, and locks are edited. None of it makes wrong what the plan says of a token's owner:

- dead, left, without a record: each is compared by itself (``Plan.evictions``, ``departed``, ``absent``);
- has let go: an acknowledgement is of one version, at which its owner gains nothing, so it stands until the version changes;
- no row, and nobody holds it: whoever registers later holds nothing before a version gives it something;
- a pin's first owner is the owner of its hash token at this version, and a pin is removed as any token is handed over;
- the first commit of a timeline: there is one, for it changes the version.

Whoever is given tokens and is gone by then is found absent or left, or is evicted, by the next plan.

What a leader remembers between two calls (``LeaderState``) is times on its own clock only; losing it makes things slower, not
unsafe.
Who takes part, and since when, is ``admission``'s matter.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

import attrs

from jobsync._core.assignment import ABSENT, UNOWNED, Plan
from jobsync._core.leader.handover import Handover
from jobsync._core.leader.inputs import Decision, LeaderState, LeaderView, Policy
from jobsync._core.leader.pins import PinPlanner, wanted
from jobsync._core.leader.row_changes import RowChanges, row_changes
from jobsync._core.planner.rebalance import FREE, STUCK, rebalance
from jobsync._core.records import Member, Node

__all__ = ['decide']

_GATHER_SEC = 0.5
"""How long, from the first acknowledgement of a version, the others are waited for, so that one commit serves all. A commit makes
a new version, which the stragglers must acknowledge instead: without push that costs them a heartbeat interval."""
_GATHER_HELD_SEC = 0.1
"""The same from when all have seen it, and some are still busy: whoever has only to be told that tokens go is ready by then."""


def decide(situation: LeaderView, memory: LeaderState, policy: Policy, token_of: Callable[[str], int]) -> Decision:
    """What the leader should commit now. ``token_of`` gives the hash token of a task's key.

    The leader of a cluster at rest looks all the time at what it has looked at before, and need not go through every token
    again: where there was nothing to do and nothing to wait for, there is none until something changes.
    """
    made_from = situation.substance, policy
    if memory.rest is not None and memory.rest[0] == made_from:
        return memory.rest[1]
    planner = _Decision(Handover(situation, memory, policy), token_of)
    decision = planner.decide()
    memory.rest = (made_from, decision) if planner.is_at_rest else None
    return decision


class _Decision:
    """One decision in the making."""

    def __init__(self, handover: Handover, token_of: Callable[[str], int]) -> None:
        self.handover, self.token_of = handover, token_of
        self.now, self.old, self.owner_table = handover.now, handover.old, handover.owner_table
        self.memory, self.policy = handover.memory, handover.policy
        snapshot = handover.snapshot
        self.next_number = snapshot.revision.number + 1
        """The plan's number: no fence that was ever given is as high, as long as the assignment is of this version."""
        self.evictions, self.departed = self.owner_table.removals.evictions, self.owner_table.removals.departed
        self.handed_over: set[int] = set()
        """Tokens that a present owner has let go of."""
        self.held_back: frozenset[str] = frozenset()
        """Members that are given nothing for now."""
        self.stuck = handover.stuck
        """Members that keep what they own and are given nothing."""
        self.is_at_rest = False
        """Whether there is nothing to do, and nothing that time alone could bring."""

    # --- the steps -------------------------------------------------------------------------------------------------------

    def decide(self) -> Decision:
        handover, memory = self.handover, self.memory
        members = self._members()
        if members is None:
            return Decision(None, handover.look_again_at)
        weights = self._weights(members)
        receivers = {name for name, weight in weights.items() if weight > 0}
        names, place, home = self._places(receivers)
        pins = PinPlanner(handover, self.token_of, receivers, self.stuck)
        placement = rebalance(weights, names, place, home, pins.requests(place, names))
        writing = row_changes(self.old, self.owner_table, self.handed_over, placement.moves, receivers, self.next_number)
        written, unpinned, pin_moves = pins.settle(placement.pins, writing, self.next_number)
        handover.note_acknowledgements()
        structural = bool(self.evictions or self.departed or self._changed(members))
        if (self._is_gathering() and not structural) or not (writing.groups or written or unpinned or structural):
            if not (handover.outstanding or memory.admission.newcomers or memory.lost or self.owner_table.decided_at):
                memory.unsettled_since = memory.cause = None
                self.is_at_rest = not handover.look_at
            return Decision(None, handover.look_again_at, expired=pins.has_expired and not pins.expiring)
        if memory.unsettled_since is None:
            memory.unsettled_since = self.now
        reason = self._reason(members, bool(written or unpinned))
        if memory.cause is None or (structural and reason is not None):
            memory.cause = (reason or 'hand-over', len(self.old.members))
        plan = Plan(
            reason=memory.cause[0],
            number=self.next_number,
            members=self._changed(self._fenced(members, unpinned, writing)),
            groups=writing.groups,
            pins=written,
            unpinned=unpinned,
            evictions=self.evictions,
            departed=self.departed,
            absent=self.owner_table.removals.absent,
            moved=writing.moved + pin_moves,
            nodes_before=memory.cause[1],
            nodes_after=len(weights),
            duration_ms=round(1000 * (self.now - memory.unsettled_since)),
        )
        return Decision(plan, handover.look_again_at)

    def _is_gathering(self) -> bool:
        """Whether acknowledgements that are still due are waited for, so that one commit serves all."""
        memory = self.memory
        first, seen = memory.acknowledged_at, memory.seen_at
        if not self.handover.outstanding or first is None:
            return False
        return self.now < first + _GATHER_SEC and (seen is None or self.now < max(first, seen) + _GATHER_HELD_SEC)

    def _weights(self, members: Mapping[str, Member]) -> dict[str, float]:
        """What each member that may be given tokens weighs for now."""
        weights = {
            name: self.owner_table.alive[name].weight
            for name in members
            if name in self.owner_table.alive and not self.owner_table.is_waiting(name)
        }
        if all(name in self.stuck for name, weight in weights.items() if weight > 0):
            self.stuck = frozenset()  # nobody else could be given anything, and without receivers all would be let go of
        weights.update(dict.fromkeys(self.stuck & weights.keys(), 0.0))
        self.held_back = self._held_back({name for name, weight in weights.items() if weight > 0})
        weights.update(dict.fromkeys(self.held_back, 0.0))
        return weights

    def _members(self) -> dict[str, Member] | None:
        """Who takes part from this plan on; None while there is nothing to do but wait."""
        owner_table, memory, policy = self.owner_table, self.memory, self.policy
        members = dict(owner_table.members)
        newcomers = [node for name, node in owner_table.alive.items() if name not in members and not owner_table.is_waiting(name)]
        memory.admission.note(newcomers, self.handover.snapshot, set(self.departed), self.now)
        if self.handover.fresh:
            enough = policy.minimum_nodes is not None and len(owner_table.alive) >= policy.minimum_nodes
            formed = policy.minimum_nodes is None and self.now >= policy.form_at
            if not (enough or formed):
                if policy.minimum_nodes is None:
                    self.handover.look_at.append(policy.form_at)
                return None
            safe_at = memory.timeline_read_at + self.handover.longest_ever
            trusted = policy.trust_first_timeline and self.handover.snapshot.timeline.generation == 0
            if not trusted and self.now < safe_at:
                self.handover.look_at.append(safe_at)
                return None
        elif any(owner_table.is_present(name) for name in members):
            newcomers = self._admitted(newcomers)
        members.update({node.name: Member(node.incarnation, node.timeout_sec) for node in newcomers})
        return {name: self._with_since(name, member) for name, member in members.items()}

    def _admitted(self, newcomers: list[Node]) -> list[Node]:
        """Those that are to be members now, some of them without tokens (see ``admission``)."""
        admission, owner_table = self.memory.admission, self.owner_table
        strangers = [node for node in newcomers if admission.is_rolling(self.now) and not self._has_home(node.name)]
        admission.hold(strangers)
        gone = {eviction.ref for eviction in self.evictions}.union(self.departed)
        drained = {node.ref for node in owner_table.alive.values() if node.weight == 0}
        going = frozenset(ref for ref in gone | drained if ref.name in self.handover.owners)
        if len(strangers) < len(newcomers) and not (gone or going):
            due = min(admission.newcomers[node.ref] for node in newcomers) + self.policy.rebalance_delay_sec
            if self.now < due:
                self.handover.look_at.append(due)
                newcomers = strangers
        admission.let_in(owner_table.alive, going, self.now)
        return newcomers

    def _has_home(self, name: str) -> bool:
        """Whether it has lost tokens by leaving, which it is to have back."""
        return name in self.old.names and self.old.names.index(name) in self.old.home

    def _held_back(self, names: set[str]) -> frozenset[str]:
        """The members that are given nothing yet: never all, and none that a task lock has been waiting for."""
        admission = self.memory.admission
        held = {ref.name for ref in admission.held} & names
        needed = wanted(self.handover.locks, names, held) if held and self.policy.locks_enabled else frozenset()
        if held == names or needed:
            needed = needed or frozenset(held)
            admission.held = {ref: until for ref, until in admission.held.items() if ref.name not in needed}
        self.handover.look_at += admission.held.values()
        return frozenset(held - needed)

    def _with_since(self, name: str, member: Member) -> Member:
        """A run that is new under its name owns everything under a higher fence than the run before it."""
        was = self.old.members.get(name)
        same = was is not None and was.incarnation == member.incarnation
        return attrs.evolve(member, since=was.since if was is not None and same else self.next_number)

    def _fenced(self, members: dict[str, Member], unpinned: frozenset[int], writing: RowChanges) -> dict[str, Member]:
        """A task whose pin goes is owned by its hash token from now on, whose row may be older than the pin's."""
        for pin_id in unpinned:
            owner, _ = writing.owner_of(self.token_of(self.old.pins[pin_id].task_id))
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
        old, owner_table = self.old, self.owner_table
        names = list(old.names)
        positions = {name: position for position, name in enumerate(names)}
        for name in sorted(receivers - positions.keys()):
            positions[name] = len(names)
            names.append(name)
        place = array('i', [FREE]) * old.total_tokens if self.handover.fresh else old.owner[:]
        kept = {position for name, position in positions.items() if owner_table.is_waiting(name) or name in self.stuck}
        if kept:
            for token, at in enumerate(place):
                if at in kept:
                    place[token] = STUCK
        self._find_lost(place)
        self._follow_targets(place, positions, receivers)
        return names, place, old.home

    def _follow_targets(self, place: array[int], positions: Mapping[str, int], receivers: set[str]) -> None:
        """Tokens being handed over are where they are going, if somebody is there to take them."""
        old, owner_table = self.old, self.owner_table
        alike: dict[tuple[int, str], list[int]] = {}
        for token, target in old.targets.items():
            alike.setdefault((old.owner[token], target), []).append(token)
        for (owner_at, target), tokens in alike.items():
            owner = old.names[owner_at] if owner_at >= 0 else None
            if owner_at == ABSENT or owner_table.is_waiting(owner):
                continue
            free = set(tokens)
            if owner is not None and owner_table.is_present(owner):
                free = self.handover.let_go_of(owner, free)
                self.handed_over |= free
            for token in tokens:
                place[token] = positions[target] if target in receivers else FREE if token in free else owner_at

    def _find_lost(self, place: array[int]) -> None:
        """Free the tokens without a row once nobody can still hold them."""
        if self.handover.has_absent:
            for token, owner in enumerate(self.old.owner):
                if owner == ABSENT:
                    place[token] = FREE if self.handover.is_free_of_holders(token) else STUCK

    # --- writing it down -------------------------------------------------------------------------------------------------

    def _reason(self, members: Mapping[str, Member], pins: bool) -> str | None:
        """Why, for people; None if this only goes on with what is under way."""
        if self.handover.fresh:
            return 'first distribution'
        parts = []
        if self.evictions:
            parts.append(f'node dead: {_listed([eviction.ref.name for eviction in self.evictions])}')
        if self.departed:
            parts.append(f'node left: {_listed([ref.name for ref in self.departed])}')
        joined = [name for name, member in members.items() if self.old.members.get(name) != member]
        if let_in := [name for name in joined if name not in self.held_back]:
            parts.append(f'node joined: {_listed(let_in)}')
        if held := [name for name in joined if name in self.held_back]:
            parts.append(f'node joined, to replace one that goes: {_listed(held)}')
        if parts:
            return '; '.join(parts)
        if self.handover.acknowledged:
            return None
        return 'task locks' if pins else 'rebalance'


def _listed(names: list[str]) -> str:
    shown = sorted(names)
    return ', '.join(shown[:5]) + (f' and {len(shown) - 5} more' if len(shown) > 5 else '')


assert UNOWNED == FREE
assert ABSENT == STUCK
