"""The page for three in the morning quotes what the code says."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from tests.docs.pages import DOCS

import jobsync
from jobsync import errors

OTHERS = {
    'recovery is in progress',
    'cannot execute SELECT in a read-only transaction',
    'session is read-only',
    'unsupported startup parameter in options: search_path',
    'database or disk is full',
}
"""What PostgreSQL, pgbouncer and SQLite say."""
PAGE = (DOCS / 'operate' / 'trouble.md').read_text(encoding='utf-8')


@functools.cache
def said() -> str:
    """Every text in the package's source, those that stand side by side as one."""
    files = Path(jobsync.__file__).parent.rglob('*.py')
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))))
    return '\n'.join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def quoted() -> list[str]:
    """The messages among the terms of the page's lists, in pieces where a value stands in between."""
    terms = re.findall(r'^(`.*`)\n: ', PAGE, flags=re.MULTILINE)
    messages = [message for term in terms for message in re.findall('`(.*?)`', term) if message not in OTHERS]
    pieces = [piece.strip(' :;()') for message in messages for piece in re.split(r'…|\d+', message)]
    return [piece for piece in pieces if piece and piece not in errors.__all__]


def test_there_are_quotations() -> None:
    """The page is read as it is meant to be."""
    assert len(quoted()) > 12


@pytest.mark.parametrize('piece', quoted())
def test_a_quoted_message_exists(piece: str) -> None:
    """Whoever searches the page for what the log says finds it."""
    assert piece in said()
