"""What the pages show as Python runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, PAGES, blocks, program
from tests.support import forks

LONGEST_LINE = 96
ROOT = Path(__file__).parents[2]
BLOCKS = (ast.With, ast.AsyncWith, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@pytest.mark.parametrize('page', [page for page in PAGES if program(page)], ids=lambda page: str(page.relative_to(DOCS)))
def test_a_pages_examples_run(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run from top to bottom, in one process of their own and an empty folder, without a warning."""
    arguments, process = [str(page), str(tmp_path)], 'tests.docs.run_page'
    if forks.are_preferred():
        status, output = forks.run(process, arguments, program(page))
    else:
        command = [sys.executable, '-W', 'error', '-m', process, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, input=program(page), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        status, output = done.returncode, done.stdout
    assert status == 0, output


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_is_not_run_says_why(page: Path) -> None:
    """A block of Python is run, or gives its reason: ``no-run: …``."""
    shown = [block for block in blocks(page) if block.is_python and not block.is_run]
    assert all(block.info.startswith('python no-run: ') for block in shown)
    for block in shown:
        compile(block.text, str(page), 'exec')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_is_not_run_uses_no_job_that_has_left(page: Path) -> None:
    """A block that no test runs uses a job only inside of its own: those of earlier blocks have left."""
    for block in blocks(page):
        if block.is_python and not block.is_run:
            plain = [part for part in ast.parse(block.text).body if not isinstance(part, BLOCKS)]
            used = {node.id for part in plain for node in ast.walk(part) if isinstance(node, ast.Name)}
            assert 'job' not in used, f'{page}:{block.first_line}'


def imported(tree: ast.Module) -> set[str]:
    """The names that the imports of a program bind."""
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {(name.asname or name.name).split('.')[0] for statement in statements for name in statement.names}


@pytest.mark.parametrize('page', [page for page in PAGES if program(page)], ids=lambda page: str(page.relative_to(DOCS)))
def test_readers_see_what_examples_import(page: Path) -> None:
    """What an example uses of a module is imported where readers see it, so that they can type the page as it is."""
    shown, hidden = (
        ast.parse('\n'.join(block.text for block in blocks(page) if block.is_run and (block.info == 'setup') == is_setup))
        for is_setup in (False, True)
    )
    used = {node.id for node in ast.walk(shown) if isinstance(node, ast.Name)}
    assert (imported(hidden) & used) - imported(shown) == set()


def test_most_examples_are_run() -> None:
    """There are examples, and those that only show a shape are the exception."""
    python = [block for page in PAGES for block in blocks(page) if block.is_python]
    assert len([block for block in python if block.is_run]) > 0.7 * len(python)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_fit_on_the_page(page: Path) -> None:
    """No line of an example is so long that readers must scroll sideways."""
    shown = [line for block in blocks(page) if block.is_python for line in block.lines if block.info != 'setup']
    assert [line for line in shown if len(line) > LONGEST_LINE] == []
