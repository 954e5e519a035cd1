"""Each scenario is played, small and quick, on stores that need no server. How long anything takes is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks import scenarios as all_scenarios
from benchmarks.places import places
from tests.bench.made_up import MACHINE
from tests.support.servers import RedisServer

from jobsync.backend import Purged
from jobsync.errors import ConfigError
from jobsync_bench import scenarios as shipped
from jobsync_bench.bench import Bench, BenchStore
from jobsync_bench.figures import Series
from jobsync_bench.processes.child import child_processes
from jobsync_bench.progress import PlainProgress
from jobsync_bench.report import text
from jobsync_bench.results import Results
from jobsync_bench.run import run
from jobsync_bench.scenario import Scenario
from jobsync_bench.scenarios import growth, pool, tasks
from jobsync_bench.targets import compare

BY_NAME = {scenario.name: scenario for scenario in all_scenarios.SCENARIOS}
TELLER = PlainProgress(lambda _: None)
everyone = pytest.mark.parametrize('scenario', BY_NAME.values(), ids=list(BY_NAME))


def played(name: str, store: str = 'sqlite') -> list[Series]:
    """What a quick run of one scenario measures."""
    results = Results(quick=True, machine=MACHINE)
    run(results, [BY_NAME[name]], places([store]), TELLER)
    assert [part.fault for part in results.parts] == ['']
    assert f'## {BY_NAME[name].title}' in text(results, [BY_NAME[name]])
    return results.series


def medians(series: list[Series], figure: str) -> dict[str, float]:
    return {each.case: each.summary.median for each in series if each.figure == figure and each.who == 'ours'}


@everyone
def test_it_says_what_it_means_and_what_bounds_it(scenario: Scenario) -> None:
    assert scenario.means
    assert scenario.bounds
    assert '\n' not in scenario.means + scenario.bounds
    assert all(figure.description.endswith('.') for figure in scenario.figures)
    names = [figure.name for figure in scenario.figures]
    assert len(set(names)) == len(names)


@everyone
def test_its_targets_are_of_its_figures_and_have_one_bound(scenario: Scenario) -> None:
    names = {figure.name for figure in scenario.figures}
    for target in scenario.targets:
        assert (target.at_most is None) != (target.at_least is None), target.what
        assert {pick.figure for pick in (target.number, target.against) if pick} <= names, target.what


def test_what_is_shipped_is_played_by_the_project_too() -> None:
    assert set(shipped.SCENARIOS) <= set(all_scenarios.SCENARIOS)


def test_floors() -> None:
    found = [each.case for each in played('floors')]
    assert found == ['empty call', 'clock', 'hash of an id', 'fsync of 4 kB']


def test_ownership() -> None:
    series = played('ownership')
    assert {each.who for each in series} >= {'ours', 'ours, 1,000 locks', 'bare hash', 'empty call', 'clock'}
    assert len(medians(series, 'call')) == 6
    assert compare(BY_NAME['ownership'].targets[1], series).value is not None


@pytest.mark.parametrize('store', ['memory', 'sqlite'])
def test_calls(store: str) -> None:
    assert len(medians(played('calls', store), 'call')) == 4


@pytest.mark.parametrize('store', ['memory', pytest.param('sqlite', marks=pytest.mark.full)])
def test_commit(store: str) -> None:
    """Each pool takes its place on the axis; a quick run has one."""
    series = played('commit', store)
    for figure in ('join', 'nothing', 'read', 'look'):
        assert medians(series, figure).keys() == {'10,000 tokens'}
    assert {each.at for each in series} == {10_000}


@pytest.mark.parametrize('store', ['memory', pytest.param('sqlite', marks=pytest.mark.full)])
def test_bulk(store: str) -> None:
    series = played('bulk', store)
    assert medians(series, 'bulk').keys() == {'locks', 'claims', 'audits'}
    assert medians(series, 'task').keys() == {'add_task'}


@pytest.mark.full
def test_tasks_are_done_by_real_processes_each_exactly_once() -> None:
    found = medians(played('tasks'), 'rate')
    assert found.keys() == {'1 process', '4 processes'}
    assert min(found.values()) > 0


def test_claim() -> None:
    """The loop is measured for tasks of each kind, and until its first one."""
    series = played('claim')
    task = medians(series, 'task')
    assert len(task) == 4
    assert len(medians(series, 'first')) == 2
    assert compare(BY_NAME['claim'].targets[0], series).value == task["another node's"]


@pytest.mark.full
def test_a_pile_is_worked_through_by_real_processes() -> None:
    series = played('batch')
    assert medians(series, 'rate').keys() == medians(series, 'end').keys() == {'4 processes'}


@pytest.mark.full
def test_items_are_shared_out_exactly() -> None:
    """Two each, of which a join moves one; by their hash the fullest node has more."""
    series = played('items', 'memory')
    assert list(medians(series, 'fullest node').values()) == [2.0]
    assert list(medians(series, 'moved').values()) == [1.0]
    (hashed,) = (each.summary.median for each in series if each.who == 'by their hash')
    assert hashed > 2
    assert list(medians(series, 'owned by two').values()) == [0.0]


@pytest.mark.full
def test_rows_of_a_node() -> None:
    """Read in three ways that agree, or the scenario fails; a store without SQL has nothing to measure."""
    series = played('where')
    assert medians(series, 'read').keys() == {'the first 1,000, of 20,000 rows', 'all of them, of 20,000 rows'}
    results = Results(quick=True, machine=MACHINE)
    run(results, [BY_NAME['where']], places(['memory']), TELLER)
    assert (results.series, [part.fault for part in results.parts]) == ([], [''])


class Sharing:
    """A worker that does what it is told to, and perhaps more."""

    def __init__(self, done: Callable[[int, int], list[int]]) -> None:
        self._done = done
        self._told: tuple[int, int] = (0, 0)

    def send(self, verb: str, loop: str, first: int, count: int) -> None:
        """See ``ChildProcess``."""
        assert (verb, loop) == ('work', 'claim')
        self._told = (first, count)

    def receive(self) -> object:
        """See ``ChildProcess``."""
        return {'began': 1.0, 'last': 1.5, 'ended': 2.0, 'done': self._done(*self._told)}


class Recorded:
    """A store that has as many audits as it is told, of different items."""

    def __init__(self, audits: int) -> None:
        self._audits = audits

    def purge(self, *_: object) -> Purged:
        """See ``Backend``."""
        return Purged(0)

    def history(self, *_: object) -> list[object]:
        """See ``Backend``."""
        return [type('Audit', (), {'item': str(number)})() for number in range(self._audits)]


@pytest.mark.parametrize(
    ('ours', 'others', 'audits'),
    [
        (lambda first, count: list(range(first, first + count)), lambda first, _: [first], 10),
        (lambda first, count: list(range(first, first + count - 1)), lambda _, __: [], 10),
        (lambda first, count: list(range(first, first + count)), lambda _, __: [], 9),
    ],
    ids=['one is done twice', 'one is not done', 'one is not on record'],
)  # fmt: skip
def test_a_round_with_a_task_that_was_not_done_once_is_no_result(
    ours: Callable[[int, int], list[int]], others: Callable[[int, int], list[int]], audits: int
) -> None:
    """However fast it was."""
    team = tasks.Team([Sharing(ours), Sharing(others)], Recorded(audits))  # type: ignore[list-item, arg-type]
    with pytest.raises(RuntimeError, match='of 10 tasks'):
        team.round(10)


def test_a_round_of_one_second() -> None:
    """Tasks by the time from the first beginning to the last end."""
    team = tasks.Team(
        [Sharing(lambda first, _: [first]), Sharing(lambda first, count: list(range(first + 1, first + count)))],  # type: ignore[list-item]
        Recorded(10),  # type: ignore[arg-type]
    )
    assert team.round(10) == 10.0
    assert team.tail_sec == 0.5


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench on SQLite."""
    with ExitStack() as stack:
        store = BenchStore('sqlite', f'sqlite:///{tmp_path}/jobs.db', lambda: 0.0)
        yield Bench(growth.SCENARIO, store, True, TELLER, None, stack)


