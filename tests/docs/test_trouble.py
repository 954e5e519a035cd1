"""The page for three in the morning quotes what the code says."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
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
    'disk I/O error',
    'Read-only file system',
}
"""What PostgreSQL, pgbouncer, SQLite and the system say."""
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


def test_the_quoted_refusal_of_older_tables_exists() -> None:
    """A person who migrates finds on the page what the worker says."""
    page = (DOCS / 'migration.md').read_text(encoding='utf-8')
    quotation = re.findall(r'```text\n(… has .*?)```', page, flags=re.DOTALL)[0]
    pieces = [piece.strip(' ,…') for piece in re.split(r'sync_[a-z]+', ' '.join(quotation.split()))]
    assert [piece for piece in pieces if piece not in said()] == []


def alarms() -> Iterator[str]:
    """Every text that the library logs as a WARNING or an ERROR; ``…`` where a value stands."""
    for file in Path(jobsync.__file__).parent.rglob('*.py'):
        if not {'cli', 'testing'} & set(file.parts):
            tree = ast.parse(file.read_text(encoding='utf-8'))
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            for function in functions:
                texts = {
                    target.id: node.value
                    for node in ast.walk(function)
                    if isinstance(node, ast.Assign)
                    for target in node.targets
                    if isinstance(target, ast.Name)
                }
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and (text := logged(node, texts)):
                        yield text


def logged(call: ast.Call, texts: dict[str, ast.expr]) -> str:
    """The text of a call that logs a WARNING or an ERROR; empty for other calls, and where it is an error's own text."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
    if name in ('warning', 'error', 'exception') or (name == 'log' and isinstance(call.func, ast.Name)):  # a chosen level
        text = call.args[0] if call.args else None
    elif name in ('LogMessage', '_log') and ast.unparse(call.args[0]) in ("'warning'", "'error'", "'slow'"):
        text = call.args[1]
    else:
        return ''
    if isinstance(text, ast.Name):
        text = texts[text.id]
    if isinstance(text, ast.JoinedStr):
        return ''.join(str(part.value) if isinstance(part, ast.Constant) else '…' for part in text.values)
    return str(text.value) if isinstance(text, ast.Constant) else ''


BESIDE = {'node …: …', 'node %r: %s (failure %d in a row)', '%s by %r from %s: %s'}
"""Their words come from elsewhere: the end of a lease, a call that failed, an operator's action, which the page has."""


def test_each_alarm_has_an_entry() -> None:
    """Each WARNING and each ERROR that the library logs is explained: the page quotes it."""
    texts = set(alarms()) - BESIDE
    assert len(texts) > 30
    quotations = [piece.strip(' :;()') for quoted in re.findall('`([^`]+)`', PAGE) for piece in quoted.split('…')]
    pieces = [piece for piece in quotations if len(piece) > 5]

    def is_quoted(text: str) -> bool:
        return any(piece in part for piece in pieces for part in re.split(r'%%|%[a-z.0-9]+|…', text))

    assert sorted(text for text in texts if not is_quoted(text)) == []
