"""The explorer: what it visits, what it finds, and that it would find more."""

from __future__ import annotations

import re

import pytest
from tests.explore import counterexamples
from tests.explore.catalogue import RULES, UNREACHED, WORLDS, Rule
from tests.explore.cluster import Cluster
from tests.explore.machine import Machine, Process
from tests.explore.search import explore
from tests.explore.terms import PRESENT, Count, recounted, renumbered
from tests.simulation import broken_rules
from tests.simulation.broken_rules import BROKEN_ORDER, BROKEN_RULES
from tests.simulation.test_scenarios import SCENARIOS

from jobsync._core.config import NodeConfig
from jobsync._core.leader.gathering import Gathering
from jobsync._core.leader.handover import Released

WAYS = counterexamples.read()


def test_every_broken_rule_has_its_place() -> None:
    """Each broken rule has a world in which it is to show, or a reason why no world shows it."""
    rules = {name for name in vars(broken_rules) if re.match(r'[rp]\d_|announced_', name)}
    assert {rule.__name__ for rule in (*RULES, *UNREACHED)} == {*rules, 'no_commit_guard'}
    assert WAYS.keys() == {rule.__name__ for rule in RULES}
    assert all(rule in SCENARIOS or rule.__name__ in {*BROKEN_RULES, *BROKEN_ORDER} for rule in UNREACHED)


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_a_counterexample_replays(rule: Rule) -> None:
    """Without the rule the kept way ends in two owners, with the rule it never does, and the page shows it."""
    way = WAYS[rule.__name__]
    with rule():
        broken = Cluster(WORLDS[way.world])
        assert counterexamples.ends_in_two_owners(way, broken), 'run python -m tests.explore --broken'
    assert counterexamples.keeps_one_owner(way)
    assert counterexamples.shown(rule.__name__, way, broken) in counterexamples.PAGE.read_text()


@pytest.mark.slow
def test_one_owner_whatever_is_late() -> None:
    """The nearest states of two nodes with one late call have one owner for each token, and settle."""
    found = explore(Cluster(WORLDS['late']), most=4_000, continue_every=4)
    assert not found.problem, found.way
    assert found.states >= 4_000
    assert found.continued > 900


@pytest.mark.slow
def test_one_owner_while_many_acknowledgements_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """So have the nearest states in which a leader gathers for longer than it does where owners are few; some go on gathering."""
    holds_up, longer = Gathering.holds_up, list[float]()

    def watched(self: Gathering, released: Released, is_structural: bool, config: NodeConfig, now: float) -> bool:
        waits = holds_up(self, released, is_structural, config, now)
        if waits and self.released_at is not None and now >= self.released_at + config.gather_sec:
            longer.append(now - self.released_at)
        return waits

    monkeypatch.setattr(Gathering, 'holds_up', watched)
    found = explore(Cluster(WORLDS['gathering']), most=2_000, continue_every=2)
    assert not found.problem, found.way
    assert found.continued > 900
    assert longer


@pytest.mark.full
@pytest.mark.parametrize('world', ['pause', 'late', 'delete', 'drain', 'lock', 'unlock', 'start'])
def test_every_state_of_a_small_world(world: str) -> None:
    """Each state that a small world can reach has one owner for each token and task, and settles."""
    found = explore(Cluster(WORLDS[world]))
    assert not found.problem, found.way
    assert found.is_complete


@pytest.mark.parametrize('rule', [broken_rules.r2_by_the_clock_of_the_store, broken_rules.r3_no_acknowledgement])
def test_a_search_finds_the_kept_way(rule: Rule) -> None:
    """The search finds a way as short as the one on the page."""
    with rule():
        found = explore(Cluster(WORLDS[RULES[rule]]), continue_every=0)
    assert found.problem
    assert len(found.way) == len(WAYS[rule.__name__].steps)


def test_a_cluster_that_never_settles_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state from which the cluster does not settle is a finding."""
    cluster = Cluster(WORLDS['late'])
    start = cluster.start()
    monkeypatch.setattr(cluster, 'is_settled', lambda state: False)
    monkeypatch.setattr(cluster, 'start', lambda: start)
    assert explore(cluster, most=100).problem == 'the cluster does not settle by itself'


def test_an_agent_is_what_its_term_says() -> None:
    """An agent made of a term has that term."""
    cluster = Cluster(WORLDS['lock'])
    machine = cluster.machine
    for process in cluster.start()[4:]:
        agent = machine.codec.copy(process.agent)
        assert machine.codec.agent(agent, process.key) is process.agent


def test_a_field_that_the_explorer_does_not_know_is_an_error() -> None:
    """A part of the core with a field that has no meaning here cannot be explored: the field may tell states apart."""
    machine = Machine(WORLDS['pause'])
    process = machine.started(machine.process(Process('a0', None)))
    assert process.agent is not None
    agent = machine.codec.copy(process.agent)
    agent.lease.unheard_of = 1.0  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="'unheard_of'"):
        machine.codec.agent(agent, process.key)


def test_numbers_keep_their_order_and_what_follows_directly() -> None:
    """Revisions become the lowest with the same order, in which two follow each other directly where they did before."""
    counts = [Count(('revision', number)) for number in (0, 7, 8, 20)]
    numbers = renumbered(counts)
    assert [numbers.get(count, count)[1] for count in counts] == [0, 2, 3, 5]


def test_heartbeats_are_counted_from_the_record() -> None:
    """The counter in the store becomes one number for all; what was read before it is below, and lost calls above."""
    counts = [Count(('beat:a', number)) for number in (3, 9, 40, 41, 60)]
    numbers = recounted(counts, {'beat:a': (40,)}, 3)
    assert [numbers.get(count, count)[1] - PRESENT for count in counts] == [-2, -1, 0, 1, 4]
