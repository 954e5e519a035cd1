"""Runs of other nodes that are known to be over, without waiting for their timeout."""

from __future__ import annotations

import pytest
from tests.core.bench import AWAY, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.known_deaths import KnownDeaths
from jobsync._core.agent.phase import Phase
from jobsync._core.records import NodeRef


def test_the_tokens_of_a_dead_follower_pass_on_at_once() -> None:
    """Any node that knows of it declares it over, and the leader gives its tokens away."""
    bench = Bench()
    first, second, third = bench.cluster('a', 'b', 'c')
    bench.kill(third)
    second.know_dead(third.ref)
    bench.run(0.1)
    assert first.lease.ownership.tokens | second.lease.ownership.tokens == {0, 1, 2, 3}


def test_a_dead_leader_is_succeeded_at_once() -> None:
    """The next in line leads as soon as the store has it that the leader is over."""
    bench = Bench()
    first, second, third = bench.cluster('a', 'b', 'c')
    bench.kill(first)
    third.know_dead(first.ref)
    bench.run(0.5)
    assert bench.leader == 'b'
    assert second.lease.ownership.tokens | third.lease.ownership.tokens == {0, 1, 2, 3}


def test_a_name_whose_run_is_over_is_taken_over_at_once() -> None:
    """A newcomer that knows that the run under its name is over does not watch it, and owns what that owned."""
    bench = Bench()
    first, second = bench.cluster('a', 'b')
    had = second.lease.ownership.tokens
    bench.kill(second)
    newcomer = bench.start('b')
    newcomer.know_dead(second.ref)
    bench.run(0.5)
    assert newcomer.phase is Phase.MEMBER
    assert (newcomer.lease.ownership.tokens, first.is_settled) == (had, True)


def test_another_run_of_a_known_dead_is_watched() -> None:
    """What is known of one incarnation says nothing of the next one under its name."""
    bench = Bench()
    bench.cluster('a')
    newcomer = bench.start('a')
    newcomer.know_dead(NodeRef('a', 'an earlier run'))
    bench.run(20.0)
    assert newcomer.phase is Phase.FAILED


def test_a_death_is_declared_until_the_store_has_it_and_once() -> None:
    """A call that fails is repeated; knowledge that comes again is no news."""
    bench = Bench()
    first, second, third = bench.cluster('a', 'b', 'c')
    bench.kill(third)
    second.know_dead(third.ref)
    failures = [AWAY] * 3

    def fault(agent: object, call: commands.Command) -> object:
        return failures.pop() if failures and isinstance(call, commands.DeclareDead) else None

    bench.fault = fault  # type: ignore[assignment]
    bench.run(8.0)
    assert first.lease.ownership.tokens | second.lease.ownership.tokens == {0, 1, 2, 3}
    second.know_dead(third.ref)
    bench.run(5.0)
    declared = [made for made in bench.made if isinstance(made.call, commands.DeclareDead)]
    assert [made.agent for made in declared if made.answer is None] == [second]


@pytest.mark.parametrize('kind', [commands.DeclareDead, commands.SetWeight])
def test_a_record_that_cannot_be_written_holds_up_no_other_work(kind: type[commands.Command]) -> None:
    """The leader goes on to lead, and declares the other dead over, while the calls for one record fail, as behind a lock."""
    bench = Bench()
    first, second, third, _ = bench.cluster('a', 'b', 'c', 'd')
    stuck = second.ref if kind is commands.DeclareDead else first.ref
    bench.fault = lambda agent, call: AWAY if isinstance(call, kind) and getattr(call, 'ref', None) == stuck else None
    if kind is commands.DeclareDead:
        bench.kill(second)
        first.know_dead(second.ref)
    else:
        first.set_weight(2.0)
    bench.run(1.0)
    bench.kill(third)
    first.know_dead(third.ref)
    late = bench.start('e')
    bench.run(10.0)
    names = {node.name for node in bench.backend.snapshot().nodes}
    assert (late.is_settled, 'c' in names, 'b' in names) == (True, False, True)
    bench.fault = lambda agent, call: None
    bench.run(5.0)
    names = {node.name for node in bench.backend.snapshot().nodes}
    assert 'b' not in names if kind is commands.DeclareDead else bench.record('a').weight == 2.0


def test_no_more_deaths_are_remembered_than_may_matter() -> None:
    """A program that crashes again and again is declared over each time, and its runs of long ago are forgotten."""
    deaths, last = KnownDeaths(), NodeRef('w', '4999')
    for number in range(5000):
        deaths.take(NodeRef('w', str(number)))
        deaths.declared(NodeRef('w', str(number)))
    assert last in deaths
    assert deaths.next() is None
    assert sum(NodeRef('w', str(number)) in deaths for number in range(5000)) <= 1000