def test_a_leader_that_has_changed_has_no_cpu_of_a_growth() -> None:
    """What one node had taken before it led is no part of a growth, nor is the loss of what another one had taken."""
    before = {'nodes': 4.0, 'leader a': 2.0, 'store': 1.0}
    assert growth.cpu_since(before, {'nodes': 9.0, 'leader a': 3.0, 'store': 1.5}) == {'nodes': 5.0, 'leader': 1.0, 'store': 0.5}
    assert growth.cpu_since(before, {'nodes': 9.0, 'leader b': 0.5, 'store': 1.5}) == {'nodes': 5.0, 'store': 0.5}


@pytest.mark.full
def test_growth(bench: Bench) -> None:
    """Hosts have real nodes in them: they get their shares, and make the calls of nodes."""
    orders = [{'url': bench.store.url, 'namespace': bench.store.namespace(), 'tokens': 100}] * 2
    with child_processes('host', orders) as hosts:
        growth.enter(bench, hosts, 0, 3)
        growth.measure(bench, hosts, 3, 6.0)
    (all_calls,) = medians(bench.series, 'all calls').values()
    (of_followers,) = medians(bench.series, 'calls of a follower').values()
    (of_the_leader,) = medians(bench.series, 'calls of the leader').values()
    # Each has at least one heartbeat in 6 s. Followers that are next in line read as often as the leader, so neither calls more.
    assert min(of_the_leader, of_followers) > 9
    assert all_calls * 60 == pytest.approx(of_the_leader + 2 * of_followers)
    assert {each.at for each in bench.series} == {3}
    ours, limit = (each.values[0] for each in bench.series if each.figure == 'settled')
    assert 0 < limit < ours
    assert medians(bench.series, 'growth, plans') == {'0 to 3 nodes': pytest.approx(2, abs=1)}
    assert len(next(each for each in bench.series if each.figure == 'heartbeat').values) >= 3


