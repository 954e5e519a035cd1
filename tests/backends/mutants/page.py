"""The page of the documentation that shows the mutants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ['PAGE', 'rows', 'write']

PAGE = Path(__file__).parents[3] / 'docs' / 'reference' / 'mutants.md'
BEGIN, END = '<!-- table: python -m tests.backends.mutants -->', '<!-- end of table -->'


def write(lines: Sequence[str]) -> None:
    """Replace the table."""
    before, _, rest = PAGE.read_text(encoding='utf-8').partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text('\n'.join([before + BEGIN, '', *lines, '', END]) + after, encoding='utf-8')


def rows() -> dict[str, tuple[str, list[str]]]:
    """By the mutant's name: what it says of itself, and the tests that the table names."""
    text = PAGE.read_text(encoding='utf-8').partition(BEGIN)[2].partition(END)[0]
    found = {}
    for line in text.strip().splitlines()[2:]:
        _, about, tests, _ = line.split(' | ') if line.startswith(' |') else ('', *line.strip('| ').split(' | '), '')
        name, _, says = about.removeprefix('**').partition('** ')
        found[name] = says, [f'test_{test.strip("`")}' for test in tests.split(', ')]
    return found
