"""Numbers of things in sentences: ``1 node`` and ``2 nodes``, in every output."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsync._core.counting import counted

SOURCE = Path(__file__).parent.parent / 'src' / 'jobsync'
ADJECTIVES = r'(?:(?:more|other|live|finished|open|lost|task|log|rebalance|idle|locked) )*'
NOUNS = (
    'attempts|audits|calls|changes|claims|commits|completions|connections|days|entries|events|failures|files|groups|heartbeats|hours|'
    'items|leaders|lines|locks|minutes|moves|nodes|pairs|pins|problems|processes|records|rows|runs|seconds|tables|tasks|tests|times|'
    'tokens|versions|workers'
)
PLURAL = re.compile(rf' {ADJECTIVES}(?:{NOUNS})\b')
IN_TEXT = re.compile(rf'%d {ADJECTIVES}(?:{NOUNS})\b')
IN_SCRIPT = re.compile(rf'\}} {ADJECTIVES}(?:{NOUNS})\b')
NEVER_ONE = {
    '_ATTEMPTS', '_BULK', '_MOST_FILES', 'MOST_EVENTS', 'LARGEST', 'len(tokens)', 'sum(mine)', 'info.max_tokens',
    'space.versions / beats_an_hour', 'count[verdict]',
}  # fmt: skip
"""Numbers that are never 1, or stand in a repr."""
OF_NO_USER = ('testing',)
"""Folders whose texts are for authors of tests and of this library."""


def _scripts() -> list[Path]:
    return sorted((SOURCE / 'web' / 'page').glob('*.js'))


def _sources() -> list[Path]:
    return sorted(path for path in SOURCE.rglob('*.py') if path.relative_to(SOURCE).parts[0] not in OF_NO_USER)


def _bare_plurals(source: str) -> Iterator[str]:
    """Yield each place where a number is followed by a plural as it is, whatever the number."""
    after: ast.expr
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_text = isinstance(after, ast.Constant) and PLURAL.match(str(after.value))
                if (
                    isinstance(after, ast.Constant)
                    and isinstance(value, ast.FormattedValue)
                    and is_text
                    and ast.unparse(value.value) not in NEVER_ONE
                ):
                    yield f'{node.lineno}: {ast.unparse(value.value)}{after.value!r}'
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := IN_TEXT.search(node.value)):
            yield f'{node.lineno}: {found[0]}'


@pytest.mark.parametrize('path', _sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_message_counts_one_thing_in_the_plural(path: Path) -> None:
    """A number and its noun are made by ``counted``, or the sentence has the number elsewhere."""
    assert list(_bare_plurals(path.read_text())) == []


@pytest.mark.parametrize('path', _scripts(), ids=lambda path: path.name)
def test_nor_does_the_page(path: Path) -> None:
    """The page's own ``counted`` does the same."""
    assert IN_SCRIPT.findall(path.read_text()) == []


def test_the_check_finds_what_is_wrong() -> None:
    """A plural after a number is found in a formatted string and in a text for the log."""
    assert list(_bare_plurals("f'{n} nodes'; 'x %d more tasks'; f'{counted(n, \"node\")} left'")) == [
        "1: n' nodes'",
        '1: %d more tasks',
    ]


@pytest.mark.parametrize(
    ('number', 'nouns', 'spec', 'words'),
    [
        (1, ('node',), '', '1 node'),
        (0, ('node',), '', '0 nodes'),
        (2000, ('node',), '', '2000 nodes'),
        (2000, ('node',), ',', '2,000 nodes'),
        (1, ('token has', 'tokens have'), '', '1 token has'),
        (3, ('token has', 'tokens have'), '', '3 tokens have'),
        (1.0, ('day',), '', '1 day'),
        (0.5, ('day',), '', '0.5 days'),
    ],
)
def test_counted(number: float, nouns: tuple[str, ...], spec: str, words: str) -> None:
    """One has the singular, everything else the plural; a log has plain digits."""
    assert counted(number, *nouns, spec=spec) == words
