"""``benchmarks.libraries.process``: processes of another interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.libraries import process
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


def put(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, source: str) -> None:
    """Write a module into a folder that takes the place of the repository's."""
    (folder / f'{name}.py').write_text(source)
    (folder / 'benchmarks').symlink_to(process.ROOT / 'benchmarks')
    monkeypatch.setattr(process, 'ROOT', folder)


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LibraryProcess]]:
    """Two processes that serve."""
    put(monkeypatch, tmp_path, 'served', _MODULE)
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
    put(monkeypatch, tmp_path, 'ends', 'raise SystemExit(3)')
    with pytest.raises(RuntimeError, match=r'ends ended with status 3: no output'):
        LibraryProcess(sys.executable, 'ends')


def test_so_is_one_that_ends_when_it_is_asked(others: list[LibraryProcess]) -> None:
    with pytest.raises(RuntimeError, match=r'served.*ended with status 1'):
        others[0].ask('no-such-kind x')


def test_what_pythonpath_names_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library comes from its own environment, whatever is on the path of the harness: the peer is called jobsync, too."""
    (tmp_path / 'path').mkdir()
    (tmp_path / 'path' / 'shadow.py').touch()
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'path'))
    put(monkeypatch, tmp_path, 'served', f'import importlib.util\nassert importlib.util.find_spec("shadow") is None\n{_MODULE}')
    with LibraryProcess(sys.executable, 'served') as other:
        assert other.run('number x') == 0.25
