"""Playing scenarios: in turns, beside others, and whatever one of them runs into."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import count

import pytest
from tests.bench.made_up import scenario

from jobsync.backend import Reach
from jobsync.errors import ConfigError
from jobsync_bench.bench import Bench, BenchStore, Party, Rounds
from jobsync_bench.figures import Side
from jobsync_bench.interrupts import Interrupted, interruptible
from jobsync_bench.progress import PlainProgress
from jobsync_bench.results import Part, Results
from jobsync_bench.run import Place, run
from jobsync_bench.scenario import Needs, chosen

TELLER = PlainProgress(lambda _: None)
STORES = [Place(name, lambda name=name: nullcontext(BenchStore(name, f'{name}://'))) for name in ('one', 'two')]  # type: ignore[misc]


def failing(_bench: Bench) -> None:
    raise RuntimeError('it rained\nand rained')


class Others:
    """One that is as good as ours, and one that gives up after its first run."""

    def __init__(self, order: list[str]) -> None:
        self._order = order
        self._runs = count()

    def __call__(self, bench: Bench, figure: str, case: str) -> Mapping[str, Party]:  # noqa: D102 - the class has the docstring
        def walk() -> float:
            self._order.append('peer')
            return 2.0

        def give_up() -> float:
            if next(self._runs):
                raise RuntimeError('tired')
            return 3.0

        return {'peer': Party(walk), 'weak': Party(give_up), 'crow': Party(lambda: 1.0, Side.FLOOR)}


def test_rounds_are_played_in_turns_and_each_begins_with_another_one() -> None:
    order: list[str] = []

    def play(bench: Bench) -> None:
        def one() -> float:
            order.append('one')
            return 1.0

        def two() -> float:
            order.append('two')
            return 2.0

        bench.in_turns('time', 'uphill', {'ours': one, 'ours, two': two}, Rounds(3))

    results = Results(quick=True)
    run(results, [scenario(play=play)], [], TELLER)
    assert order == ['one', 'two', 'two', 'one', 'one', 'two']
    assert [(each.who, tuple(each.values)) for each in results.series] == [('ours', (1.0,) * 3), ('ours, two', (2.0,) * 3)]


def test_rounds_end_when_the_time_is_over_but_not_before_the_fewest_were_played() -> None:
    def play(bench: Bench) -> None:
        bench.in_turns('time', 'uphill', {'ours': lambda: 1.0}, Rounds(1000, least=4, seconds=0))

    results = Results(quick=True)
    run(results, [scenario(play=play)], [], TELLER)
    assert results.series[0].summary.count == 4


def test_a_rival_that_fails_is_left_out_and_noted() -> None:
    order: list[str] = []
    results = Results(quick=True)

    def play(bench: Bench) -> None:
        bench.in_turns('time', 'uphill', {'ours': lambda: 1.0}, Rounds(3))

    run(results, [scenario(play=play)], [], TELLER, Others(order))
    sides = {each.who: (each.side, each.summary.count) for each in results.series}
    assert sides == {
        'ours': (Side.OURS, 3), 'peer': (Side.RIVAL, 3), 'weak': (Side.RIVAL, 1), 'crow': (Side.FLOOR, 3),
    }  # fmt: skip
    assert results.notes == ['walk: weak failed: RuntimeError: tired']
    assert not results.parts[0].fault


def test_a_scenario_that_fails_is_noted_and_the_next_one_is_played() -> None:
    results, kept = Results(quick=True), []
    second = scenario('run', lambda bench: bench.record('time', 'uphill', [1.0]))
    run(results, [scenario(play=failing), second], [], TELLER, keep=lambda so_far: kept.append(len(so_far.parts)))
    assert [(part.scenario, part.fault) for part in results.parts] == [('walk', 'RuntimeError: it rained'), ('run', '')]
    assert [each.scenario for each in results.series] == ['run']
    assert kept == [1, 2], 'the results are kept after each of them'


def test_a_figure_that_the_scenario_does_not_have_is_a_fault() -> None:
    results = Results(quick=True)
    run(results, [scenario(play=lambda bench: bench.record('height', 'uphill', [1.0]))], [], TELLER)
    assert results.parts[0].fault
    assert not results.series


@pytest.mark.parametrize(
    ('needs', 'played'),
    [
        (Needs.NOTHING, ['']),
        (Needs.STORE, ['one', 'two', 'three']),
        (Needs.PROCESSES, ['two', 'three']),
        (Needs.NETWORK, ['three']),
    ],
)
def test_a_scenario_is_played_where_it_can_be(needs: Needs, played: list[str]) -> None:
    places = [
        Place('one', STORES[0].open, Reach.PROCESS),
        Place('two', STORES[1].open, Reach.HOST),
        Place('three', STORES[1].open),
    ]
    results = Results(quick=True)
    run(results, [scenario(needs=needs)], places, TELLER)
    assert [part.store for part in results.parts] == played


def test_scenarios_that_wait_are_played_on_several_stores_at_once() -> None:
    meeting = threading.Barrier(2)

    def play(bench: Bench) -> None:
        meeting.wait(120)
        bench.record('time', 'uphill', [1.0])

    results = Results(quick=True)
    run(results, [scenario(play=play, needs=Needs.STORE, at_once=2)], STORES, TELLER)
    assert sorted(each.store for each in results.series) == ['one', 'two']
    assert not any(part.fault for part in results.parts)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize('at_once', [1, 2])
def test_a_signal_ends_the_run_and_what_was_measured_is_kept(at_once: int) -> None:
    """Also where scenarios are played on threads, which signals do not reach."""
    ended, timers = [], list[threading.Timer]()

    def play(bench: Bench) -> None:
        bench.stack.callback(lambda: ended.append(bench.place))
        bench.record('time', 'uphill', [1.0])
        timers.append(threading.Timer(0.1, interrupt))
        timers[-1].start()
        bench.pause(60)

    results = Results(quick=True)
    kept: list[Results] = []
    never = scenario('run', failing)
    with pytest.raises(Interrupted) as stopped, interruptible():
        try:
            run(results, [scenario(play=play, needs=Needs.STORE, at_once=at_once), never], STORES, TELLER, keep=kept.append)
        finally:
            for timer in timers:
                timer.join()  # its signal would end the process once the handler is put back
    assert stopped.value.status == 128 + signal.SIGTERM
    assert results.stopped_by == 'SIGTERM'
    assert sorted(ended) == ['one', 'two'][:at_once]
    assert [each.figure for each in results.series] == ['time'] * at_once
    assert {part.fault for part in results.parts} == {'stopped'}
    assert kept, 'the results are kept'


def test_a_second_signal_does_not_disturb_the_end() -> None:
    with pytest.raises(Interrupted), interruptible():
        try:
            interrupt()
            time.sleep(60)
        finally:
            interrupt()
            time.sleep(0.05)
            done = True
    assert done


@pytest.mark.parametrize('comes_again', [False, True], ids=['once', 'again meanwhile'])
def test_a_signal_while_an_object_is_freed(monkeypatch: pytest.MonkeyPatch, comes_again: bool) -> None:
    """Python drops what the handler raises then, and what it raises while that is made good. The signal counts all the same."""

    class Freed:
        def __del__(self) -> None:
            interrupt()
            time.sleep(0.05)

    def start(thread: threading.Thread) -> None:
        start_thread(thread)
        interrupt()
        time.sleep(0.05)

    start_thread = threading.Thread.start
    if comes_again:
        monkeypatch.setattr(threading.Thread, 'start', start)
    freed = [Freed()]
    with pytest.raises(Interrupted), interruptible():
        freed.clear()
        time.sleep(60)
        pytest.fail('the signal was lost')


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_scenario_names_those_there_are() -> None:
    known = [scenario(), scenario('run')]
    assert chosen((), known) == tuple(known)
    assert chosen(['run'], known) == (known[1],)
    with pytest.raises(ConfigError, match="there is no scenario 'crawl', 'hop'; there are walk, run"):
        chosen(['hop', 'run', 'crawl'], known)


def test_what_is_done_aside_is_waited_for_and_its_failure_is_noted() -> None:
    over = []

    def slowly() -> None:
        time.sleep(0.2)
        over.append('slowly')
        raise RuntimeError('tired')

    def play(bench: Bench) -> None:
        with bench.alongside(slowly):
            bench.record('time', 'uphill', [1.0])
        assert over == ['slowly']
        bench.check()

    results = Results(quick=True)
    run(results, [scenario(play=play)], [], TELLER)
    assert [part.fault for part in results.parts] == ['']
    assert results.notes == ['walk: RuntimeError: tired']


def test_what_is_done_aside_ends_when_ours_fails() -> None:
    def play(bench: Bench) -> None:
        with bench.alongside(lambda: bench.pause(60)):
            failing(bench)

    results, started = Results(quick=True), time.monotonic()
    run(results, [scenario(play=play)], [], TELLER)
    assert results.parts[0].fault == 'RuntimeError: it rained'
    assert time.monotonic() - started < 30


def test_parts_that_need_the_machine_do_not_overlap() -> None:
    """On stores that a scenario is played on at once; other parts do."""
    inside, most, apart = 0, 0, threading.Barrier(2)

    def play(bench: Bench) -> None:
        nonlocal inside, most
        apart.wait(60)
        with bench.alone(), bench.alone():
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    results = Results(quick=True)
    run(results, [scenario('walk', play, Needs.STORE, at_once=2)], STORES, TELLER)
    assert most == 1
    assert [part.fault for part in results.parts] == ['', '']


def test_a_scenario_takes_the_time_of_all_its_stores() -> None:
    """Of those that are played at once the longest counts."""
    results = Results(quick=True)
    results.parts = [Part('walk', 'one', 4.0, '', 1.0), Part('walk', 'two', 2.0, '', 2.0), Part('walk', 'three', 1.0, '', 5.0)]
    results.parts += [Part('run', '', 2.0, '', 6.0), Part('of an earlier version', '', 9.0)]
    assert results.times() == {'walk': 5.0, 'run': 2.0}
