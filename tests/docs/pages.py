"""The pages of the documentation, and the code in them.

- A block ```` ```python ```` is run. All of a page's blocks run from top to bottom, as one program.
- A block ```` ```python no-run: reason ```` is not, for the reason given.
- What a page's blocks need and readers need not see stands in a comment that begins with ``<!-- setup`` and ends with ``-->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ['DOCS', 'PAGES', 'ROOT', 'Block', 'blocks', 'program', 'written_by_hand']

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = sorted(path for path in DOCS.rglob('*.md') if '_build' not in path.parts)
_OPENING = re.compile(r'(?P<fence>`{3,}|~{3,})(?P<info>.*)')
_PYTHON = re.compile(r'(python|py|python3|pycon)\b', re.IGNORECASE)


@attrs.frozen
class Block:
    """A fenced block, or a setup comment."""

    info: str
    """What follows the fence; ``setup`` for a comment."""
    first_line: int
    """Of its content, from 1."""
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is in it."""
        return '\n'.join(self.lines) + '\n'

    @property
    def is_python(self) -> bool:
        """Whether readers see it as Python."""
        return _PYTHON.match(self.info) is not None

    @property
    def is_run(self) -> bool:
        """Whether it is part of the page's program."""
        return self.info in ('python', 'setup')


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    info, end, first, content = '', '', 0, list[str]()
    for number, line in enumerate(page.read_text(encoding='utf-8').splitlines(), 1):
        if end:
            if line.strip() == end:
                yield Block(info, first, tuple(content))
                end = ''
            else:
                content.append(line)
        elif line.strip() == '<!-- setup':
            info, end, first, content = 'setup', '-->', number + 1, []
        elif (opening := _OPENING.fullmatch(line)) is not None:
            info, end, first, content = opening['info'].strip(), opening['fence'], number + 1, []
    assert not end, f'{page}: the block that begins in line {first} does not end'


def program(page: Path) -> str:
    """What is run of a page, each line where it stands in the page, so that a traceback points there; empty if nothing is."""
    lines: list[str] = []
    for block in blocks(page):
        if block.is_run:
            lines.extend([''] * (block.first_line - 1 - len(lines)))
            lines.extend(block.lines)
    return '\n'.join([*lines, '']) if lines else ''


def written_by_hand() -> str:
    """All pages' text in one."""
    return '\n'.join(page.read_text(encoding='utf-8') for page in PAGES)
