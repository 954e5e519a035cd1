"""Events of clusters, beside their limit and the load of the machine. No cluster runs here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from jobsync_bench.bench import Bench, BenchStore
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.figures import Side
from jobsync_bench.other_load import CALM_CORES, UsedSoFar, other_cores
from jobsync_bench.progress import PlainProgress
from jobsync_bench.scenarios import takeover
from jobsync_bench.scenarios.events import LIMIT, Limit, record_events, set_beside
from jobsync_bench.targets import compare


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench of the takeover scenario."""
    with ExitStack() as stack:
        store = BenchStore('postgresql', 'postgresql://nowhere')
        yield Bench(takeover.SCENARIO, store, False, PlainProgress(lambda _: None), None, stack)


def outcome(settled_sec: float, other_cores: float = 0.0, ended_sec: float = 0.0) -> ChurnOutcome:
    """What an event showed."""
    return ChurnOutcome(settled_sec, settled_sec, 0, ended_sec, other_cores)


def found(bench: Bench, figure: str, who: str = 'ours') -> dict[str, list[float]]:
    """The values of a figure, by case."""
    return {each.case: list(each.values) for each in bench.series if (each.figure, each.who) == (figure, who)}


def test_events_of_a_busy_machine_are_set_apart_and_no_target_counts_them(bench: Bench) -> None:
    """Their rows have another name, and the report says how many there were."""

    def events() -> Iterator[tuple[str, ChurnOutcome]]:
        yield 'kill leader', outcome(0.2, CALM_CORES)
        yield 'kill leader', outcome(9.0, CALM_CORES + 0.01)

    record_events(bench, [events, events], {'kill leader': Limit(4)}, 0.01)
    assert found(bench, 'settled') == {'kill leader': [0.2, 0.2], 'kill leader, busy machine': [9.0, 9.0]}
    assert found(bench, 'other load') == {
        'kill leader': [CALM_CORES] * 2,
        'kill leader, busy machine': [CALM_CORES + 0.01] * 2,
    }
    assert any('during 2 of 4 events' in note for note in bench.notes)
    (target,) = (each for each in takeover.SCENARIO.targets if each.what.startswith('SIGKILL') and each.what.endswith('median'))
    assert compare(target, bench.series).value == 0.2


def test_other_libraries_are_in_the_rows_of_the_same_event(bench: Bench) -> None:
    """Theirs is measured at the same time: on a busy machine, if all of ours is."""
    for event in ('join', 'leave'):
        bench.record('settled', event, [20.0], who='peer', side=Side.RIVAL)
    record_events(
        bench, [lambda: iter([('join', outcome(0.7)), ('leave', outcome(0.1, 1.0))])], {'join': Limit(4), 'leave': Limit(3)}, 0.0
    )
    set_beside(bench)
    assert found(bench, 'settled', 'peer').keys() == {'join', 'leave, busy machine'}


def test_each_figure_is_beside_its_limit(bench: Bench) -> None:
    """The settings' wait, the calls that follow one another, and the time in which the kernel ends a process."""
    record_events(bench, [lambda: iter([('join', outcome(0.7, ended_sec=0.02))])], {'join': Limit(4, 0.5)}, 0.01)
    (limit,) = (each for each in bench.series if each.who == LIMIT)
    assert (limit.figure, limit.side) == ('settled', Side.FLOOR)
    assert limit.values == pytest.approx([0.56])


def test_what_was_measured_before_a_failure_is_kept(bench: Bench) -> None:
    """The failure of one cluster passes on; events without a gap have no number for it."""

    def failing() -> Iterator[tuple[str, ChurnOutcome]]:
        yield 'leave', ChurnOutcome(0.1, math.nan, 0, 0.0, 0.0)
        raise RuntimeError('a worker has ended')

    with pytest.raises(RuntimeError, match='a worker has ended'):
        record_events(bench, [failing], {'leave': Limit(3)}, 0.01)
    assert found(bench, 'settled') == {'leave': [0.1]}
    assert found(bench, 'unowned') == {}


def test_a_failure_ends_those_beside_it(bench: Bench) -> None:
    """An action that waits is ended by its check, and the first failure is raised."""

    def waits() -> None:
        bench.pause(600)

    def fails() -> None:
        raise ValueError('no')

    with pytest.raises(ValueError, match='no'):
        bench.together('test', [waits, fails])
    bench.check()


def test_another_version_is_not_replaced_by_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``PYTHONPATH`` names the source of this one, the workers of another environment do not see it."""
    monkeypatch.setenv('PYTHONPATH', '/source')
    with ChurnCluster({}, python='/another/bin/python') as cluster:
        assert 'PYTHONPATH' not in (cluster._environment or os.environ)
    with ChurnCluster({}) as cluster:
        assert cluster._environment is None


def test_the_load_of_others_is_what_is_left() -> None:
    """What this process and those below it used is not others'."""
    before = UsedSoFar(10.0, 100.0, 7.0)
    assert other_cores(before, UsedSoFar(12.0, 103.0, 8.0)) == 1.0
    assert other_cores(before, UsedSoFar(12.0, 100.5, 8.0)) == 0.0


def test_steal_counts_and_idleness_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's time is a part of the user's already."""
    times = type(
        'Times', (), {'_asdict': lambda _: {'user': 1.0, 'system': 2.0, 'idle': 4.0, 'iowait': 8.0, 'steal': 16.0, 'guest': 32.0}}
    )
    monkeypatch.setattr(psutil, 'cpu_times', times)
    used = UsedSoFar.now()
    assert used.whole_sec == 19.0
    mine = psutil.Process().cpu_times()
    assert used.own_sec > 0
    assert used.own_sec >= 0.5 * (mine.user + mine.system)
