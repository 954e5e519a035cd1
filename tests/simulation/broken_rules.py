"""The rules of the protocol, each taken away for the time of a ``with`` block: what the simulator must be able to notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
from tests.support.patching import patched

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.failure_detector import FailureDetector
from jobsync._core.agent.in_flight import InFlight
from jobsync._core.agent.leader_term import LeaderTerm
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.membership import Membership
from jobsync._core.agent.monitor import ClusterMonitor
from jobsync._core.agent.ownership import Ownership
from jobsync._core.agent.registration import NameRegistration
from jobsync._core.agent.rollback import RollbackDetector, StoreRolledBack
from jobsync._core.assignment import Assignment, Plan
from jobsync._core.leader import decide as deciding
from jobsync._core.leader import handover
from jobsync._core.leader.affected import affected_by
from jobsync._core.leader.gathering import Gathering
from jobsync._core.leader.inputs import Decision, LeaderView
from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.leader.pins import PinPlanner
from jobsync._core.leader.removals import Removals
from jobsync._core.leader.requests import Requests
from jobsync._core.leader.row_changes import RowChanges
from jobsync._core.records import Eviction, Guard, NodeRef, NodeState, Pulse, Revision, Settings, Snapshot
from jobsync._core.tokens import NO_TARGETS
from jobsync._runtime import executor as performing
from jobsync.backends.single_writer import CallContext, NamespaceState, SingleWriterBackend
from jobsync.config import CoordinationConfig
from jobsync.errors import BackendUnavailable, Conflict, JobsyncError
from jobsync.testing.simulation import World
from jobsync.testing.simulation.node import SimNode

LONG_AGO = -1e9


def r1_lease_never_ends() -> AbstractContextManager[None]:
    """R1: a heartbeat that once succeeded is good for ever."""
    return patched(CoordinationConfig, 'lease_sec', property(lambda self: 1e9))


def r1_lease_from_the_answer() -> AbstractContextManager[None]:
    """R1: the lease is counted from the answer rather than from before the heartbeat was sent."""
    take = Membership._take_pulse

    def from_answer(self: Membership, issued: Any, call: Any, pulse: Any, now: float) -> None:
        take(self, attrs.evolve(issued, at=now), call, pulse, now)

    return patched(Membership, '_take_pulse', from_answer)


def r1_a_lease_begins_again_with_what_was_owned() -> AbstractContextManager[None]:
    """R1: a lease that has ended begins again with what the node owned, whatever the assignment says by now."""
    take = Membership._take_pulse

    def at_hand(self: Membership, issued: Any, call: Any, pulse: Pulse, now: float) -> None:
        take(self, issued, call, attrs.evolve(pulse, version=self._lease.assignment.version), now)
        self._refresh.note(pulse.version, self._lease.assignment.version, now)

    return patched(Membership, '_take_pulse', at_hand)


def r2_own_timeout_for_all() -> AbstractContextManager[None]:
    """R2: an observer waits for its own timeout, whatever the other publishes."""

    def own(self: ClusterMonitor, snapshot: Snapshot) -> dict[str, float]:
        return {node.name: self._config.heartbeat_timeout_sec for node in snapshot.nodes if node.name != self._config.name}

    return patched(ClusterMonitor, '_timeouts', own)


def _none_is_waiting() -> AbstractContextManager[None]:
    find = handover.find_rowless

    def hasty(assignment: Assignment, owner_table: OwnerTable, *rest: Any) -> handover.Rowless:
        status = {name: OwnerStatus.GONE for name, status in owner_table.status.items() if status is OwnerStatus.WAITING}
        return find(assignment, attrs.evolve(owner_table, status={**owner_table.status, **status}), *rest)

    return patched(deciding, 'find_rowless', hasty)


@contextmanager
def r2_longest_of_the_records() -> Iterator[None]:
    """R2: the longest timeout is that of the nodes whose records are present, and no other node is waited for."""
    longest = handover.longest_timeout
    with _none_is_waiting(), patched(deciding, 'longest_timeout', lambda own, nodes, members: longest(own, nodes, {})):
        yield


def r2_longest_forgotten_by_a_renewal() -> AbstractContextManager[None]:
    """R2: after a rollback the timeouts of the nodes that are present are waited for."""
    prepare: Any = deciding._Decision.__init__

    def forgetful(self: deciding._Decision, view: LeaderView, *rest: Any) -> None:
        snapshot = attrs.evolve(view.snapshot, longest_timeout_sec=0.0)
        prepare(self, attrs.evolve(view, snapshot=snapshot, longest_timeout_sec=0.0), *rest)

    return patched(deciding._Decision, '__init__', forgetful)


def r2_own_heartbeats_do_not_count() -> AbstractContextManager[None]:
    """R2: a node none of whose heartbeats gets through goes on counting the silence of the others."""
    return patched(FailureDetector, 'note_own', lambda self, sent, now: self.note_reading(now))


def r2_each_failed_call_is_blindness() -> AbstractContextManager[None]:
    """R2: a node forgets what it has observed with each call of its own that fails."""
    return patched(FailureDetector, 'note_failure', lambda self, now, **_: self.clear())


def r2_silence_proves_death() -> AbstractContextManager[None]:
    """R2: a node that could not read goes on counting the silence of the others."""
    return patched(FailureDetector, 'is_fresh', lambda self, now: True)


def r2_blindness_is_silence() -> AbstractContextManager[None]:
    """R2: a node that could not read suspects no other meanwhile, and counts that time as silence once it reads again."""
    return patched(FailureDetector, 'note_reading', lambda self, now: setattr(self, '_last_read_at', now))


def r2_by_the_clock_of_the_store() -> AbstractContextManager[None]:
    """R2: a node is suspected when the store's clock says that its last heartbeat is older than its timeout."""

    def by_clock(self: ClusterMonitor, _: float) -> dict[str, tuple[str, int]]:
        snapshot = self.snapshot
        return {
            node.name: node.beat
            for node in (() if snapshot is None else snapshot.nodes)
            if snapshot is not None and node.last_heartbeat is not None and node.ref != self._ref
            if (snapshot.now - node.last_heartbeat).total_seconds() >= node.timeout_sec
        }

    return patched(ClusterMonitor, 'suspects', by_clock)


