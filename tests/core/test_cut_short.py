"""An agent whose steps an unexpected error ends half-way, at any line: there may be no memory for what comes next."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import attrs
import pytest
from tests.core.bench import TASKS, Bench, Caught

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.phase import Phase
from jobsync.errors import Evicted

Trace = Callable[[FrameType, str, Any], Any]


def is_cut(act: Callable[[], object], line: int) -> bool:
    """Let memory be short at one of the lines of the agent that ``act`` runs; return whether it runs so many."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Trace | None:
        nonlocal left
        if '/_core/agent/' not in frame.f_code.co_filename:
            return None
        if event == 'line':
            left -= 1
            if left < 0:
                raise MemoryError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except MemoryError:
        return True
    finally:
        sys.settrace(before)
    return False


def owns_by_its_own_run(agent: Agent) -> bool:
    """Return whether whatever the agent may claim was given to its present run."""
    member = agent.lease.assignment.members.get(agent.ref.name)
    is_its_own = member is not None and member.incarnation == agent.ref.incarnation
    return is_its_own or agent.lease.ownership.is_empty


def unacknowledged() -> tuple[Bench, Agent]:
    """Return an agent that has read a version in which it gains tokens, and has not acknowledged it."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    b.leave(bench.now)
    bench.run_until(lambda: b.phase is Phase.LEFT)
    bench.deliver(bench.catch(a, commands.ReadAssignment))
    assert a.lease._awaiting_ack is not None
    return bench, a


def answer_cut_short(bench: Bench, caught: Caught, answer: commands.Reply, line: int) -> bool:
    """Give an answer that is cut short, and do what the runtime does about that; return whether it was."""
    agent, lane = caught.agent, caught.lane
    if not is_cut(partial(bench.answer, caught, answer), line):
        return False
    agent.give_up(lane, caught.call, bench.now)
    return True


@pytest.mark.parametrize('kind', [commands.Heartbeat, commands.TakeSnapshot])
def test_a_store_that_went_back(kind: type[commands.Command]) -> None:
    """The timeline is renewed or, where the sign was lost altogether, the run goes on: no run is begun in the old timeline."""
    for line in count():
        bench, agent = unacknowledged()
        before, timeline = agent.ref, bench.backend.snapshot().timeline
        caught = bench.catch(agent, kind)
        answer: Any = bench.perform(caught.call)
        if not answer_cut_short(bench, caught, attrs.evolve(answer, store='replica'), line):
            assert line > 30
            return
        for _ in range(100):
            bench.run(0.2)
            assert owns_by_its_own_run(agent), line
        assert agent.is_settled, line
        assert (agent.ref == before) == (bench.backend.snapshot().timeline == timeline), line


def test_an_eviction() -> None:
    """The node begins anew."""
    for line in count():
        bench, agent = unacknowledged()
        if not answer_cut_short(bench, bench.catch(agent, commands.Heartbeat), Evicted('evicted'), line):
            assert line > 30
            return
        for _ in range(100):
            bench.run(0.2)
            assert owns_by_its_own_run(agent), line
        assert agent.is_settled, line


def test_leaving() -> None:
    """The node leaves all the same, once it is requested to again."""
    for line in count():
        bench = Bench()
        a, _ = bench.cluster('a', 'b')
        if not is_cut(partial(a.leave, bench.now), line):
            assert line > 10
            return
        a.leave(bench.now)
        assert bench.claims(a, *TASKS) == [False] * 4
        bench.run(20.0)
        assert a.phase is Phase.LEFT, line


@pytest.mark.parametrize(
    'kind', [commands.Open, commands.Register, commands.ReadAssignment, commands.AcquireLeadership, commands.PlanAndCommit]
)
def test_a_first_node(kind: type[commands.Command]) -> None:
    """The node comes to own every token."""
    for line in count():
        bench = Bench()
        agent = bench.start('a')
        caught = bench.catch(agent, kind)
        if not answer_cut_short(bench, caught, bench.perform(caught.call), line):
            assert line > 5
            return
        bench.run(20.0)
        assert agent.is_settled, line
        assert len(agent.lease.ownership.tokens) == 4


@pytest.mark.parametrize('name', ['a', 'b'])
@pytest.mark.parametrize('kind', [commands.Heartbeat, commands.TakeSnapshot])
def test_a_member(name: str, kind: type[commands.Command]) -> None:
    """Neither the leader nor another node loses more than this one answer: a death is noticed in time."""
    for line in count(step=7):  # each costs the time of a whole cluster
        bench = Bench()
        agents = {each.config.name: each for each in bench.cluster('a', 'b', 'c')}
        agent = agents[name]
        if kind is commands.TakeSnapshot:
            agent._membership.monitor.poll(bench.now)
        caught = bench.catch(agent, kind)
        if not answer_cut_short(bench, caught, bench.perform(caught.call), line):
            assert line > 20
            return
        bench.kill(agents['c'])
        bench.run(25.0)
        assert agent.is_settled, line
        assert len(agent.lease.ownership.tokens) == 2


def test_a_node_that_steps_back() -> None:
    """It knows when it may lead again."""
    for line in count():
        candidacy = Candidacy(15.0)
        if not is_cut(partial(candidacy.step_back, 100.0), line):
            return
        assert candidacy.is_wanted or candidacy.note_success(130.0, committed=False)
