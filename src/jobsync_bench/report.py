"""The report of one run, in Markdown, made from the results and the descriptions of the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

from jobsync_bench.formatting import quantity, table, times
from jobsync_bench.results import Results
from jobsync_bench.scenario import Scenario
from jobsync_bench.tables import figure_table
from jobsync_bench.targets import TargetResult, compare

__all__ = [
    'PLOTS', 'TARGET_COLUMNS', 'TIME', 'circumstances', 'draw', 'page', 'target_results', 'target_rows', 'targets_table', 'text',
    'time_table', 'write',
]  # fmt: skip

TARGET_COLUMNS = ('what', 'target', 'measured', '', 'the worst of all: in')
TIME = '## Where the time of the run went'
PLOTS = 'plots'
"""The folder of the plots, in the folder of the report."""


def write(results: Results, scenarios: Sequence[Scenario], folder: Path, *, only_measured: bool = False) -> Path:
    """Write ``report.md`` and its plots to a folder, and return the report's path."""
    path = folder / 'report.md'
    drawn = draw(results, scenarios, folder / PLOTS)
    path.write_text(text(results, scenarios, only_measured=only_measured, pictures=drawn))
    return path


def draw(results: Results, scenarios: Iterable[Scenario], folder: Path) -> set[str]:
    """Draw a plot of each scenario into a folder, and return the names of the scenarios that had something to draw."""
    from jobsync_bench.plots import plot

    folder.mkdir(parents=True, exist_ok=True)
    return {each.name for each in scenarios if plot(each, list(results.of(each.name)), folder / f'{each.name}.png')}


def text(
    results: Results, scenarios: Sequence[Scenario], *, only_measured: bool = False, pictures: Container[str] = frozenset()
) -> str:
    """Return the whole report. ``pictures`` has the names of the scenarios with a plot."""
    parts = ['# Benchmarks', *circumstances(results)]
    if targets := targets_table(results, scenarios, only_measured=only_measured):
        parts += ['## Targets', targets]
    for scenario in scenarios:
        if part := page(scenario, results, f'{PLOTS}/{scenario.name}.png' if scenario.name in pictures else None):
            parts += [f'## {scenario.title}', part]
    if spent := time_table(results):
        parts += [TIME, spent]
    return '\n\n'.join(filter(None, parts)) + '\n'


def circumstances(results: Results, scenario: str = '') -> Iterator[str]:
    """Yield paragraphs on the time, the machine and the versions of the run, and its notes: all, or those on one scenario."""
    kind = 'a quick run: fewer rounds, smaller sizes' if results.quick else 'a full run'
    yield f'Measured on {results.started:%Y-%m-%d %H:%M} UTC in {results.took_sec / 60:.0f} minutes ({kind}). {results.machine}.'
    yield ', '.join(f'{name} {version}' for name, version in results.versions.items()) + '.'
    notes = list(results.notes)
    if results.stopped_by:
        notes.insert(0, f'The run was ended early by {results.stopped_by}.')
    notes += [f'{part.scenario}{_on(part.store)} was not played to its end: {part.fault}' for part in results.parts if part.fault]
    yield '\n'.join(f'- {note}' for note in notes if note.startswith(scenario))


def _on(store: str) -> str:
    return f' on {store}' if store else ''


def page(scenario: Scenario, results: Results, picture: str | None) -> str:
    """Return the part of one scenario, without a heading; empty if nothing was measured."""
    series = list(results.of(scenario.name))
    if not series:
        return ''
    parts = [f'**What it means.** {scenario.means}', f'**What bounds it.** {scenario.bounds}']
    if picture:
        parts.append(f'![{scenario.title}]({picture})')
    for figure in scenario.figures:
        here = [each for each in series if each.figure == figure.name]
        if here:
            parts += [f'**{figure.name}**: {figure.description}', figure_table(figure, here)]
    return '\n\n'.join(parts)


def time_table(results: Results) -> str:
    """Return the table of the time that each scenario took, the longest first; empty for results of an earlier version."""
    spent = sorted(results.times().items(), key=lambda each: -each[1])
    whole = [('all', results.took_sec)] if spent else []
    return table(('scenario', 'took'), [[name, f'{seconds:,.0f} s'] for name, seconds in (*whole, *spent)]) if spent else ''


def target_results(results: Results, scenarios: Iterable[Scenario]) -> list[tuple[Scenario, TargetResult]]:
    """Compare the run with every target."""
    return [(scenario, compare(target, results.of(scenario.name))) for scenario in scenarios for target in scenario.targets]


def targets_table(results: Results, scenarios: Iterable[Scenario], *, only_measured: bool = False) -> str:
    """Return the table of targets. With ``only_measured``, targets without a measurement are left out."""
    rows = target_rows(results, scenarios, only_measured=only_measured)
    return table(TARGET_COLUMNS, rows) if rows else ''


def target_rows(results: Results, scenarios: Iterable[Scenario], *, only_measured: bool = False) -> list[list[str]]:
    """Return the rows of that table."""
    rows = []
    for scenario, stands in target_results(results, scenarios):
        if only_measured and stands.value is None:
            continue
        unit = scenario.figure(stands.target.number.figure).unit
        shown: Callable[[float], str] = times if stands.target.against else lambda value, unit=unit: quantity(value, unit)  # type: ignore[misc]
        sign = 'at most' if stands.target.at_most is not None else 'at least'
        measured = 'not measured' if stands.value is None else shown(stands.value)
        reached = {True: 'reached', False: '**not reached**', None: ''}[stands.is_reached]
        rows.append([stands.target.what, f'{sign} {shown(stands.target.bound)}', measured, reached, stands.where])
    return rows
