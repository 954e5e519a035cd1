"""One class name, one class: a name in the library means one thing, wherever it is read."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / 'src' / 'jobsync'

TYPE_NAME = re.compile(r'_?[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*')
"""A name as classes and aliases of types have it. Constants and type variables have no small letter, or an underscore inside."""


def _named(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the name and the line of every class, nested ones included, and of every alias of a type in the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else ():
            if isinstance(target, ast.Name) and TYPE_NAME.fullmatch(target.id):
                yield target.id, target.lineno


def _shared(sources: dict[str, str]) -> dict[str, list[str]]:
    """Return the names that several classes and aliases of these modules share, with the places of each."""
    places = defaultdict(list)
    for module, source in sources.items():
        for name, line in _named(ast.parse(source)):
            places[name].append(f'{module}:{line}')
    return {name: found for name, found in places.items() if len(found) > 1}


def test_every_class_has_a_name_of_its_own() -> None:
    """No two classes, nor a class and an alias of a type, share a name."""
    found = _shared({str(path.relative_to(SOURCE)): path.read_text() for path in sorted(SOURCE.rglob('*.py'))})
    assert not found, '\n'.join(f'{name}: {", ".join(places)}' for name, places in sorted(found.items()))


def test_the_check_finds_a_shared_name() -> None:
    """A class, a nested class and an alias with one name are found; constants and type variables are not."""
    one = 'class Store:\n    class Row: ...\nT = TypeVar("T")\nLIMIT = 5\nT_co = TypeVar("T_co")'
    other = 'T = TypeVar("T")\nLIMIT = 6\nRow = tuple[int, str]\nT_co = TypeVar("T_co")\nStore: TypeAlias = dict'
    assert _shared({'one': one, 'other': other}) == {'Store': ['one:1', 'other:5'], 'Row': ['one:2', 'other:3']}
