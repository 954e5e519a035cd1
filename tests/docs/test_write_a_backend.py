"""The tutorial for authors of backends: its code is that of the example, which is as short as it says."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.docs.pages import DOCS, ROOT, Block, blocks

from jobsync.backend import BackendInfo, Reach
from jobsync.hookspecs import BackendPlugin
from jobsync.testing.conformance.harness import CALLED_FOR

PAGE = DOCS / 'write-a-backend.md'
EXAMPLE = ROOT / 'examples' / 'jobsync-files'
INCLUDED = [block for block in blocks(PAGE) if block.info.startswith('{literalinclude}')]


def lines_of_code(path: Path) -> int:
    """Lines with code on them: not blank ones, comments and docstrings."""
    source = path.read_text(encoding='utf-8')
    strings = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    documentation = {line for first, last in strings for line in range(first, last + 1)}
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in nothing]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documentation)


def test_the_example_is_short() -> None:
    """Under 260 lines of code, as the page says."""
    assert 'under 260 lines of code' in PAGE.read_text(encoding='utf-8')
    assert sum(map(lines_of_code, (EXAMPLE / 'src').rglob('*.py'))) < 260


@pytest.mark.parametrize('block', INCLUDED, ids=lambda block: block.text.split('\n', maxsplit=1)[0])
def test_what_it_shows_is_there(block: Block) -> None:
    """Each piece of code is taken from a file of the example, by a name that is in it."""
    path = (DOCS / block.info.removeprefix('{literalinclude} ')).resolve()
    assert path.is_relative_to(EXAMPLE)
    for name in re.findall(r':pyobject: (.+)', block.text):
        body: list[ast.stmt] = ast.parse(path.read_text(encoding='utf-8')).body
        for part in name.split('.'):
            found = [n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == part]
            assert found, name
            body = found[0].body


def test_it_shows_the_example() -> None:
    """Nearly all of it is on the page."""
    assert len(INCLUDED) >= 8


def tables() -> dict[str, str]:
    """The rows of the page's tables, by their first cell."""
    rows = re.findall(r'^ *\| `([^`|]+)` \| (.+) \|$', PAGE.read_text(encoding='utf-8'), flags=re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize(
    ('row', 'info'),
    [
        ('durable=True', {'durable': True}),
        ('reach=Reach.HOST', {'reach': Reach.HOST}),
        ('reach=Reach.NETWORK', {'reach': Reach.NETWORK}),
        ('sql=True', {'sql': True}),
    ],
)
def test_it_says_what_each_declaration_obliges_to(row: str, info: dict[str, Any]) -> None:
    """The table of declarations has the abilities that the suite calls for, and no other."""
    nothing = BackendInfo('x', durable=False, push=False, reach=Reach.PROCESS, max_tokens=1)
    declared = attrs.evolve(nothing, **info)
    called_for = {ability.name for ability, calls in CALLED_FOR.items() if calls(declared)}
    assert set(re.findall(r'`([A-Z_]+)`', tables()[row])) == called_for


def test_every_declaration_has_a_row() -> None:
    """So has every field of a plugin."""
    rows = {row.partition('=')[0] for row in tables()}
    assert {field.name for field in attrs.fields(BackendInfo)} - {'name'} <= rows
    assert {field.name for field in attrs.fields(BackendPlugin)} <= rows
