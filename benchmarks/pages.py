"""The pages of the documentation, made from the results of one run and the descriptions of the scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.libraries.catalogue import SERVICES
from benchmarks.libraries.environments import PINS
from jobsync_bench.formatting import table
from jobsync_bench.report import (
    PLOTS,
    TARGET_COLUMNS,
    TIME,
    circumstances,
    draw,
    page,
    target_rows,
    targets_table,
    time_table,
)
from jobsync_bench.results import Results
from jobsync_bench.scenario import Scenario

__all__ = ['write_pages']

_INTRODUCTION = """\
# Benchmarks

`tox -e bench` measured every number here, and wrote this page and the pages below it. Parties that are compared were measured in
turns in one run, on one machine. So the ratios say more than the times, and each table begins with the ratios. "ours" is this
jobsync. A ratio `peer / ours` of 5 means that ours takes a fifth of the peer's time. The peer is jobsync 1.3.14, the earlier
package of that name.
"""
_ALL = '## All scenarios'
_SOME = 'Some scenarios were measured later than this page says; their own pages say when.'
_OWN = """\
To measure your own store: `jobsync bench --backend URL` (`pip install 'jobsync[bench,cli]'`).
"""


def write_pages(results: Results, scenarios: Sequence[Scenario], folder: Path) -> None:
    """Write ``index.md``, a page for each scenario that was played, and the plots. Older ones are deleted.

    The pages of scenarios that are played only by name stay. After a run of some scenarios only, the pages of all others stay,
    and the new ones say when they were measured.
    """
    played = {series.scenario for series in results.series}
    tried = {part.scenario for part in results.parts}
    is_whole = all(scenario.name in played | tried for scenario in scenarios if scenario.by_default)
    index = folder / 'index.md'
    before = index.read_text() if index.exists() else ''
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    if is_whole:
        kept = {scenario.name for scenario in scenarios if not scenario.by_default}
        for old in (*folder.glob('*.md'), *(folder / PLOTS).glob('*.png')):
            if old.stem not in kept:
                old.unlink()
    some = [scenario for scenario in scenarios if scenario.name in played]
    drawn = draw(results, some, folder / PLOTS)
    for scenario in some:
        text = page(scenario, results, f'{PLOTS}/{scenario.name}.png' if scenario.name in drawn else None)
        own = (
            []
            if is_whole and scenario.by_default
            else [*circumstances(results, scenario.name), targets_table(results, [scenario])]
        )
        parts = [f'# {scenario.title}', *own, text]
        (folder / f'{scenario.name}.md').write_text('\n\n'.join(part.strip() for part in parts if part) + '\n')
    index.write_text((_index if is_whole else _renewed)(before, results, scenarios, folder))


def _index(before: str, results: Results, scenarios: Sequence[Scenario], folder: Path) -> str:
    targets, spent = _targets(before, results, scenarios), time_table(results)
    rivals = '\n'.join(f'- **{each.name}** ({", ".join(PINS[each.rival])}): {each.about}' for each in SERVICES.values())
    parts = [
        _INTRODUCTION,
        *circumstances(results),
        _OWN,
        '## Targets' if targets else '',
        targets,
        _ALL,
        _tree(scenarios, folder),
        '## Other libraries',
        rivals,
        TIME if spent else '',
        spent,
    ]
    return '\n\n'.join(part.strip() for part in parts if part) + '\n'


def _tree(scenarios: Sequence[Scenario], folder: Path) -> str:
    written = [scenario.name for scenario in scenarios if (folder / f'{scenario.name}.md').exists()]
    return '\n'.join(['```{toctree}', ':maxdepth: 1', '', *written, '```'])


def _targets(before: str, results: Results, scenarios: Sequence[Scenario]) -> str:
    """Return the table of targets. Those of scenarios that were not played now are as an earlier index has them."""
    played = {series.scenario for series in results.series}
    cells = (line.strip('| ').split('|') for line in before.splitlines() if line.startswith('| '))
    earlier = {cell[0].strip(): [each.strip() for each in cell] for cell in cells}
    rows = []
    for scenario in scenarios:
        for row in target_rows(results, [scenario]):
            last = earlier.get(row[0], [])
            rows.append(last if scenario.name not in played and len(last) == len(row) else row)
    return table(TARGET_COLUMNS, rows) if rows else ''


def _renewed(text: str, results: Results, scenarios: Sequence[Scenario], folder: Path) -> str:
    """Return the index of an earlier run with the targets of the scenarios that were played now, and the list of all pages."""
    before, _, rest = text.partition('## Targets')
    after = rest.partition('## Other libraries')[2]
    parts = [
        before,
        '## Targets',
        _SOME,
        _targets(text, results, scenarios),
        _ALL,
        _tree(scenarios, folder),
        '## Other libraries',
        after,
    ]
    return '\n\n'.join(part.strip() for part in parts) + '\n'
