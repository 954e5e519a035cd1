"""What pages state about the code, asked from the code: the fields of the configuration, and the backends installed.

Nothing here needs Sphinx, so the tests use it too.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from jobsync import CoordinationConfig, plugins
from jobsync.backend import BackendInfo
from jobsync.errors import ConfigError, JobsyncError

__all__ = ['BackendFacts', 'FieldFacts', 'backends', 'config_fields', 'table']

_REFUSED: Any = object()


@attrs.frozen
class FieldFacts:
    """A field of ``CoordinationConfig``."""

    name: str
    default: str
    allowed: str
    """In the words of the error that a wrong value gets; with the unit, if there is one."""
    meaning: str


@attrs.frozen
class BackendFacts:
    """An installed backend and what it declares."""

    name: str
    schemes: tuple[str, ...]
    summary: str
    infos: tuple[tuple[str, BackendInfo], ...]
    """By an example of a URL."""


def config_fields() -> list[FieldFacts]:
    """Every field, in the order of the source."""
    meanings = _docstrings_of_fields(CoordinationConfig)
    return [
        FieldFacts(name, _shown(field.default), _allowed(name), meanings.get(name, ''))
        for name, field in attrs.fields_dict(CoordinationConfig).items()
    ]


def _docstrings_of_fields(cls: type) -> dict[str, str]:
    """Return the string that follows each annotated name in the class's source."""
    (body,) = (node.body for node in ast.parse(textwrap.dedent(inspect.getsource(cls))).body if isinstance(node, ast.ClassDef))
    found = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            value = ast.literal_eval(after.value)
            found[before.target.id] = ' '.join(str(value).split())
    return found


def _shown(value: Any) -> str:
    """Return a default as it is written in a class, without what only a given value needs."""
    for plain in (bool, int, str):
        if isinstance(value, plain):
            return repr(plain(value))
    return repr(value)


def _allowed(name: str) -> str:
    try:
        CoordinationConfig(**{name: _REFUSED})
    except ConfigError as error:
        told = str(error).partition(': must be ')[2]
        return re.sub(r' \(this one has no .*\)', '', told)
    raise AssertionError(f'{name} takes anything')


def backends() -> list[BackendFacts]:
    """Every installed backend. Raises what keeps one from being asked: a missing driver, a broken plugin."""
    found = []
    for plugin in plugins.installed():
        if plugin.error is not None:
            raise JobsyncError(plugin.error)
        infos = tuple((url, plugins.declared(url)) for url in plugin.examples)
        found.append(BackendFacts(plugin.name, plugin.schemes, plugin.summary, infos))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return ['| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines]
