"""Scenarios that measure nothing, and results that nobody measured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Series, Side, Unit
from jobsync_bench.machine import Machine
from jobsync_bench.results import Part, Results
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['MACHINE', 'made_up_results', 'scenario', 'series']

MACHINE = Machine('Linux 6', 'A Processor', 2, 24.0, 0.5)


def scenario(
    name: str = 'walk',
    play: Callable[[Bench], None] = lambda _: None,
    needs: Needs = Needs.NOTHING,
    *targets: Target,
    at_once: int = 1,
) -> Scenario:
    """One with a figure that is drawn as bars, one that is drawn over an axis, and one of which more is better."""
    return Scenario(
        name=name,
        title=f'The {name}',
        means='What it is\n        worth.',
        bounds='The road.',
        figures=(
            Figure('time', Unit.SECONDS, 'From here to there.', tail=True),
            Figure('steps', Unit.COUNT, 'How many.', axis='metres'),
            Figure('speed', Unit.PER_SECOND, 'Steps in a second.'),
        ),
        play=play,
        needs=needs,
        targets=targets,
        at_once=at_once,
    )


def series(
    figure: str, values: tuple[float, ...], who: str = 'ours', case: str = 'uphill', store: str = '', at: float | None = None
) -> Series:
    """Of the scenario ``walk``."""
    side = Side.OURS if who.startswith('ours') else Side.FLOOR if who == 'crow' else Side.RIVAL
    return Series('walk', figure, store, case, who, side, values, at)


def made_up_results() -> Results:
    """Of the scenario ``walk``, and of one that failed."""
    return Results(
        quick=True,
        machine=MACHINE,
        started=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        took_sec=61.0,
        versions={'Python': '3.11.7', 'jobsync': '2'},
        notes=['nobody else was there'],
        parts=[Part('walk', '', 1.0), Part('run', 'redis', 2.0, 'RuntimeError: it fell')],
        series=[
            series('time', (0.002, 0.001, 0.003)),
            series('time', (0.01,), 'peer'),
            series('time', (0.0005,), 'crow'),
            series('time', (0.004,), 'ours, barefoot'),
            series('speed', (200.0,)),
            series('speed', (100.0,), 'peer'),
            series('steps', (1.0,), case='short', store='redis', at=1.0),
            series('steps', (100.0,), case='long', store='redis', at=100.0),
        ],
    )


FIVE_TIMES = Target('walking: times the peer', Pick('time', who='peer'), at_least=5, against=Pick('time'))
"""Reached by the made-up results, just."""
