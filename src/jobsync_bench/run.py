"""Playing scenarios one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from itertools import groupby

import attrs

from jobsync.backend import Reach
from jobsync_bench.bench import Baselines, Bench, Store
from jobsync_bench.interrupts import Interrupted
from jobsync_bench.progress import ProgressReporter
from jobsync_bench.results import Part, Results
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.threads import Awaited

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
    open: Callable[[], AbstractContextManager[Store]]
    """Gives the store for the time of one scenario."""
    reach: Reach = Reach.NETWORK
    """How far apart those who use it may be."""

    def suits(self, scenario: Scenario) -> bool:
        """Whether the scenario can take place on it."""
        return self.reach in _ENOUGH[scenario.needs]


def run(
    results: Results,
    scenarios: Sequence[Scenario],
    places: Sequence[Place],
    progress: ProgressReporter,
    baselines: Baselines | None = None,
    keep: Callable[[Results], object] = lambda _: None,
) -> None:
    """Play every scenario on every place that suits it, into ``results``, which ``keep`` is given after each of them.

    A scenario that fails is noted, and the next one follows. A signal ends the run (see ``interruptible``): ``Interrupted``
    passes on, once what was measured until then is kept.
    """
    parts = list(_parts(scenarios, places))
    started, told = time.monotonic(), 0
    for scenario, group in groupby(parts, key=lambda part: part[0]):
        here = [place for _, place in group]
        for first in range(0, len(here), scenario.at_once):
            some = here[first : first + scenario.at_once]
            for place in some:
                told += 1
                progress.begins(f'{scenario.title}, {place.name}' if place else scenario.title, told, len(parts))
            try:
                _play_all(results, scenario, some, progress, baselines)
            except Interrupted as stopped:
                results.stopped_by = stopped.signal.name
                raise
            finally:
                results.took_sec = round(time.monotonic() - started, 1)
                keep(results)


def _play_all(
    results: Results, scenario: Scenario, places: Sequence[Place | None], progress: ProgressReporter, baselines: Baselines | None
) -> None:
    """Play a scenario on some places at the same time; on one, in this very thread."""
    if len(places) == 1:
        _play(results, scenario, places[0], progress, baselines, [])
        return
    stop = threading.Event()

    def play(place: Place | None) -> None:
        with suppress(Interrupted):
            _play(results, scenario, place, progress, baselines, [stop])

    threads: list[Awaited] = []
    try:
        threads += (Awaited(scenario.name, partial(play, place)) for place in places)
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
) -> None:
    started, fault = time.monotonic(), ''
    try:
        with ExitStack() as stack:
            store = stack.enter_context(place.open()) if place else None
            if store is not None and store.version:
                results.versions[f'{store.name} server'] = store.version
            bench = Bench(scenario, store, results.quick, progress, baselines, stack, results.series, results.notes, stops)
            scenario.play(bench)
    except Exception as error:  # noqa: BLE001  (whatever one scenario runs into, the others are worth having)
        fault = ' '.join(f'{type(error).__name__}: {error}'.splitlines()[:1])
        progress.say(f'{scenario.name} could not be played to its end: {type(error).__name__}: {error}')
    except Interrupted:
        fault = 'stopped'
        raise
    finally:
        results.parts.append(Part(scenario.name, place.name if place else '', round(time.monotonic() - started, 1), fault))
