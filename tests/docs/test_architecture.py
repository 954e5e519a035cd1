"""The map of the code for contributors is true: each name is in the file that the page names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/contribute/architecture.md').read_text()
STEPS = re.findall(r'^\| .* \| `([\w/.]+\.py)` \| `([\w.]+)` \|$', PAGE, re.MULTILINE)
PATHS = re.findall(
    r'`((?:_|aio|database|fencing|config|backends|testing|cli|tests|docs|job|task|errors|backend|hookspecs|plugins)[\w/.]*(?:/|\.py|\.md))`',
    PAGE,
)


def names_in(path: Path) -> set[str]:
    """Return what a file defines at its top level, and what its classes define, with the class's name."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f'{node.name}.{each.name}' for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
    return names


def test_there_are_four_walks() -> None:
    """The page has its four walks, and each has steps: the tables are found by the tests below."""
    assert len(re.findall(r'^## Walk \d', PAGE, re.MULTILINE)) == 4
    assert len(STEPS) >= 40


@pytest.mark.parametrize(('path', 'name'), STEPS, ids=[f'{path}:{name}' for path, name in STEPS])
def test_a_step_is_where_the_page_says(path: str, name: str) -> None:
    """A walk leads through names that exist."""
    assert name in names_in(ROOT / 'src/jobsync' / path)


@pytest.mark.parametrize('path', sorted(set(PATHS)))
def test_a_path_exists(path: str) -> None:
    """A file or folder on the map exists."""
    assert (ROOT / 'src/jobsync' / path).exists() or (ROOT / path).exists()
