"""The pages of the documentation, made from the results of one run and the descriptions of the scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.libraries.catalogue import SERVICES
from benchmarks.libraries.environments import PINS
from jobsync_bench.report import PLOTS, circumstances, draw, page, targets_table
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
_OWN = """\
To measure your own store: `jobsync bench --backend URL` (`pip install 'jobsync[bench,cli]'`).
"""


def write_pages(results: Results, scenarios: Sequence[Scenario], folder: Path) -> None:
    """Write ``index.md``, a page for each scenario that was played, and the plots. Older ones are deleted."""
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob('*.md'), *(folder / PLOTS).glob('*.png')):
        old.unlink()
    drawn = draw(results, scenarios, folder / PLOTS)
    written = []
    for scenario in scenarios:
        text = page(scenario, results, f'{PLOTS}/{scenario.name}.png' if scenario.name in drawn else None)
        if text:
            (folder / f'{scenario.name}.md').write_text(f'# {scenario.title}\n\n{text}\n')
            written.append(scenario.name)
    tree = '\n'.join(['```{toctree}', ':maxdepth: 1', '', *written, '```'])
    targets = targets_table(results, scenarios)
    rivals = '\n'.join(f'- **{each.name}** ({", ".join(PINS[each.rival])}): {each.about}' for each in SERVICES.values())
    parts = [
        _INTRODUCTION,
        *circumstances(results),
        _OWN,
        '## Targets' if targets else '',
        targets,
        '## All scenarios',
        tree,
        '## Other libraries',
        rivals,
    ]
    (folder / 'index.md').write_text('\n\n'.join(part.strip() for part in parts if part) + '\n')
