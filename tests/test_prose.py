"""Docstrings, comments and pages keep to plain words: each stands alone, and its subjects are things with a name."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BANNED = {
    r'whoever|whomever|somebody|nobody|everybody': 'name the node, the thread, the caller',
    r'by hand': 'manually',
    r'but for': 'except',
    r'at rest': 'idle',
    r'(?:write|writes|written|wrote|writing) down': 'record, store',
    r'hear|hears|heard|hearing': 'is notified, receives, reads',
    r'tell|tells|told|telling': 'notify, report, show, distinguish',
    r'looks after': 'maintain, keep',
    r'lets? go of': 'release',
    r'knows of': 'has read, has a record of',
    r'goes? stale': 'is outdated',
    r'goes? round': 'repeats, begins again',
    r'seam|border': 'name the modules on both sides',
}
"""Phrases that readers had to decode, and what to write instead."""

BANNED_IN_SOURCE = BANNED | {
    r'ask|asks|asked|asking': 'request, call, read',
    r'looks|looked|look at': 'read, poll, check',
    r'trail|trails|ledger': 'history',
}
"""What docstrings and comments of the source keep to besides: pages speak to people, who do ask and look."""

NO_FIRST_WORD = re.compile(
    r'(?:who|it|that|those|they|both|the same|the opposite|what it|nothing|anything'
    r'|of (?:the|an?|how|more|one)|so (?:many|are)|about so)\b',
    re.IGNORECASE,
)
"""What a docstring does not begin with: read alone, it would have no subject."""


def _sources() -> list[Path]:
    folders = [ROOT / 'src', *(ROOT / 'examples').glob('*/src')]
    return sorted(path for folder in folders for path in folder.rglob('*.py'))


def _pages() -> list[Path]:
    pages = [*ROOT.glob('*.md'), *(path for path in (ROOT / 'docs').rglob('*.md') if '_build' not in path.parts)]
    return sorted(pages)


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield every string that stands alone as a statement: docstrings, and what is said below a constant."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith('# type:'):
            yield token.start[0], token.string


def _without_code(text: str) -> str:
    """Return the text with everything in backquotes or fenced left out: names of code are not prose."""
    text = re.sub(r'```.*?```', lambda block: '\n' * block[0].count('\n'), text, flags=re.DOTALL)
    return re.sub(r'``[^`]*``|`[^`\n]*`|\]\([^)]*\)', ' ', text)


def _offences(text: str, first: int, banned: dict[str, str]) -> Iterator[str]:
    text = _without_code(text)
    for phrase, instead in banned.items():
        for found in re.finditer(rf'\b(?:{phrase})\b', text, re.IGNORECASE):
            line = first + text.count('\n', 0, found.start())
            yield f'{line}: "{found[0]}": {instead}'


@pytest.mark.parametrize('path', _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_source(path: Path) -> None:
    """A docstring or comment has none of the banned phrases, and a docstring begins with a subject of its own."""
    source = path.read_text()
    strings = list(_docstrings(source))
    found = [offence for line, text in [*strings, *_comments(source)] for offence in _offences(text, line, BANNED_IN_SOURCE)]
    found += [f'{line}: begins with "{first[0]}"' for line, text in strings if (first := NO_FIRST_WORD.match(text.lstrip()))]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize('path', _pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path: Path) -> None:
    """A page has none of the banned phrases outside its code."""
    found = list(_offences(path.read_text(), 1, BANNED))
    assert not found, '\n'.join(found)


def test_the_check_finds_what_is_banned() -> None:
    """A banned phrase in prose is found with its line, and one in code is not."""
    assert list(_offences('Whoever `asked` is\n``told`` by hand.', 5, BANNED_IN_SOURCE)) == [
        '5: "Whoever": name the node, the thread, the caller',
        '6: "by hand": manually',
    ]
    assert NO_FIRST_WORD.match('The same of those of the tasks')
    assert not NO_FIRST_WORD.match('Items of a task')