def r3_no_acknowledgement() -> AbstractContextManager[None]:
    """R3: the leader does not wait until the owner has let go."""
    return patched(handover, '_holding', lambda owner, requests: frozenset())


def r3_holding_ignored() -> AbstractContextManager[None]:
    """R3: the leader does not look at what the owner is busy with."""
    return patched(handover, '_holding', lambda owner, requests: frozenset() if owner.seen in requests.versions else None)


def r3_a_new_run_holds_nothing() -> AbstractContextManager[None]:
    """R3: a run holds no token before the leader has read that run, though tasks of the run before it go on."""
    holding = InFlight.holding

    def of_this_run(self: InFlight, assignment: Assignment, ref: NodeRef, now: float) -> frozenset[int]:
        member = assignment.members.get(ref.name)
        is_read = member is not None and member.incarnation == ref.incarnation
        return holding(self, assignment, ref, now) if is_read else frozenset()

    return patched(InFlight, 'holding', of_this_run)


def r3_claims_until_it_has_left() -> AbstractContextManager[None]:
    """R3: a node that leaves goes on claiming until its record says that it has left."""
    return patched(Lease, 'give_up', lambda self, now, by: None)


def r3_keeps_what_it_gives_up() -> AbstractContextManager[None]:
    """R3: a node goes on claiming tokens it has been asked to hand over."""
    under = Ownership.under.__func__  # type: ignore[attr-defined]

    def deaf(cls: type[Ownership], assignment: Assignment, ref: NodeRef) -> Ownership:
        return under(cls, attrs.evolve(assignment, targets=NO_TARGETS), ref)  # type: ignore[no-any-return]

    return patched(Ownership, 'under', classmethod(deaf))


@contextmanager
def r3_acknowledgements_outlive_their_version() -> Iterator[None]:
    """R3: once the leader has gathered all acknowledgements of a version, it waits for none of later versions."""
    begin, find, holding = Gathering.begin, handover.find_released, handover._holding
    gathered = list[bool]()

    def keeps(self: Gathering, version: Revision, now: float) -> None:
        seen_at = self.seen_at
        begin(self, version, now)
        self.seen_at = seen_at
        gathered[:] = [seen_at is not None]

    def trusting(*rest: Any) -> handover.Released:
        known = (lambda owner, requests: owner.holding) if gathered == [True] else holding
        with patched(handover, '_holding', known):
            return find(*rest)

    with patched(Gathering, 'begin', keeps), patched(deciding, 'find_released', trusting):
        yield


def r3_only_the_version_at_hand_counts() -> AbstractContextManager[None]:
    """R3: what an owner has acknowledged of an earlier version does not count, whatever each later one requests."""
    return patched(Requests, 'commit', lambda self, before, plan, version: self.read(version))


