"""From what the leader has read to what it commits: rules R3, R5 and R7.

``decide`` is called whenever something may have changed. It judges every owner (``owners``), finds which tokens no node holds
(``handover``), works out for each token and pin which node is to have it (``rebalance``), and plans the difference:

- A token that no node holds passes to its place in this very commit.
- A token whose owner is present gets its place as *target*, and waits for the owner's acknowledgement.
- A token whose owner may be working unseen is not touched.

*Why the commit compares the version and not the whole revision.* Between the snapshot and the commit nodes register, leave and
change their weight, and locks are edited. None of it makes wrong what the plan says of a token's owner:

- dead, left, without a record: each is compared by itself (``Plan.evictions``, ``departed``, ``absent``);
- has released: an owner gains nothing before it has read another version, so a release stands until the version changes;
- no row, and no holder: a node that registers later holds nothing before a version gives it something;
- a pin's first owner is the owner of its hash token at this version, and a pin is removed as any token is handed over;
- the first commit of a timeline: there is one, for it changes the version.

A node that is given tokens and is gone by the commit is found absent or left, or is evicted, by the next plan.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Mapping, Set
from functools import cached_property

import attrs

from jobsync._core.assignment import ABSENT, UNOWNED, Plan
from jobsync._core.config import NodeConfig
from jobsync._core.leader.affected import affected_by
from jobsync._core.leader.handover import Released, Rowless, find_released, find_rowless, longest_timeout, polling_pause
from jobsync._core.leader.inputs import Decision, LeaderState, LeaderView
from jobsync._core.leader.owners import OwnerTable, find_stuck
from jobsync._core.leader.pin_changes import PinChanges
from jobsync._core.leader.pins import PinPlanner, wanted
from jobsync._core.leader.row_changes import RowChanges, row_changes
from jobsync._core.planner.rebalance import FREE, STUCK, rebalance
from jobsync._core.records import DRAINED, Member, Pin
from jobsync._core.redact import listed

__all__ = ['decide']

_NO_CAUSE = 'rebalance'
"""The reason of a plan for which there is no other."""


def decide(view: LeaderView, state: LeaderState, config: NodeConfig, token_of: Callable[[str], int]) -> Decision:
    """Return what the leader commits now, if anything. ``token_of`` gives the hash token of a task's key.

    The leader of an idle cluster reads again and again what it has read before, and need not go through every token again: a
    decision to do nothing and wait for nothing stands until something changes.
    """
    made_from = view.substance, config
    if state.idle is not None and state.idle[0] == made_from:
        return state.idle[1]
    decision, is_idle = _Decision(_effective(view, config), state, config, token_of).decide()
    state.idle = (made_from, decision) if is_idle else None
    return decision


def _effective(view: LeaderView, config: NodeConfig) -> LeaderView:
    """Return the view in which the nodes that an operator has drained have weight 0, and only policies that count are locks.

    Drains and actions are none, and task locks do not count without ``locks_enabled``.
    """
    drained = {lock.task_id for lock in view.locks if lock.group == DRAINED}
    locks = tuple(lock for lock in view.locks if lock.is_policy and (lock.group or config.locks_enabled))
    if len(locks) == len(view.locks):
        return view
    nodes = (attrs.evolve(node, weight=0.0) if node.name in drained else node for node in view.snapshot.nodes)
    return attrs.evolve(view, snapshot=attrs.evolve(view.snapshot, nodes=tuple(nodes)), locks=locks)


class _Decision:
    """One decision in the making."""

    def __init__(self, view: LeaderView, state: LeaderState, config: NodeConfig, token_of: Callable[[str], int]) -> None:
        self.view, self.state, self.config, self.token_of = view, state, config, token_of
        self.now, self.old = view.now, view.assignment
        self.is_first = not self.old.members
        """No distribution has been made in this timeline."""
        self.next_number = view.snapshot.revision.number + 1
        """The plan's number: no fence that was ever given is as high, as long as the assignment is of this version."""
        self.owners = {self.old.names[position] for position in self.old.owners if position >= 0}
        """The names that own anything."""
        self.owners.update(pin.owner for pin in self.old.pins.values() if pin.owner is not None)
        self.longest_timeout = longest_timeout(config.heartbeat_timeout_sec, view.snapshot.nodes, self.old.members)
        self.longest_ever = max(self.longest_timeout, view.snapshot.longest_timeout_sec, view.longest_timeout_sec)
        """After that, not even a node of an older timeline has a lease, or one without any record."""
        self.owner_table = OwnerTable.judge(
            view.snapshot,
            self.owners,
            self.old.members,
            view.suspects,
            state.absent_since,
            now=self.now,
            timeout_sec=config.heartbeat_timeout_sec,
            longest_timeout_sec=self.longest_ever,
            rejoin_grace_sec=config.rejoin_grace_sec,
            max_removals=config.max_removals,
            leaving=view.leaving,
        )
        self.evictions, self.departed = self.owner_table.removals.evictions, self.owner_table.removals.departed

    def decide(self) -> tuple[Decision, bool]:
        """Bring the leader's state up to date; return the decision, and whether it stands until something changes."""
        view, state, owner_table = self.view, self.state, self.owner_table
        state.absent_since = owner_table.absent_since
        state.gathering.begin(view.snapshot.version, self.now)
        state.requests.read(self.old.version)
        stuck, state.doubted = find_stuck(owner_table.alive.values(), view.snapshot.version.number, state.doubted)
        released = find_released(self.old, owner_table, state.requests)
        members, members_at = self._members(is_busy=released.owners > self.config.many_owners and not released.is_seen)
        if members is None:
            return Decision(None, min(owner_table.due_at, members_at)), False
        weights, stuck, held_back = self._weights(members, stuck)
        receivers = {name for name, weight in weights.items() if weight > 0}
        rowless = find_rowless(self.old, owner_table, state.rowless, self.longest_timeout, self.now)
        state.rowless = rowless.first_read
        state.gathering.read(released, self.config, self.now)
        names, place, home = self._places(receivers, stuck, released, rowless)
        pins = PinPlanner(view, state, owner_table, released, receivers, stuck, self.token_of)
        placement = rebalance(weights, names, place, home, pins.requests(place, names), pins.resting)
        changes = row_changes(self.old, owner_table, released, placement.moves, receivers, self.next_number)
        pin_changes = pins.settle(placement.pins, changes, self.next_number)
        unpinned = frozenset(pin_changes.removed)
        decide_again_at = min(
            owner_table.due_at,
            members_at,
            state.admission.due_at,
            rowless.due_at,
            pins.due_at,
            math.inf if released.is_complete else self.now + polling_pause(self.now - state.gathering.read_at),
        )
        structural = bool(self.evictions or self.departed or self._changed(members))
        is_needed = bool(changes.groups or pin_changes.written or unpinned or structural)
        if not is_needed or state.gathering.holds_up(released, structural, self.config, self.now):
            is_settled = released.is_complete and not (
                state.admission.newcomers or state.rowless or owner_table.due_at < math.inf
            )
            if is_settled:
                state.unsettled_since = state.cause = None
            return Decision(None, decide_again_at, pins.can_drop_expired), is_settled and decide_again_at == math.inf
        is_calm = released.is_complete and not released.count  # no hand-over is under way, so this plan begins something new
        if state.unsettled_since is None or is_calm:
            state.unsettled_since = self.now
        drained = self._drained({group.owner for group in changes.groups} | {pin.owner for pin in pin_changes.written})
        reason = self._reason(members, held_back, drained, changes, pin_changes, bool(released.count))
        state.cause = self._cause(reason, drained, structural, is_calm)
        changed = self._changed(self._fenced(members, unpinned, changes))
        # Many owners are called once for what is requested of them (``gathering``).
        asks_again = bool(unpinned) or not state.requests.begun_here or released.owners <= self.config.many_owners
        plan = Plan(
            reason=state.cause[0],
            number=self.next_number,
            members=changed,
            groups=changes.groups,
            pins=tuple(pin_changes.written),
            unpinned=unpinned,
            affected=None if self.is_first or rowless.first_read else self._affected(changed, changes, pin_changes, asks_again),
            evictions=self.evictions,
            departed=self.departed,
            absent=owner_table.removals.absent,
            moved=changes.moved + pin_changes.moved,
            nodes_before=state.cause[1],
            nodes_after=len(weights),
            duration_ms=round(1000 * (self.now - state.unsettled_since)),
        )
        return Decision(plan, decide_again_at), False

    def _affected(
        self, members: Mapping[str, Member | None], changes: RowChanges, pins: PinChanges, asks_again: bool
    ) -> frozenset[str]:
        """Return the names of the nodes that a plan affects, those included that it evicts."""
        found = affected_by(self.old, members, changes.groups, pins.written, asks_again=asks_again)
        return found.union(eviction.ref.name for eviction in self.evictions)

    # --- which nodes take part ---------------------------------------------------------------------------------------------

    def _members(self, *, is_busy: bool) -> tuple[dict[str, Member] | None, float]:
        """Return the members from this plan on, or None while no plan may be made; and when that may change."""
        owner_table, state, config, snapshot = self.owner_table, self.state, self.config, self.view.snapshot
        members, due_at = dict(owner_table.members), math.inf
        newcomers = [node for name, node in owner_table.alive.items() if name not in members and not owner_table.is_waiting(name)]
        state.admission.read(newcomers, snapshot, set(self.departed), self.now)
        if self.is_first:
            form_at = self.view.started_at + config.wait_on_enter
            if config.minimum_nodes is not None:
                if len(owner_table.alive) < config.minimum_nodes:
                    return None, math.inf
            elif self.now < form_at:
                return None, form_at
            # t=0   a owns tokens; the store goes back in time, and a is cut off from it
            # t=1   b begins a new timeline, in which no record of a is left, and leads
            # t=14  the lease of a ends
            # t=16  b may commit: the longest timeout ever known has passed since it first read the timeline
            safe_at = state.timeline_read_at + self.longest_ever
            trusted = config.durable and self.view.is_first_timeline and snapshot.timeline.generation == 0
            if not trusted and self.now < safe_at:
                return None, safe_at
        elif any(owner_table.is_present(name) for name in members):
            gone = {eviction.ref for eviction in self.evictions}.union(self.departed)
            if self.view.leaving is not None:
                gone.add(self.view.leaving)
            drained = {node.ref for node in owner_table.alive.values() if node.weight == 0}
            going = frozenset(ref for ref in gone | drained if ref.name in self.owners)
            newcomers, due_at = state.admission.admit(
                newcomers,
                lambda name: name in self._homes,
                owner_table.alive,
                gone,
                going,
                is_busy,
                config.rebalance_delay_sec,
                self.now,
            )
        members.update({node.name: Member(node.incarnation, node.timeout_sec) for node in newcomers})
        return {name: self._with_since(name, member) for name, member in members.items()}, due_at

    @cached_property
    def _homes(self) -> frozenset[str]:
        """The names that have lost tokens by leaving. Found once for a decision: there may be a million tokens."""
        return frozenset(self.old.names[at] for at in frozenset(self.old.home) if at >= 0)

    def _weights(
        self, members: Mapping[str, Member], stuck: frozenset[str]
    ) -> tuple[dict[str, float], frozenset[str], frozenset[str]]:
        """Return the weight for now of each member that may be given tokens; which are stuck, and which are held back.

        Stuck members keep what they own and are given nothing; members that are held back are given nothing yet.
        """
        owner_table, admission = self.owner_table, self.state.admission
        weights = {
            name: owner_table.alive[name].weight
            for name in members
            if name in owner_table.alive and not owner_table.is_waiting(name)
        }
        stalled = self._stalled()
        if any(weight > 0 and name not in stuck | stalled for name, weight in weights.items()):
            weights.update(dict.fromkeys(stalled & weights.keys(), 0.0))
        if all(name in stuck for name, weight in weights.items() if weight > 0):
            stuck = frozenset()  # no other node could be given anything, and without receivers every token would be released
        weights.update(dict.fromkeys(stuck & weights.keys(), 0.0))
        names = {name for name, weight in weights.items() if weight > 0}
        held = admission.held_among(names)
        held_back = admission.hold_back(names, wanted(self.view.locks, names, held) if held else frozenset())
        weights.update(dict.fromkeys(held_back, 0.0))
        return weights, stuck, held_back

    def _with_since(self, name: str, member: Member) -> Member:
        """Return the member with its lowest fence: a run that is new under its name has higher fences than the run before."""
        was = self.old.members.get(name)
        same = was is not None and was.incarnation == member.incarnation
        return attrs.evolve(member, since=was.since if was is not None and same else self.next_number)

    def _fenced(self, members: dict[str, Member], unpinned: frozenset[int], changes: RowChanges) -> dict[str, Member]:
        """Return the members with higher fences where a pin goes: its task's hash token may have an older row than the pin."""
        for pin_id in unpinned:
            owner, _ = changes.owner_of(self.token_of(self.old.pins[pin_id].task_id))
            if owner in members:
                members[owner] = attrs.evolve(members[owner], since=self.next_number)
        return members

    def _changed(self, members: Mapping[str, Member]) -> dict[str, Member | None]:
        """Return what a plan says of its members: those that are new or changed, and None for those that go."""
        old = self.old.members
        changed: dict[str, Member | None] = dict.fromkeys(old.keys() - members.keys())
        changed.update({name: member for name, member in members.items() if old.get(name) != member})
        return changed

    # --- where the tokens are ----------------------------------------------------------------------------------------------

    def _places(
        self, receivers: Set[str], stuck: Set[str], released: Released, rowless: Rowless
    ) -> tuple[list[str], array[int], array[int]]:
        """Return names, and for each token the positions of the node that has it or is about to, and of its home.

        The planner improves on that. A token that is being handed over is where it is going, if its target is a receiver.
        """
        old, owner_table = self.old, self.owner_table
        names = list(old.names)
        positions = {name: position for position, name in enumerate(names)}
        for name in sorted(receivers - positions.keys()):
            positions[name] = len(names)
            names.append(name)
        place = array('i', [FREE]) * old.total_tokens if self.is_first else old.owner[:]
        waiting = {position for name, position in positions.items() if owner_table.is_waiting(name)}
        kept = waiting.union(positions[name] for name in stuck & positions.keys())
        if kept:
            for token, at in enumerate(place):
                if at in kept:
                    place[token] = STUCK
        for token in rowless.free:
            place[token] = FREE
        present = {position for name, position in positions.items() if owner_table.is_present(name)}
        holding, targets = released.at(old), old.targets
        going = [positions[name] if name in receivers else FREE for name in targets.names]
        for token, (at, to) in zip(targets.tokens, targets.beside(old.owner), strict=True):
            if at == ABSENT or at in waiting:
                continue
            if going[to] != FREE:
                place[token] = going[to]
            else:
                held = holding[at]
                place[token] = at if at in present and (held is None or token in held) else FREE
        return names, place, old.home

    # --- for people --------------------------------------------------------------------------------------------------------

    def _drained(self, owners: Set[str | None]) -> Set[str]:
        """Return those of the owners that must give up everything, because their weight is 0."""
        return {name for name, node in self.owner_table.alive.items() if node.weight == 0 and name in owners}

    def _stalled(self) -> Set[str]:
        """Return the nodes that make no progress. Where no other node could be given their share, they keep it."""
        return {name for name, node in self.owner_table.alive.items() if node.stalled}

    def _beginners(self, changes: RowChanges, pins: Collection[Pin]) -> Set[str]:
        """Return the live nodes that own nothing and are given tokens, or one of these pins."""
        given = {group.target or group.owner for group in changes.groups} | {pin.target or pin.owner for pin in pins}
        return {name for name in self.owner_table.alive if name in given and name not in self.owners}

    def _reason(
        self,
        members: Mapping[str, Member],
        held_back: Set[str],
        drained: Set[str],
        changes: RowChanges,
        pins: PinChanges,
        goes_on: bool,
    ) -> str | None:
        """Return why a plan is made; None if it only goes on with what is under way."""
        parts = ['first distribution'] if self.is_first else []
        died = {ref.name for ref in self.departed if self.owner_table.nodes[ref.name].has_died}
        if dead := sorted({eviction.ref.name for eviction in self.evictions} | died):
            parts.append(f'node dead: {listed(dead)}')
        if left := [ref.name for ref in self.departed if ref.name not in died]:
            parts.append(f'node left: {listed(left)}')
        if self.view.leaving is not None:
            parts.append(f'node leaving: {self.view.leaving.name}')
        if removed := sorted({ref.name for ref in self.owner_table.removals.absent} - died.union(dead, left)):
            parts.append(f'node removed: {listed(removed)}')
        joined = [] if self.is_first else [name for name, member in members.items() if self.old.members.get(name) != member]
        if let_in := [name for name in joined if name not in held_back]:
            parts.append(f'node joined: {listed(let_in)}')
        if held := [name for name in joined if name in held_back]:
            parts.append(f'node joined, to replace one that goes: {listed(held)}')
        if parts:
            return '; '.join(parts)
        if goes_on:
            return None
        causes = [f'draining: {listed(drained)}'] if drained else []
        if stalled := self._stalled() & self.owners:
            causes.append(f'stalled: {listed(stalled)}')
        if pins.locked - drained:
            causes.append('task locks')
        if pins.declared:
            causes.append(f'items declared: {listed(pins.declared)}')
        if pins.placed:
            causes.append(f'patterns of items: {listed(pins.placed)}')
        # What a drained or stalled node gives up says why others are given something; a task lock or an item, only why a pin is.
        if not drained and not stalled and (beginners := self._beginners(changes, () if causes else pins.written)):
            causes.append(f'takes a share: {listed(beginners)}')
        return '; '.join(causes) or _NO_CAUSE

    def _cause(self, reason: str | None, drained: Set[str], is_structural: bool, is_calm: bool) -> tuple[str, int]:
        """Return the reason of a plan, and how many members there were: as of the plan that began what is under way, if any."""
        cause = self.state.cause
        if cause is None or (reason is not None and (is_structural or (is_calm and reason != _NO_CAUSE))):
            return reason or 'hand-over', len(self.old.members)
        if drained and (also := f'draining: {listed(drained)}') not in cause[0]:
            # t=0  a task lock is registered: its hand-over is under way, and its reason is that of each plan until it is over
            # t=1  b is drained, and this plan requests what b has
            return f'{cause[0]}; {also}', cause[1]
        return cause


# Rows without an owner are free, and tokens without a row are stuck unless found free: ``_places`` copies the rows as they are.
assert UNOWNED == FREE
assert ABSENT == STUCK
