"""What the core does with a whole assignment, from a first distribution through a join, in its two commits, to a leave.

No store takes part.
"""

from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count

import attrs

from jobsync._core.agent.ownership import Ownership
from jobsync._core.hashing import tokenizer
from jobsync._core.leader.decide import decide
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._runtime.startup import node_config
from jobsync.backend import (
    Assignment,
    BackendInfo,
    Changes,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Plan,
    Reach,
    Revision,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.config import CoordinationConfig

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_CONFIG = node_config(
    'leader',
    CoordinationConfig(rebalance_delay_sec=0),
    BackendInfo('none', durable=True, push=True, reach=Reach.PROCESS, max_tokens=2**30),
    create=True,
    wait_on_enter=0.0,
    announces=False,
)


@attrs.frozen
class Cluster:
    """An assignment that all nodes have seen."""

    assignment: Assignment
    names: tuple[str, ...]
    left: frozenset[str] = frozenset()
    locks: tuple[TaskLock, ...] = ()
    weight: float = 1.0
    """The weight of the first node."""

    def decide(self, state: LeaderState | None = None) -> Plan | None:
        """Return the next plan of a leader that remembers its state, or of a new leader."""
        version = self.assignment.version
        timeline = Timeline(0, 'timeline', 'store')
        me = NodeRef(self.names[0], 'run-' + self.names[0])
        nodes = tuple(self._node(name, version) for name in self.names)
        snapshot = Snapshot(timeline, 'store', _START, version, version, Leadership(1, me), nodes, 0)
        view = LeaderView(
            me=me,
            snapshot=snapshot,
            assignment=self.assignment,
            locks=self.locks,
            suspects={},
            now=1_000.0,
            started_at=0.0,
            is_first_timeline=True,
            longest_timeout_sec=0.0,
        )
        return decide(view, state or new_leader(), _CONFIG, tokenizer('xxh3', self.assignment.total_tokens)).plan

    def _node(self, name: str, seen: Revision) -> Node:
        state = NodeState.LEFT if name in self.left else NodeState.JOINED
        weight = self.weight if name == self.names[0] else 1.0
        return Node(name, 'run-' + name, 1, seen, frozenset(), state, frozenset(), weight, 15.0, '', 0, _START, _START)

    def changes(self, plan: Plan) -> Changes:
        """Return the changes that a node reads after the commit."""
        version = Revision(self.assignment.version.number + 1, 1)
        groups = tuple(attrs.evolve(group, version=version.number) for group in plan.groups)
        base = self.assignment.version if self.assignment.members else None
        pins = {**self.assignment.pins, **{pin.id: pin for pin in plan.pins}}
        left = tuple(pin for pin in pins.values() if pin.id not in plan.unpinned)
        return Changes(version, base, plan.members, groups, left)

    def after(self, plan: Plan) -> Cluster:
        """Return the cluster after the commit, seen by all nodes."""
        return attrs.evolve(self, assignment=self.assignment.apply(self.changes(plan)))

    def settled(self) -> Cluster:
        """Return the cluster after all plans, each seen by all nodes."""
        found = self
        while (plan := found.decide()) is not None:
            found = found.after(plan)
        return found

    def owned(self, name: str) -> Ownership:
        """Return the ownership of a node."""
        return Ownership.under(self.assignment, NodeRef(name, 'run-' + name))


def steps(tokens: int, nodes: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each step that is measured, with its name."""
    names = tuple(f'node-{number:04}' for number in range(nodes + 1))
    empty = Cluster(Assignment.empty(tokens), names[:-1])

    def stage(name: str, cluster: Cluster, who: str) -> Iterator[tuple[str, Callable[[], object]]]:
        yield f'{name}: decide', cluster.decide
        plan = cluster.decide()
        if plan is None:
            return
        after = cluster.after(plan)
        yield f'{name}: apply', partial(cluster.assignment.apply, cluster.changes(plan))
        yield f'{name}: under', partial(after.owned, who)
        yield f'{name}: both', partial(cluster.owned(who).both, after.owned(who), {})

    yield from stage('first', empty, names[0])
    settled = empty.after(_plan(empty))
    whole = Changes(settled.assignment.version, None, settled.assignment.members, tuple(settled.assignment.groups()), ())
    yield 'groups', lambda: list(settled.assignment.groups())
    yield 'whole reading: apply', partial(Assignment.empty(tokens).apply, whole)
    yield 'nothing: decide', settled.decide
    joining = attrs.evolve(settled, names=names)
    yield from stage('join, targets', joining, names[0])
    asked = joining.after(_plan(joining))
    yield from stage('join, handed over', asked, names[-1])
    joined = asked.after(_plan(asked))
    yield from stage('leave', attrs.evolve(joined, left=frozenset({names[-2]})), names[0])
    yield 'claimable set', lambda: joined.owned(names[0]).tokens


def lock_steps(locks: int, nodes: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each decision about so many task locks, each for one node by its name, with its name; all hand-overs are complete."""
    names = tuple(f'node-{number:04}' for number in range(nodes + 1))
    empty = Cluster(Assignment.empty(2 * nodes), names[:-1])
    found = tuple(TaskLock(1 + n, f'task-{n}', (names[n % nodes],), None, names[0], _START, None, 1) for n in range(locks))
    declared = attrs.evolve(empty.after(_plan(empty)), locks=found)
    yield 'declared', declared.decide
    asked = declared.after(_plan(declared))
    yield 'handed over', asked.decide
    settled = asked.settled()
    yield 'nothing', settled.decide
    state = new_leader()
    settled.decide(state)
    yield 'nothing, again', partial(settled.decide, state)
    weights = count(2.0)
    yield 'one node changes', lambda: attrs.evolve(settled, weight=next(weights)).decide(state)
    yield 'join', attrs.evolve(settled, names=names).decide
    yield 'leave', attrs.evolve(settled, left=frozenset({names[-2]})).decide


def item_steps(items: int, nodes: int, costs: Sequence[float]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each decision about a group of items, whose costs repeat ``costs``, with its name; all hand-overs are complete."""
    names = tuple(f'node-{number:04}' for number in range(nodes + 1))
    empty = Cluster(Assignment.empty(items), names[:-1])
    locks = tuple(
        TaskLock(1 + n, f'item-{n}', ('%',), None, names[0], _START, None, 1, 'group', costs[n % len(costs)])
        for n in range(items)
    )
    yield 'first', attrs.evolve(empty, locks=locks).decide
    declared = attrs.evolve(empty.after(_plan(empty)), locks=locks)
    yield 'declared', declared.decide
    asked = declared.after(_plan(declared))
    yield 'declared, handed over', asked.decide
    settled = asked.settled()
    yield 'nothing', settled.decide
    joining = attrs.evolve(settled, names=names)
    yield 'join', joining.decide
    joined = joining.settled()
    yield 'leave', attrs.evolve(joined, left=frozenset({names[-2]})).decide


def new_leader() -> LeaderState:
    """Return the state of a leader that has decided nothing yet."""
    return LeaderState(timeline_read_at=0.0)


def _plan(cluster: Cluster) -> Plan:
    plan = cluster.decide()
    assert plan is not None
    return plan


def peak_mb(step: Callable[[], object]) -> float:
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
