"""The scripts of ``benchmarks``: each is described, and what the one about retention computes."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.retention import Appended

FOLDER = Path(__file__).parents[2] / 'benchmarks'


def test_each_script_is_in_the_readme() -> None:
    """The table of scripts has each module that can be started, except those that a script starts as its workers."""
    found = {path.stem for path in FOLDER.glob('*.py') if "__name__ == '__main__'" in path.read_text()}
    scripts = {name for name in found if not name.endswith('_worker')}
    _, _, section = (FOLDER / 'README.md').read_text().partition('## Scripts\n')
    assert set(re.findall(r'^\| `(\w+)` \|', section, re.MULTILINE)) == scripts


def test_a_table_as_large_as_its_window() -> None:
    """What was appended within the window is there once; old claims of incomplete work do not count, old complete work does."""
    appended = Appended(steps=[(1.0, 20, 19), (2.0, 40, 38)], claims=60, audits=57)
    assert appended.times_the_window(11.5, window_sec=10, deleted=38) == 1.0
    assert appended.times_the_window(11.5, window_sec=10, deleted=0) == (78 + 38) / 78
