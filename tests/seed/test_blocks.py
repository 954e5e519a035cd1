"""Nothing in the usage guide or the cheat sheet goes untested."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.seed.pages import CHEAT_SHEET, EXAMPLES, GUIDE, STATEMENTS, blocks

for found in sorted(Path(__file__).parent.glob('test_*.py')):
    if found.stem != Path(__file__).stem:
        importlib.import_module(f'tests.seed.{found.stem}')


def test_every_example_has_a_test() -> None:
    """Each block of Python in the guide is given to a test."""
    titles = [block.title for block in blocks(GUIDE, 'python')]
    assert len(titles) == len(set(titles)) == 36
    assert set(titles) == EXAMPLES


def test_every_statement_has_a_test() -> None:
    """Each block of SQL is given to a test, in the guide's form and in both of the cheat sheet's."""
    guides = [block.title for block in blocks(GUIDE, 'sql')]
    sheet = [(block.title, block.label) for block in blocks(CHEAT_SHEET, 'sql')]
    assert set(guides) == STATEMENTS
    assert sheet == [(title, label) for title in guides for label in ('PostgreSQL', 'SQLite')]


def test_no_block_is_of_another_kind() -> None:
    """There is Python and SQL, and nothing that the tests pass over."""
    for page in (GUIDE, CHEAT_SHEET):
        fences = [line for line in page.read_text(encoding='utf-8').splitlines() if line.lstrip().startswith('```')]
        assert {line for line in fences if line != '```'} <= {'```python', '```sql'}
