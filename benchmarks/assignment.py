"""What the core does with a whole assignment: the leader's decision, the next version, and what one node may claim under it.

    python -m benchmarks.assignment
    python -m benchmarks.assignment --tokens 10000 100000 --nodes 10

Follows a cluster through a first distribution, a round in which nothing has changed, a join in its two commits (targets set,
then handed over) and a leave. No store takes part. CPU time, the median of some runs; peak memory of one more, by tracemalloc,
beyond what was there before.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs
from benchmarks.compare import in_turns, machine, markdown

from jobsync.core.decision import Memory, Policy, Situation
from jobsync.core.hashing import tokenizer
from jobsync.core.leader import decide
from jobsync.core.model import Leadership, Node, NodeRef, NodeState, Revision, Snapshot, Timeline
from jobsync.core.ownership import Ownership
from jobsync.core.tokens import Assignment, Changes, Plan

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_POLICY = Policy(timeout_sec=15, rebalance_delay_sec=0, form_at=0, minimum_nodes=None, trust_first_timeline=True)


@attrs.frozen
class Cluster:
    """An assignment, and the nodes that have all seen it."""

    assignment: Assignment
    names: tuple[str, ...]
    left: frozenset[str] = frozenset()

    def decide(self) -> Plan | None:
        """What the leader commits now."""
        version = self.assignment.version
        timeline = Timeline(0, 'timeline', 'store')
        me = NodeRef(self.names[0], 'run-' + self.names[0])
        nodes = tuple(self._node(name, version) for name in self.names)
        snapshot = Snapshot(timeline, 'store', _START, version, version, Leadership(1, me), nodes, 0)
        situation = Situation(me, snapshot, self.assignment, (), {}, now=1_000.0)
        return decide(situation, Memory(timeline_read_at=0.0), _POLICY, tokenizer('xxh3', self.assignment.total_tokens)).plan

    def _node(self, name: str, seen: Revision) -> Node:
        state = NodeState.LEFT if name in self.left else NodeState.JOINED
        return Node(name, 'run-' + name, 1, seen, frozenset(), state, frozenset(), 1.0, 15.0, '', 0, _START, _START)

    def changes(self, plan: Plan) -> Changes:
        """What a reading brings once the plan has been committed."""
        version = Revision(self.assignment.version.number + 1, 1)
        groups = tuple(attrs.evolve(group, version=version.number) for group in plan.groups)
        base = self.assignment.version if self.assignment.members else None
        return Changes(version, base, plan.members, groups, plan.pins)

    def after(self, plan: Plan) -> Cluster:
        """The cluster in which the plan has been committed and seen by all."""
        return attrs.evolve(self, assignment=self.assignment.apply(self.changes(plan)))

    def owned(self, name: str) -> Ownership:
        """What that node may claim."""
        return Ownership.under(self.assignment, NodeRef(name, 'run-' + name))


def steps(tokens: int, nodes: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured: each step's name and the step."""
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


def _plan(cluster: Cluster) -> Plan:
    plan = cluster.decide()
    assert plan is not None
    return plan


def seconds(step: Callable[[], object]) -> float:
    start = time.thread_time()
    step()
    return time.thread_time() - start


def peak_mb(step: Callable[[], object]) -> float:
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tokens', type=int, nargs='+', default=[10_000, 100_000, 1_000_000])
    parser.add_argument('--nodes', type=int, nargs='+', default=[10, 1_000])
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args(arguments)
    table: dict[str, list[str]] = {}
    columns = ['step']
    for nodes in options.nodes:
        for tokens in options.tokens:
            columns += [f'{tokens // 1000} k x {nodes}, ms', 'peak MB']
            measured = dict(steps(tokens, nodes))
            took = in_turns({name: partial(seconds, step) for name, step in measured.items()}, options.rounds)
            for name, step in measured.items():
                table.setdefault(name, []).extend([f'{1e3 * took[name]:.1f}', f'{peak_mb(step):.1f}'])
    print(machine(), markdown(columns, [[name, *cells] for name, cells in table.items()]), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
