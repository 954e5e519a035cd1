"""What rule R5 compares, each by itself: of the simulator's storms one in hundreds or thousands shows the lack of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from tests.core.bench import AWAY, TASKS, Bench
from tests.simulation.broken_rules import r5_absent_not_compared, r5_eviction_not_compared, r5_version_not_compared

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.monitor import STANDBYS
from jobsync._core.assignment import Plan
from jobsync._core.records import Guard, NodeRef, Revision
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.errors import Conflict


class TardyBackend(MemoryBackend):
    """Carries out the first commit that gives a node tokens long after whoever asked for it has given up waiting."""

    def __init__(self, store: MemoryStore, owner: str) -> None:
        super().__init__(store)
        self._owner = owner
        self.late: tuple[NodeRef, Plan, Guard] | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        if self.late is None and any(group.owner == self._owner for group in plan.groups):
            self.late = ref, plan, guard
            raise AWAY
        return super().commit(ref, plan, guard)


def owners_after_a_late_commit() -> int:
    """How many nodes may claim one task after a commit has arrived that others have overtaken.

    t=0  the leader gives tokens that have been let go of to the newcomer ``c``; that commit gets no answer
    t=1  it plans the same again and commits it: ``c`` owns them
    t=2  ``c`` is drained, lets go of them, and others own them
    t=3  the first commit arrives; all that is in it (timeline, epoch, leader, members) is as it was, but for the version
    t=4  ``c`` reads that it owns them, sooner than the others read that they do not
    """
    bench = Bench()
    bench.backend = backend = TardyBackend(bench.store, 'c')
    bench.cluster('a', 'b')
    newcomer = bench.start('c')
    bench.run_until(lambda: backend.late is not None)
    assert newcomer.lease.ownership.is_empty
    bench.run_until(lambda: newcomer.is_settled and not newcomer.lease.ownership.is_empty)
    newcomer.set_weight(0.0)
    bench.run(10.0)
    assert newcomer.lease.ownership.is_empty
    assert [sum(owners) for owners in claims(bench)] == [1] * len(TASKS)
    late: Any = backend.late
    with contextlib.suppress(Conflict):
        backend.commit(*late)
    newcomer.hint(backend.snapshot().revision.number, bench.now)
    return most_owners(bench)


def owners_after_a_sign_of_life() -> int:
    """How many nodes may claim one task after a node has been taken for dead that is not.

    t=0  ``c`` cannot reach the store
    t=15 the leader takes it for dead, and is about to commit that; just before, a heartbeat of ``c`` succeeds
    t=16 the commit arrives, and its hint does not reach ``c``
    """
    bench, leader, other = leader_and_another()
    bench.cut_off(other)
    while not (caught := bench.catch(leader, commands.PlanAndCommit)).call.view.suspects:
        bench.deliver(caught)
    bench.cut.clear()
    bench.run_until(lambda: bench.now < other.lease.deadline)
    bench.run(2.0)  # it has looked at the others too, and has no more reason to
    bench.push = False
    bench.deliver(caught)
    return max(most_owners(bench) for _ in range(60))


def owners_after_a_row_was_put_back() -> int:
    """How many nodes may claim one task after an owner has been given up for gone that is not.

    t=0  ``c`` cannot reach the store, and its row is deleted by hand
    t=15 the leader is about to commit that others own its tokens; just before, the row is put back, and a heartbeat of ``c``
         succeeds
    t=16 the commit arrives, and its hint does not reach ``c``
    """
    bench, leader, other = leader_and_another()
    bench.cut_off(other)
    record = bench.record('c')
    bench.store.delete_node_row('sync_', 'c')
    while True:
        caught = bench.catch(leader, commands.PlanAndCommit)
        absent = caught.call.state.absent_since
        if absent and caught.call.view.now >= max(absent.values()) + leader.config.heartbeat_timeout_sec:
            break
        bench.deliver(caught)
    bench.store.insert_node_row('sync_', record)
    bench.cut.clear()
    bench.run_until(lambda: bench.now < other.lease.deadline)
    bench.run(2.0)  # it has looked at the others too, and has no more reason to
    bench.push = False
    bench.deliver(caught)
    return max(most_owners(bench) for _ in range(60))


def leader_and_another() -> tuple[Bench, Agent, Agent]:
    """Return a settled cluster in which two nodes own tokens: its leader, and one that has no reason to look at the others."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    for number in range(STANDBYS):
        bench.start(f'b{number}', weight=0.0)
        bench.run(3.0)
    other = bench.start('c')
    bench.run(20.0)
    assert not other.lease.ownership.is_empty
    return bench, leader, other


def most_owners(bench: Bench) -> int:
    """Let a tenth of a second pass, and return how many nodes may then claim one task at the most."""
    bench.run(0.1)
    return max(sum(owners) for owners in claims(bench))


def claims(bench: Bench) -> list[tuple[bool, ...]]:
    """For each task, which of the agents may claim it."""
    return list(zip(*(bench.claims(agent, *TASKS) for agent in bench.agents), strict=True))


SCENARIOS: dict[Callable[[], AbstractContextManager[None]], Callable[[], int]] = {
    r5_version_not_compared: owners_after_a_late_commit,
    r5_eviction_not_compared: owners_after_a_sign_of_life,
    r5_absent_not_compared: owners_after_a_row_was_put_back,
}


@pytest.mark.parametrize('scenario', SCENARIOS.values())
def test_a_commit_that_was_overtaken_is_refused(scenario: Callable[[], int]) -> None:
    """A plan is good for what it was made from, and for nothing else."""
    assert scenario() == 1


@pytest.mark.parametrize('rule', SCENARIOS)
def test_what_is_not_compared_makes_two_owners(rule: Callable[[], AbstractContextManager[None]]) -> None:
    """With the comparison taken away, the same scenario ends with two."""
    with rule():
        assert SCENARIOS[rule]() == 2
