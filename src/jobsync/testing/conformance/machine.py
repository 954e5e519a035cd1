"""A state machine that compares any backend with the reference, call by call.

Both backends receive the same random calls. After each call their answers and everything that can be read must be equal, in the
form that ``side.Side`` gives them.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobsync.backend import (
    INITIAL,
    NOBODY,
    Backend,
    Eviction,
    HistoryKind,
    LockEdit,
    LockFilter,
    LockRequest,
    Member,
    NodeRef,
    NodeState,
    Pin,
    Registration,
    Settings,
    TokenGroup,
)
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import content, purged
from jobsync.testing.conformance.side import Side

__all__ = ['ComparisonMachine', 'compare']

TOKENS = 6
SETTINGS = Settings(TOKENS, 'xxh3')
OTHERS = Settings(TOKENS, 'md5')
DAYS = (dt.date(2026, 3, 2), dt.date(2026, 3, 3))
HOUR = dt.timedelta(hours=1)

names = st.sampled_from(['a', 'A', 'b%', "c'ü"])
tasks = st.sampled_from(['x', 'X', 'y_', '\\z"'])
days = st.sampled_from(DAYS)
refs = st.builds(NodeRef, names, st.sampled_from(['run-1', 'run-2', 'run-3']))
nodes = st.integers(0, 3) | st.integers(0, 3) | st.integers(0, 3) | refs
"""Mostly a registered node, by its place in the snapshot; else any run, which most often is not registered."""
seldom = st.sampled_from([False, False, False, False, False, True])
owners = st.none() | names
targets = owners | st.just(NOBODY)
timeouts = st.sampled_from([0.0, 0.0, 16.5, 90.0])
rows = st.dictionaries(st.integers(0, TOKENS - 1), st.tuples(owners, targets, owners))
pins = st.lists(
    st.builds(
        Pin,
        st.integers(TOKENS + 1, TOKENS + 4),
        tasks,
        owners,
        targets,
        st.just(0),
        st.sampled_from([None, 'a%']),
        owners,
        st.sampled_from(['', 'g']),
    ),
    max_size=3,
    unique_by=lambda pin: pin.id,
)
requests = st.builds(
    LockRequest,
    task_id=tasks,
    patterns=st.sampled_from([('a%',), ('b', 'a'), ('a', 'b')]),
    created_by=st.sampled_from(['me', 'them']),
    reason=st.sampled_from([None, 'why']),
    expires_in=st.sampled_from([None, None, dt.timedelta(0), dt.timedelta(days=1)]),
    cost=st.sampled_from([1.0, 0.25]),
)
filters = st.builds(
    LockFilter,
    created_by=st.sampled_from([None, 'me']),
    expired=st.booleans(),
    task_ids=st.none() | st.frozensets(tasks, max_size=2),
)


class ComparisonMachine(RuleBasedStateMachine):
    """The backend under test and a memory backend, side by side."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        ticks = itertools.count()
        start = dt.datetime.now(dt.UTC)
        store = MemoryStore(clock=lambda: start + dt.timedelta(microseconds=next(ticks)))
        self.sides = Side(MemoryBackend(store), SETTINGS), Side(backend, SETTINGS)

    def pick(self, who: int | NodeRef) -> NodeRef:
        """Return the run that a value of ``nodes`` denotes at present."""
        nodes = self.sides[0].backend.snapshot().nodes
        if isinstance(who, NodeRef):
            return who
        return nodes[who % len(nodes)].ref if nodes else NodeRef('a', 'run-1')

    def both(self, call: Callable[[Side], object]) -> None:
        """Make one call on both sides and compare the answers."""
        expected, found = (side.outcome(call) for side in self.sides)
        assert found == expected

    @invariant()
    def same_state(self) -> None:
        """Check that the states of both sides are equal, and that each store's identity is that of its timeline."""

        def state(side: Side) -> object:
            state = side.namespace.state()
            assert state.snapshot.store == state.snapshot.timeline.store
            return attrs.evolve(state, rebalances=tuple(sorted(state.rebalances, key=lambda record: record.tokens_moved)))

        self.both(state)

    @initialize()
    def begin(self) -> None:
        """Register two nodes, and let one of them lead."""
        leader = NodeRef('a', 'run-1')
        for ref in (leader, NodeRef('A', 'run-1')):
            self.register(ref, 0, 'none', late=False)
        self.lead(leader, late=False)

    @rule()
    def remember(self) -> None:
        """Keep the present snapshot for a call that comes late."""
        for side in self.sides:
            side.before = side.backend.snapshot()

    @rule(
        wanted=st.sampled_from([SETTINGS, SETTINGS, OTHERS]), create=st.booleans(), dead=st.sampled_from(['', '', 'now', 'then'])
    )
    def open(self, wanted: Settings, create: bool, dead: str) -> None:
        """Open again, with the same or other settings, and sometimes with nodes that the caller considers dead."""

        def call(side: Side) -> object:
            reading = side.before if dead == 'then' else side.backend.snapshot()
            opened = side.backend.open(wanted, create, [node.beat for node in reading.nodes] if dead else ())
            side.namespace.settings = opened.settings
            return opened

        self.both(call)

    @rule(now=seldom, ahead=st.integers(-2, 2), longest=timeouts)
    def renew(self, now: bool, ahead: int, longest: float) -> None:
        """Renew the present timeline, or more often an earlier one."""

        def call(side: Side) -> None:
            present = side.backend.snapshot()
            side.backend.renew_timeline((present if now else side.before).timeline, present.revision.number + ahead, longest)

        self.both(call)

    @rule(
        ref=refs,
        ahead=st.integers(-2, 2),
        replacing=st.sampled_from(['none', 'right', 'late', 'wrong']),
        late=seldom,
        longest=timeouts,
    )
    def register(self, ref: NodeRef, ahead: int, replacing: str, late: bool, longest: float = 0.0) -> None:
        """Register, sometimes in place of a present or an earlier record of the name."""

        def call(side: Side) -> None:
            now = side.backend.snapshot()
            found = [node.beat for node in (side.before if replacing == 'late' else now).nodes if node.name == ref.name]
            wrong = ('x', 0)
            beat = {'none': None, 'wrong': wrong}.get(replacing, found[0] if found else wrong)
            timeline = (side.before if late else now).timeline
            newcomer = Registration(ref, 15.0, replaces=frozenset({'x'}), longest_timeout_sec=longest)
            side.backend.register(newcomer, timeline, now.revision.number + ahead, beat)

        self.both(call)

    @rule(who=nodes, late=st.booleans(), holding=st.frozensets(st.integers(0, TOKENS + 2)), candidate=st.booleans())
    def heartbeat(self, who: int | NodeRef, late: bool, holding: frozenset[int], candidate: bool) -> None:
        """Send a heartbeat as any run."""
        ref = self.pick(who)
        self.both(lambda side: side.backend.heartbeat(ref, side.before.version if late else INITIAL, holding, candidate))

    @rule(who=nodes, weight=st.sampled_from([0.0, 1.0, 2.5]), stalled=seldom)
    def set_weight(self, who: int | NodeRef, weight: float, stalled: bool) -> None:
        """Set a weight as any run."""
        ref = self.pick(who)
        self.both(lambda side: side.backend.set_weight(ref, weight, stalled))

    @rule(who=nodes, died=seldom)
    def deregister(self, who: int | NodeRef, died: bool) -> None:
        """Deregister any run, as that run or as another that knows that it is over."""
        ref = self.pick(who)
        self.both(lambda side: side.backend.deregister(ref, died))

    @rule(who=nodes)
    def remove_node(self, who: int | NodeRef) -> None:
        """Remove the record of any run."""
        ref = self.pick(who)
        self.both(lambda side: side.backend.remove_node(ref))

    @rule(who=nodes, late=seldom)
    def lead(self, who: int | NodeRef, late: bool) -> None:
        """Take the leadership with the present epoch, or an earlier one."""
        ref = self.pick(who)
        self.both(
            lambda side: side.backend.acquire_leadership(ref, (side.before if late else side.backend.snapshot()).leadership.epoch)
        )

    @rule(
        other=st.none() | st.none() | st.none() | refs,
        late=seldom,
        rows=rows,
        pins=pins,
        unpinned=st.frozensets(st.integers(TOKENS + 1, TOKENS + 4), max_size=2),
        members=st.dictionaries(names, st.none() | st.builds(Member, st.sampled_from(['run-1', 'run-2']), st.just(15.0))),
        evict=st.frozensets(names, max_size=2),
        absent=st.frozensets(refs, max_size=1),
        moved=st.integers(0, 3),
    )
    def commit(
        self,
        other: NodeRef | None,
        late: bool,
        rows: dict[int, tuple[str | None, str | None, str | None]],
        pins: list[Pin],
        unpinned: frozenset[int],
        members: dict[str, Member | None],
        evict: frozenset[str],
        absent: frozenset[NodeRef],
        moved: int,
    ) -> None:
        """Commit any plan, as the leader or as another run, from the present snapshot or an earlier one."""
        groups = tuple(
            TokenGroup([token for token in sorted(rows) if rows[token] == row], *row) for row in dict.fromkeys(rows.values())
        )

        def call(side: Side) -> object:
            reading = side.before if late else side.backend.snapshot()
            gone = [node for node in reading.nodes if node.name in evict]
            plan = side.namespace.plan(
                *groups,
                members=members,
                pins=tuple(pin for pin in pins if pin.id not in unpinned),
                unpinned=unpinned,
                evictions=tuple(Eviction(node.ref, node.heartbeat) for node in gone if node.state is NodeState.JOINED),
                departed=tuple(node.ref for node in gone if node.state is NodeState.LEFT),
                absent=tuple(absent),
                moved=moved,
            )
            guard = attrs.evolve(
                side.namespace.guard(), timeline=reading.timeline, epoch=reading.leadership.epoch, version=reading.version
            )
            return side.backend.commit(other or reading.leadership.node or NodeRef('a', 'run-1'), plan, guard)

        self.both(call)

    @rule()
    def follow(self) -> None:
        """Check that a reader which reads differences has the assignment that a complete reading returns."""
        for side in self.sides:
            side.follower = side.follower.apply(side.backend.read_assignment(side.follower.version))
            assert content(side.follower) == content(side.namespace.assignment())

    @rule(remove=st.none() | filters, put=st.lists(requests, max_size=3), group=st.sampled_from(['', 'g', "g'ü"]))
    def edit_locks(self, remove: LockFilter | None, put: list[LockRequest], group: str) -> None:
        """Remove and put locks, or items, which alone have a cost."""
        requests = tuple(put) if group else tuple(attrs.evolve(request, cost=1.0) for request in put)
        self.both(lambda side: side.backend.edit_locks(LockEdit(remove, requests, group)))

    @rule(who=nodes, items=st.lists(tasks, max_size=3), day=days)
    def claim(self, who: int | NodeRef, items: list[str], day: dt.date) -> None:
        """Append claims as any run."""
        ref = self.pick(who)
        self.both(lambda side: side.backend.append_claims(ref, items, day))

    @rule(name=names, items=st.lists(tasks, max_size=3), day=days)
    def audit(self, name: str, items: list[str], day: dt.date) -> None:
        """Append audits under any name."""
        self.both(lambda side: side.backend.append_audits(name, items, day))

    @rule(kind=st.sampled_from([HistoryKind.CLAIM, HistoryKind.AUDIT]), day=st.none() | days, item=st.none() | tasks)
    def search(self, kind: HistoryKind, day: dt.date | None, item: str | None) -> None:
        """Read a history, and the incomplete claims."""
        self.both(lambda side: frozenset(side.backend.history(kind, date=day, item=item)))
        self.both(lambda side: frozenset((claim.item, claim.date) for claim in side.backend.incomplete(day, dt.timedelta(0))))

    @rule(kind=st.sampled_from(HistoryKind), ahead=st.sampled_from([-HOUR, HOUR]))
    def purge(self, kind: HistoryKind, ahead: dt.timedelta) -> None:
        """Purge no record or every record of a history."""
        self.both(lambda side: purged(side.backend, kind, side.backend.snapshot().now + ahead))


def compare(harness: Harness) -> None:
    """Run ``Harness.examples`` sequences of calls, each in a namespace of its own."""
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: ComparisonMachine(harness.connect(namespace=f'machine_{next(numbers)}_')),  # type: ignore[arg-type]
        settings=settings(
            max_examples=harness.examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
