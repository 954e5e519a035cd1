"""The code blocks of a page, by the headings above them: to the letter what a reader copies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

__all__ = ['CHEAT_SHEET', 'EXAMPLES', 'GUIDE', 'STATEMENTS', 'Block', 'blocks', 'example', 'statement']

GUIDE = Path(__file__).with_name('guide.md')
CHEAT_SHEET = Path(__file__).parents[2] / 'docs' / 'cheatsheet.md'

F = TypeVar('F', bound=Callable[..., None])

EXAMPLES: set[str] = set()
"""Titles of the guide's Python blocks that a test has asked for."""
STATEMENTS: set[str] = set()
"""Titles of SQL blocks that a test has asked for."""


@attrs.frozen
class Block:
    """A block of code."""

    title: str
    """The heading above it, or, in the guide, the line in bold that stands closer."""
    label: str
    """The last line in bold below the heading; empty if there is none."""
    language: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    """Those of a language, in order."""
    found, heading, label, lines, inside = list[Block](), '', '', list[str](), ''
    for line in page.read_text(encoding='utf-8').splitlines():
        if inside:
            if line == '```':
                found.append(Block(_title(page, heading, label), label, inside, '\n'.join([*lines, ''])))
                inside, lines = '', []
            else:
                lines.append(line)
        elif line.startswith('```'):
            inside = line.removeprefix('```')
        elif line.startswith('#'):
            heading, label = re.sub(r'^#+ (\d+\. )?', '', line), ''
        elif bold := re.fullmatch(r'\*\*([^*]+?):?\*\*:?', line):
            label = bold[1]
    return [block for block in found if block.language == language]


def _title(page: Path, heading: str, label: str) -> str:
    return label if label and page == GUIDE else heading


def example(title: str) -> Callable[[F], F]:
    """Give a test the guide's Python under this title as ``code``."""
    EXAMPLES.add(title)
    (found,) = [block for block in blocks(GUIDE, 'python') if block.title == title]
    return pytest.mark.parametrize('code', [pytest.param(found.text, id='guide')])


def statement(title: str) -> Callable[[F], F]:
    """Give a test the SQL under this title as ``sql``, in the form of the page and the database it runs on."""
    STATEMENTS.add(title)
    return pytest.mark.parametrize('sql', [title], indirect=True)