def r3_each_request_is_as_old_as_the_first() -> AbstractContextManager[None]:
    """R3: what was requested later, or again, has been requested in all versions of the leader's series."""
    commit = Requests.commit

    def forgetful(self: Requests, *rest: Any) -> None:
        commit(self, *rest)
        self.added = ()

    return patched(Requests, 'commit', forgetful)


def r3_a_version_of_unknown_origin_goes_on() -> AbstractContextManager[None]:
    """R3: a version whose commit this leader knows nothing of continues its series."""

    def trusting(self: Requests, version: Revision) -> None:
        if self.versions[-1:] != (version,):
            self.versions = (*self.versions, version)

    return patched(Requests, 'read', trusting)


def r3_requests_outlive_a_pin() -> AbstractContextManager[None]:
    """R3: the removal of a pin leaves the request of its task's hash token as old as it was."""
    commit = Requests.commit

    def straight_on(self: Requests, before: Assignment, plan: Plan, version: Revision) -> None:
        commit(self, before, attrs.evolve(plan, unpinned=frozenset()), version)

    return patched(Requests, 'commit', straight_on)


def r3_gathers_until_all_have_acknowledged() -> AbstractContextManager[None]:
    """R3: the leader passes nothing on before every owner that is to release something has acknowledged."""

    def patient(self: Gathering, released: handover.Released, *_: Any) -> bool:
        return self.released_at is not None and not released.is_seen

    return patched(Gathering, 'holds_up', patient)


def r4_the_leader_is_always_a_candidate() -> AbstractContextManager[None]:
    """R4: a leader whose work does not get through goes on leading."""
    return patched(Candidacy, 'stuck_at', property(lambda self: float('inf')))


def r4_a_fresh_reading_is_read_again() -> AbstractContextManager[None]:
    """R4: a node that is to lead reads the nodes once more, if it has a reason to, though it has read them at that moment."""
    must_plan = LeaderTerm.must_plan
    return patched(LeaderTerm, 'must_plan', lambda self, now: self.is_on and must_plan(self, now))


def r4_no_candidates_are_not_passed_over() -> AbstractContextManager[None]:
    """R4: the oldest node is to lead, whether or not it is a candidate."""
    take = ClusterMonitor.take_snapshot

    def all_are(self: ClusterMonitor, snapshot: Snapshot, now: float) -> None:
        take(self, attrs.evolve(snapshot, nodes=tuple(attrs.evolve(node, candidate=True) for node in snapshot.nodes)), now)

    return patched(ClusterMonitor, 'take_snapshot', all_are)


def r4_stuck_nodes_are_given_tokens() -> AbstractContextManager[None]:
    """R4: a node whose work does not get through is given tokens, which it never reads of."""
    return patched(deciding, 'find_stuck', lambda alive, version_number, doubted: (frozenset(), doubted))


