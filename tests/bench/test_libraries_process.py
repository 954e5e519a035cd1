"""``benchmarks.libraries.process``: processes of another interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.libraries.process import LibraryProcess, run_all

_MODULE = """
import time
from benchmarks.libraries.serving import serve

def run(line):
    kind, what = line.split()
    if kind == 'wait':  # until the other process has been told to make the file
        from pathlib import Path
        while not Path(what).exists():
            time.sleep(0.005)
        return 'seen'
    if kind == 'make':
        open(what, 'w').close()
        return 'made'
    return {'number': 0.25, 'list': [1, None, what]}[kind]

serve('ready, or so', run)
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LibraryProcess]]:
    """Two processes that serve."""
    (tmp_path / 'served.py').write_text(_MODULE)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with ExitStack() as stack:
        yield [stack.enter_context(LibraryProcess(sys.executable, 'served')) for _ in range(2)]


def test_a_run_answers_a_number_and_an_ask_anything(others: list[LibraryProcess]) -> None:
    assert others[0].ready == 'ready, or so'
    assert others[0].run('number x') == 0.25
    assert others[0].ask('list ü') == [1, None, 'ü']


def test_all_at_once_is_at_once(others: list[LibraryProcess], tmp_path: Path) -> None:
    file = tmp_path / 'file'
    assert run_all(others, [f'wait {file}', f'make {file}']) == ['seen', 'made']


def test_a_process_that_ends_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'ends.py').write_text('raise SystemExit(3)')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with pytest.raises(RuntimeError, match=r'ends ended with status 3: no output'):
        LibraryProcess(sys.executable, 'ends')


def test_so_is_one_that_ends_when_it_is_asked(others: list[LibraryProcess]) -> None:
    with pytest.raises(RuntimeError, match=r'served.*ended with status 1'):
        others[0].ask('no-such-kind x')
