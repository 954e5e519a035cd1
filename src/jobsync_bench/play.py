"""The work of ``jobsync bench`` and of the repository's harness: play scenarios, show progress, keep the results, report."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.errors import JobsyncError
from jobsync_bench.bench import Baselines, BenchStore
from jobsync_bench.interrupts import Interrupted, interruptible
from jobsync_bench.progress import PlainProgress, ProgressReporter
from jobsync_bench.report import text, write
from jobsync_bench.results import Results
from jobsync_bench.run import Place, run
from jobsync_bench.scenario import Scenario

__all__ = ['RESULTS', 'check_installed', 'listing', 'place_of', 'play', 'progress_on']

RESULTS = 'results.json'
_NEEDED = ('matplotlib', 'psutil')


def check_installed() -> None:
    """Raise ``JobsyncError`` if the extra ``bench`` is not installed."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise JobsyncError(f"benchmarks need {' and '.join(missing)}: pip install 'jobsync[bench]'")


def listing(scenarios: Sequence[Scenario]) -> str:
    """Return a list of the scenarios, one line for each."""
    width = max(len(scenario.name) for scenario in scenarios)
    return '\n'.join(
        f'{scenario.name:{width}}  {scenario.title}; on {scenario.needs.value}{"" if scenario.by_default else "; only by name"}'
        for scenario in scenarios
    )


def place_of(url: str) -> Place:
    """Return the place for the store at a URL, named by its scheme. Raises ``ConfigError`` and ``BackendNotFound``."""
    backend = plugins.connect(url, BackendOptions())
    reach = backend.info.reach
    backend.close()
    name = url.partition(':')[0]
    return Place(name, lambda: nullcontext(BenchStore(name, url)), reach)


@contextmanager
def progress_on(console: Console) -> Iterator[ProgressReporter]:
    """Yield a reporter that draws bars on a terminal, or one that writes lines anywhere else."""
    if not console.is_terminal:
        yield PlainProgress(partial(console.print, soft_wrap=True, markup=False, highlight=False))
        return
    columns = (SpinnerColumn(), TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield LiveProgress(progress)


class LiveProgress:
    """Draws a bar for the turns of the present measurement, below lines that stay."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task('', total=None)
        self._lines = PlainProgress(partial(progress.console.print, soft_wrap=True, markup=False, highlight=False))

    def begin(self, title: str, number: int, total: int) -> None:
        """See ``ProgressReporter``."""
        self._lines.begin(title, number, total)
        self._progress.reset(self._task, description=title)

    def turn(self, what: str, done: int, total: int) -> None:
        """See ``ProgressReporter``."""
        self._progress.update(self._task, description=what, completed=done, total=total)

    def say(self, text: str) -> None:
        """See ``ProgressReporter``."""
        self._lines.say(text)


def play(
    results: Results,
    scenarios: Sequence[Scenario],
    places: Sequence[Place],
    folder: Path | None,
    *,
    aloud: bool = False,
    as_json: bool = False,
    baselines: Baselines | None = None,
    only_measured: bool = True,
    then: Callable[[Results], object] = lambda _: None,
) -> int:
    """Play scenarios, report the measurements, and return the exit status.

    The report goes to ``folder`` if one is given. It goes to standard output without a folder, or if ``aloud`` is set; with
    ``as_json`` the measurements go there in its place.
    Measurements from before a signal or a failure are reported too. ``then`` is called with the results at the end.
    """
    progress: AbstractContextManager[ProgressReporter] = progress_on(Console(stderr=True))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    status = 0
    try:
        with interruptible(), progress as reporter:
            run(results, scenarios, places, reporter, baselines, (lambda so_far: _keep(so_far, folder)))
    except Interrupted as stopped:
        status = stopped.status
    if any(part.fault for part in results.parts):
        status = status or 1
    if as_json:
        click.echo(results.text())
    elif folder is None or aloud:
        click.echo(text(results, scenarios, only_measured=only_measured))
    if folder is not None:
        click.echo(f'{write(results, scenarios, folder, only_measured=only_measured)}', err=True)
    then(results)
    sys.stdout.flush()
    return status


def _keep(results: Results, folder: Path | None) -> None:
    if folder is not None:
        results.write(folder / RESULTS)