@pytest.mark.full
def test_pool(bench: Bench) -> None:
    """Both nodes get their half, and what each needs for it is of the process, above its imports."""
    bench.scenario = pool.SCENARIO
    pool.measure(bench, 1000)
    assert list(medians(bench.series, 'join')) == ['1,000 tokens']
    peaks, imported = medians(bench.series, 'peak'), medians(bench.series, 'imported')
    assert list(peaks) == ['1,000 tokens, the first node', '1,000 tokens, the second node']
    assert all(peaks[case] > imported[case] > 10 for case in peaks)
    assert min(medians(bench.series, 'cpu').values()) > 0


@pytest.mark.full
@pytest.mark.redis
def test_what_is_read_when_one_joins(redis_of_many: RedisServer) -> None:
    """It is counted on the way to the store; fewer tokens move between more nodes, and nothing else grows."""
    url = redis_of_many.url()
    with ExitStack() as stack:
        bench = Bench(growth.SCENARIO, BenchStore('redis', url, lambda: 0.0), True, TELLER, None, stack)
        namespace = bench.store.namespace()
        with child_processes('host', [{'url': url, 'namespace': namespace, 'tokens': 100}]) as hosts:
            hosts[0].request('enter', 0, 2)
            growth.settle(hosts, 2)
            growth.one_more(bench, hosts, namespace, 2)
            hosts[0].request('enter', 3, 20)
            growth.settle(hosts, 20)
            growth.one_more(bench, hosts, namespace, 20)
    few, many = medians(bench.series, 'reading').values()
    assert few > many > 0


@pytest.mark.parametrize('name', [pytest.param('imports', marks=pytest.mark.full), 'placement'])
def test_those_of_the_repository(name: str) -> None:
    assert medians(played(name), BY_NAME[name].figures[0].name)


def test_placements_of_ours_are_exact() -> None:
    """The fullest node has what balance demands, and no more moves than must."""
    assert all(moved == 1.0 for moved in medians(played('placement'), 'moved').values())


def test_an_unknown_store_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there is no store 'paper'; there are memory, sqlite, postgresql, redis, etcd"):
        places(['sqlite', 'paper'])
