"""The scripts of ``benchmarks``: each is described; what the one about retention computes; those about rows and hung workers."""

from __future__ import annotations

import pkgutil
import random
import re
from pathlib import Path

import pytest
from benchmarks import hung, rows
from benchmarks.retention import REQUESTS, Appended
from tests.support.stores import KINDS

FOLDER = Path(__file__).parents[2] / 'benchmarks'


def test_each_script_is_in_the_readme() -> None:
    """The table of scripts has each module that can be started, except those that a script starts as its workers."""
    found = {path.stem for path in FOLDER.glob('*.py') if "__name__ == '__main__'" in path.read_text()}
    scripts = {name for name in found if not name.endswith('_worker')}
    _, _, section = (FOLDER / 'README.md').read_text().partition('## Scripts\n')
    assert set(re.findall(r'^\| `(\w+)` \|', section, re.MULTILINE)) == scripts


def test_the_code_that_scripts_change_or_time_is_there() -> None:
    """``can_claim_task`` has the mark that ``hung`` leaves out, and what ``retention`` times has that name."""
    assert callable(hung.without_mark())
    for path, names in REQUESTS.values():
        assert all(hasattr(pkgutil.resolve_name(path), name) for name in names), path


def test_a_table_as_large_as_its_window() -> None:
    """What was appended within the window is there once; old claims of incomplete work do not count, old complete work does."""
    appended = Appended(steps=[(1.0, 20, 19), (2.0, 40, 38)], claims=60, audits=57)
    assert appended.times_the_window(11.5, window_sec=10, deleted=38) == 1.0
    assert appended.times_the_window(11.5, window_sec=10, deleted=0) == (78 + 38) / 78


@pytest.mark.parametrize('store', ['sqlite', pytest.param('postgresql', marks=[pytest.mark.full, pytest.mark.postgres])])
def test_rows(store: str) -> None:
    """Each row is found by one of three nodes, by the index, and each id by the node that may claim it."""
    with KINDS[store].fresh() as url:
        reads, compared = rows.measure(url, store, 3_000, 3, 300, random.Random(1))
    assert [row[5:] for row in reads] == [['0', '0', 'yes']] * len(rows.QUERIES)
    assert [(row[1], row[-1]) for row in compared] == [(kind, '0') for kind in rows.TYPES]


@pytest.mark.full
def test_hung() -> None:
    """A worker hangs and goes on, and its tokens go and come back; long tasks that report move nothing."""
    with KINDS['sqlite'].fresh() as url, hung.workers(url, timeout_sec=2) as made:
        hung.hang(made[0], made[1:])
        assert hung.stay_calm(made, 3) == 0
    assert hung.cost(3) > 0