def r5_version_not_compared() -> AbstractContextManager[None]:
    """R5: a plan is committed whatever has been committed since it was made. Storms hardly ever show it."""
    commit = SingleWriterBackend.commit

    def blind(self: SingleWriterBackend, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return commit(self, ref, plan, attrs.evolve(guard, version=self.snapshot().version))

    return patched(SingleWriterBackend, 'commit', blind)


def r5_eviction_not_compared() -> AbstractContextManager[None]:
    """R5: a suspect is evicted though its heartbeat has moved since. Storms hardly ever show it."""
    commit = SingleWriterBackend.commit

    def blind(self: SingleWriterBackend, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        nodes = {node.name: node for node in self.snapshot().nodes}
        evictions = tuple(
            Eviction(nodes[eviction.ref.name].ref, nodes[eviction.ref.name].heartbeat)
            for eviction in plan.evictions
            if eviction.ref.name in nodes
        )
        return commit(self, ref, attrs.evolve(plan, evictions=evictions), guard)

    return patched(SingleWriterBackend, 'commit', blind)


def r5_absent_not_compared() -> AbstractContextManager[None]:
    """R5: the tokens of an absent owner are given away though its row has been put back since. Storms hardly ever show it."""
    commit = SingleWriterBackend.commit

    def blind(self: SingleWriterBackend, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return commit(self, ref, attrs.evolve(plan, absent=()), guard)

    return patched(SingleWriterBackend, 'commit', blind)


def r9_removals_not_split() -> AbstractContextManager[None]:
    """R9: a leader names all that is to be removed in one plan, however little a commit of the store carries."""
    choose = Removals.choose.__func__  # type: ignore[attr-defined]
    return patched(Removals, 'choose', classmethod(lambda cls, *rest: choose(cls, *rest[:-1], 1_000_000)))


def r5_whole_revision_compared() -> AbstractContextManager[None]:
    """R5: a plan is refused if anything at all has changed since it was made."""
    plan_and_commit = performing._plan_and_commit

    def strict(backend: Any, view: LeaderView, *rest: Any) -> Any:
        if backend.snapshot().revision != view.snapshot.revision:
            raise Conflict('something has changed')
        return plan_and_commit(backend, view, *rest)

    return patched(performing, '_plan_and_commit', strict)


class _LongAgo(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return LONG_AGO


def r5_absent_is_left() -> AbstractContextManager[None]:
    """R5: the tokens of an owner whose record is absent are given away at once."""
    judge = OwnerTable.judge.__func__  # type: ignore[attr-defined]

    def hasty(
        cls: type[OwnerTable], snapshot: Any, owners: Any, members: Any, suspects: Any, absent: Any, /, **rest: Any
    ) -> OwnerTable:
        return judge(cls, snapshot, owners, members, suspects, _LongAgo(), **rest)  # type: ignore[no-any-return]

    return patched(OwnerTable, 'judge', classmethod(hasty))


def r5_lost_rows_are_free() -> AbstractContextManager[None]:
    """R5: a token whose row was deleted is given away at once."""
    find = handover.find_rowless

    def hasty(*rest: Any) -> handover.Rowless:
        found = find(*rest)
        return attrs.evolve(found, free=frozenset(found.first_read))

    return patched(deciding, 'find_rowless', hasty)


def r5_absent_members_hold_nothing() -> AbstractContextManager[None]:
    """R5: a token whose row was deleted is given away while a member may be working on it unseen."""
    return _none_is_waiting()


def r5_absence_outlasts_a_return() -> AbstractContextManager[None]:
    """R5: an owner is taken to have been absent since it first was, though its record was read since."""

    def forgetful(self: LeaderTerm, snapshot: Snapshot, now: float) -> None:
        self._plan_at, self._news_at = now, min(self._news_at, now)

    return patched(LeaderTerm, 'take_news', forgetful)


def r5_name_owns() -> AbstractContextManager[None]:
    """R5: every incarnation of a name owns the tokens of that name."""
    under = Ownership.under.__func__  # type: ignore[attr-defined]

    def by_name(cls: type[Ownership], assignment: Assignment, ref: NodeRef) -> Ownership:
        member = assignment.members.get(ref.name)
        return under(cls, assignment, NodeRef(ref.name, member.incarnation) if member else ref)  # type: ignore[no-any-return]

    return patched(Ownership, 'under', classmethod(by_name))


def r6_takes_names_at_once() -> AbstractContextManager[None]:
    """R6: a newcomer takes a registered name over without watching it, and declares the other over."""
    return patched(NameRegistration, '_is_dead', lambda self, holder, now: True)


def r6_settings_replaced_unwatched() -> AbstractContextManager[None]:
    """R6: a node with other settings puts them in the place of the cluster's, whether or not that is dead."""
    open_ = SingleWriterBackend.open

    def hasty(self: SingleWriterBackend, settings: Settings, create: bool, dead: Any = ()) -> Any:
        dead = [node.beat for node in self.snapshot().nodes if node.state is NodeState.JOINED]
        return open_(self, settings, create, dead)

    return patched(SingleWriterBackend, 'open', hasty)


def r7_pinned_tasks_by_hash() -> AbstractContextManager[None]:
    """R7: a node that owns a pinned task's hash token goes by that."""
    return patched(Ownership, 'claims', lambda self, key, token: self.mine[token] == 1 or self.pins.get(key, False))


def r7_first_owner() -> AbstractContextManager[None]:
    """R7: a new pin goes straight to its place, though another node may be at work on the task."""
    settle = PinPlanner.settle

    def straight(self: PinPlanner, *rest: Any) -> Any:
        with patched(RowChanges, 'owner_of', lambda self, token: (None, True)):
            return settle(self, *rest)

    return patched(PinPlanner, 'settle', straight)


def r7_unpin_at_once() -> AbstractContextManager[None]:
    """R7: when a lock goes its pin is removed though the holder has not let go."""
    settle = PinPlanner.settle

    def hasty(self: PinPlanner, *rest: Any) -> Any:
        self._drafts = tuple(draft if draft.lock else draft._replace(owner=None) for draft in self._drafts)
        return settle(self, *rest)

    return patched(PinPlanner, 'settle', hasty)


@contextlib.contextmanager
def r8_signs_ignored() -> Iterator[None]:
    """R8: a node does not notice that the store went back in time."""
    check = RollbackDetector.check

    def blind(self: RollbackDetector, *rest: Any, **more: Any) -> None:
        with contextlib.suppress(StoreRolledBack):
            check(self, *rest, **more)

    with patched(RollbackDetector, 'check', blind), patched(RollbackDetector, 'check_version', lambda *_: None):
        yield


def r8_position_ignored() -> AbstractContextManager[None]:
    """R8: a position lower than one that was read before is no sign."""
    check = RollbackDetector.check

    def blind(self: RollbackDetector, answer: Pulse | Snapshot, *rest: Any, **more: Any) -> None:
        check(self, attrs.evolve(answer, position=None), *rest, **more)

    return patched(RollbackDetector, 'check', blind)


def r8_first_commit_at_once() -> AbstractContextManager[None]:
    """R8: the first commit of a timeline does not wait for the leases of older ones."""
    decide = deciding._Decision.decide

    def hasty(self: Any) -> tuple[Decision, bool]:
        self.state.timeline_read_at = LONG_AGO
        return decide(self)

    return patched(deciding._Decision, 'decide', hasty)


def r9_refusals_are_fatal() -> AbstractContextManager[None]:
    """R9: a member that the store refuses gives up."""

    def give_up(self: Agent, _lane: Any, _issued: Any, error: JobsyncError, _now: float) -> bool:
        self._fail(error)
        return True

    return patched(Agent, '_refused', give_up)


def r9_unreadable_records_block() -> AbstractContextManager[None]:
    """R9: a snapshot fails while the record of any node cannot be read."""
    snapshot = NamespaceState.snapshot

    def strict(self: NamespaceState, context: CallContext) -> Snapshot:
        if self.unreadable:
            raise BackendUnavailable('a record cannot be read')
        return snapshot(self, context)

    return patched(NamespaceState, 'snapshot', strict)


def known_deaths_without_proof() -> AbstractContextManager[None]:
    """A process that does not run counts as over, as one that is stopped does for somebody who goes by its silence."""

    def runs(self: World, process: SimNode, ref: NodeRef) -> bool:
        return process.alive and process.agent.ref == ref and self.now >= process.paused_until

    return patched(World, 'holds_lock', runs)


def known_deaths_of_names() -> AbstractContextManager[None]:
    """The run that has the name now is declared over, whichever it is."""
    deregister = SingleWriterBackend.deregister

    def by_name(self: SingleWriterBackend, ref: NodeRef, died: bool = False) -> None:
        deregister(self, next((node.ref for node in self.snapshot().nodes if died and node.name == ref.name), ref), died)

    return patched(SingleWriterBackend, 'deregister', by_name)


def hints_leave_out_what_nodes_gain() -> AbstractContextManager[None]:
    """A hint names no node because it gains something: that node reads so with its next heartbeat."""
    return patched(deciding, 'affected_by', lambda old, *_, asks_again: affected_by(old, {}, (), (), asks_again=asks_again))


# Those whose lack one storm in some hundreds or thousands shows have scenarios of their own, in ``test_overtaken_commits``.
BROKEN_RULES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    function.__name__: function
    for function in (
        r1_lease_never_ends,
        r1_lease_from_the_answer,
        r3_no_acknowledgement,
        r3_holding_ignored,
        r3_claims_until_it_has_left,
        r3_keeps_what_it_gives_up,
        r5_absent_is_left,
        r5_lost_rows_are_free,
        r5_name_owns,
        r6_takes_names_at_once,
        r7_pinned_tasks_by_hash,
        r7_first_owner,
        r7_unpin_at_once,
    )
}


def p7_a_new_run_keeps_the_fence() -> AbstractContextManager[None]:
    """P7: a run that takes over from another of its name has the same fences."""
    return patched(deciding._Decision, '_with_since', lambda self, name, member: member)


def p7_a_removed_pin_leaves_the_fence() -> AbstractContextManager[None]:
    """P7: when a pin goes, the fence is that of the hash token, which may be older."""
    return patched(deciding._Decision, '_fenced', lambda self, members, unpinned, writing: members)


def announced_tokens_go_at_once() -> AbstractContextManager[None]:
    """Tokens pass on though the user is still being told that they go."""
    return patched(InFlight, 'announce', lambda self, tokens, now: None)


BROKEN_ORDER: dict[str, Callable[[], AbstractContextManager[None]]] = {
    function.__name__: function
    for function in (p7_a_new_run_keeps_the_fence, p7_a_removed_pin_leaves_the_fence, announced_tokens_go_at_once)
}
