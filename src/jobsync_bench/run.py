"""Runs: scenarios are played one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from itertools import groupby

import attrs

from jobsync.backend import Reach
from jobsync_bench.bench import Baselines, Bench, BenchStore
from jobsync_bench.interrupts import AwaitedThread, Interrupted
from jobsync_bench.progress import ProgressReporter
from jobsync_bench.results import Part, Results
from jobsync_bench.scenario import Needs, Scenario

__all__ = ['Place', 'run']

_ENOUGH = {
    Needs.NOTHING: set(Reach),
    Needs.STORE: set(Reach),
    Needs.PROCESSES: {Reach.HOST, Reach.NETWORK},
    Needs.NETWORK: {Reach.NETWORK},
}


@attrs.frozen
class Place:
    """A kind of store that scenarios take place on."""

    name: str
    open: Callable[[], AbstractContextManager[BenchStore]]
    """Provides the store for the time of one scenario."""
    reach: Reach = Reach.NETWORK
    """How far apart the users of the store may be."""

    def suits(self, scenario: Scenario) -> bool:
        """Return True if the scenario can be played on this kind of store."""
        return self.reach in _ENOUGH[scenario.needs]


def run(
    results: Results,
    scenarios: Sequence[Scenario],
    places: Sequence[Place],
    progress: ProgressReporter,
    baselines: Baselines | None = None,
    keep: Callable[[Results], object] = lambda _: None,
) -> None:
    """Play every scenario on every place that suits it, and add the measurements to ``results``.

    ``keep`` is called with the results after each scenario. A failure of a scenario is recorded, and the next scenario follows. A
    signal ends the run (see ``interruptible``): ``Interrupted`` passes on after the measurements so far are kept.
    """
    parts = list(_parts(scenarios, places))
    started, number = time.monotonic(), 0
    for scenario, group in groupby(parts, key=lambda part: part[0]):
        here = [place for _, place in group]
        for first in range(0, len(here), scenario.at_once):
            some = here[first : first + scenario.at_once]
            for place in some:
                number += 1
                progress.begin(f'{scenario.title}, {place.name}' if place else scenario.title, number, len(parts))
            try:
                _play_all(results, scenario, some, progress, baselines, started)
            except Interrupted as stopped:
                results.stopped_by = stopped.signal.name
                raise
            finally:
                results.took_sec = round(time.monotonic() - started, 1)
                keep(results)
        progress.say(f'{scenario.name} took {results.times()[scenario.name]:.0f} s')


def _play_all(
    results: Results,
    scenario: Scenario,
    places: Sequence[Place | None],
    progress: ProgressReporter,
    baselines: Baselines | None,
    begun: float,
) -> None:
    """Play a scenario on several places at the same time, or on one place in the calling thread."""
    if len(places) == 1:
        _play(results, scenario, places[0], progress, baselines, [], threading.RLock(), begun)
        return
    stop, turn = threading.Event(), threading.RLock()

    def play(place: Place | None) -> None:
        with suppress(Interrupted):
            _play(results, scenario, place, progress, baselines, [stop], turn, begun)

    threads: list[AwaitedThread] = []
    try:
        threads += (AwaitedThread(scenario.name, partial(play, place)) for place in places)
        for thread in threads:
            thread.wait()
    finally:
        stop.set()
        for thread in threads:
            thread.wait()


def _parts(scenarios: Sequence[Scenario], places: Sequence[Place]) -> Iterator[tuple[Scenario, Place | None]]:
    for scenario in scenarios:
        if scenario.needs is Needs.NOTHING:
            yield scenario, None
        else:
            yield from ((scenario, place) for place in places if place.suits(scenario))


def _play(
    results: Results,
    scenario: Scenario,
    place: Place | None,
    progress: ProgressReporter,
    baselines: Baselines | None,
    stops: Sequence[threading.Event],
    turn: threading.RLock,
    begun: float,
) -> None:
    started, fault = time.monotonic(), ''
    try:
        with ExitStack() as stack:
            store = stack.enter_context(place.open()) if place else None
            if store is not None and store.version:
                results.versions[f'{store.name} server'] = store.version
            bench = Bench(scenario, store, results.quick, progress, baselines, stack, results.series, results.notes, stops, turn)
            scenario.play(bench)
    except Exception as error:  # noqa: BLE001  (after a failure of one scenario the others are still played)
        fault = ' '.join(f'{type(error).__name__}: {error}'.splitlines()[:1])
        progress.say(f'{scenario.name} could not be played to its end: {type(error).__name__}: {error}')
    except Interrupted:
        fault = 'stopped'
        raise
    finally:
        took = time.monotonic() - started
        results.parts.append(Part(scenario.name, place.name if place else '', round(took, 1), fault, round(started - begun, 1)))
