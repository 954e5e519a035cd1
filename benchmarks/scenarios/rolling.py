"""A rolling restart under load, and a node that comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.rolling import FAST, TOKENS
from benchmarks.rolling_cluster import RollingCluster
from benchmarks.rolling_scenes import SCENES, RollingOutcome, flap
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_WORKERS, _FEW_WORKERS, _STAYING = 10, 4, 5
_TASKS_A_SECOND, _OPEN_SEC, _BETWEEN_SEC = 30, 8.0, 1.0
_FLAP_SEC, _FEW_FLAPS_SEC = 30.0, 10.0
_FIGURES: dict[str, Callable[[RollingOutcome], float]] = {
    'worked on by two': lambda outcome: outcome.figures.worked_by_two,
    'missed': lambda outcome: len(outcome.figures.missed),
    'moved': lambda outcome: outcome.moved,
    'gap': lambda outcome: outcome.figures.gap_sec,
    'stop': lambda outcome: outcome.stop_sec,
    'faults': lambda outcome: len(outcome.faults),
}


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    workers = _FEW_WORKERS if bench.quick else _WORKERS
    scenes: dict[str, tuple[int, dict[str, Any], Callable[[RollingCluster], RollingOutcome]]] = {
        name: (workers, dict(scene.settings), partial(scene.play, workers=workers, between_sec=_BETWEEN_SEC, say=bench.say))
        for name, scene in SCENES.items()
    }
    seconds = _FEW_FLAPS_SEC if bench.quick else _FLAP_SEC
    scenes['a node that flaps'] = (_STAYING, {}, partial(flap, workers=_STAYING, seconds=seconds, say=bench.say))
    for case, (nodes, settings, play_scene) in scenes.items():
        place = {'backend': bench.store.url, 'appname': bench.store.namespace()}
        common = {'total_tokens': TOKENS, 'minimum_nodes': nodes, **FAST}
        with RollingCluster({**common, **settings, **place}, _TASKS_A_SECOND, _OPEN_SEC) as cluster:
            outcome = play_scene(cluster)
        for figure, of in _FIGURES.items():
            bench.record(figure, case, [float(of(outcome))])
        for fault in outcome.faults:
            bench.note(f'rolling, {bench.place}, {case}: {fault}')


SCENARIO = Scenario(
    name='rolling',
    title='Rolling restarts under load',
    means="""
        The cost of a deployment: ten workers with thirty tasks per second are replaced one after the other. The oldest, which
        leads, is always first. Every task has to be done once, by one worker at a time, and in time.
    """,
    bounds="""
        With stable names the gap is the restart of the process itself, because nothing moves. With new names each token of
        the old worker has to move once. A token that moves twice was given to a new worker before its predecessor left.
    """,
    figures=(
        Figure('worked on by two', Unit.COUNT, 'Tasks that two processes worked on at one instant.'),
        Figure('missed', Unit.COUNT, 'Tasks that no worker finished within 8 s.'),
        Figure('moved', Unit.TIMES, 'Tokens that passed to another name, as a multiple of the pool.'),
        Figure('gap', Unit.SECONDS, 'The longest time that a token was seen without an owner.'),
        Figure('stop', Unit.SECONDS, 'From SIGTERM to the end of a process, the longest.'),
        Figure('faults', Unit.COUNT, 'Exit statuses other than 0, warnings and errors in logs, records that stayed.'),
    ),
    play=play,
    needs=Needs.PROCESSES,
    by_default=False,
    targets=(
        Target('rolling restart: tasks worked on by two', Pick('worked on by two'), at_most=0),
        Target('rolling restart: tasks missed', Pick('missed'), at_most=0),
    ),
)
