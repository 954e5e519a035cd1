"""What runs by default and what ``--full`` adds; docs/contribute/testing.md gives the reasons."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

MEMORY_FILES = Path('/dev/shm')  # noqa: S108 - the folder is a parent of temporary folders with names of their own
ROOM = 4 * 1024**3
"""Bytes that must be free there: each process of the tests may start a server of each kind."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``."""
    parser.addoption('--full', action='store_true', help='run every test on every store, and on every server installed here')


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Put temporary files where a flush to the disk costs nothing, if there is such a place and ``TMPDIR`` names no other.

    A server flushes with each write that it acknowledges. What it has flushed outlives its own death there just as on a disk.
    """
    if 'TMPDIR' not in os.environ and MEMORY_FILES.is_dir() and shutil.disk_usage(MEMORY_FILES).free >= ROOM:
        os.environ['TMPDIR'] = tempfile.tempdir = str(MEMORY_FILES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what only ``--full`` runs."""
    if config.getoption('full'):
        return
    kept = [item for item in items if not item.get_closest_marker('full')]
    samples = sample_stores(kept)
    kept = [item for item in kept if nameless(item) not in samples or store_of(item) in samples[nameless(item)]]
    chosen = set(kept)
    if deselected := [item for item in items if item not in chosen]:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


def pytest_sessionstart(session: pytest.Session) -> None:
    """In one of several processes, import a share of the test modules first, for all of them.

    pytest compiles each module with its own assertions, which takes longer than all the rest of the collection, and keeps the
    result in a file. Processes that go through the modules in one order compile each at the same time, so none finds a file.
    """
    worker = getattr(session.config, 'workerinput', None)
    if worker is not None:
        gc.disable()  # until all tests are there: next to nothing of what makes them is garbage
        number, count = int(worker['workerid'].removeprefix('gw')), worker['workercount']
        folders = [session.config.rootpath / argument for argument in session.config.args]
        for path in sorted(path for folder in folders for path in folder.rglob('test_*.py'))[number::count]:
            import_as_pytest_does(path)


def import_as_pytest_does(path: Path) -> None:
    """Import a test module under the name by which pytest looks for it. An error is left to pytest, which imports it again."""
    names, folder = [path.stem], path.parent
    while (folder / '__init__.py').exists():
        names.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    with suppress(Exception, pytest.skip.Exception):
        importlib.import_module('.'.join(names))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave the thousands of tests, which stay to the end, out of every garbage collection from now on."""
    gc.collect()
    gc.freeze()
    gc.enable()


def sample_stores(items: Iterable[pytest.Item]) -> dict[str, set[str]]:
    """Return the stores of each test marked ``any_store``, which depend on the name of the test alone.

    It is memory, and for every second test one other; where memory is not offered, always one.
    """
    stores: dict[str, set[str]] = {}
    for item in items:
        if item.get_closest_marker('any_store') and (store := store_of(item)):
            stores.setdefault(nameless(item), set()).add(store)
    samples = {}
    for name, offered in stores.items():
        chosen, number = offered & {'memory'}, zlib.crc32(name.encode())
        others = sorted(offered - chosen)
        if others and not (chosen and number >> 16 & 1):
            chosen |= {others[number % len(others)]}
        samples[name] = chosen
    return samples


def store_of(item: pytest.Item) -> str:
    """Return the kind of store that a test runs on, or an empty string."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, 'callspec') else {}
    return str(parameters.get('store', parameters.get('shared_store', '')))


def nameless(item: pytest.Item) -> str:
    """Return the name of a test without its store."""
    return item.nodeid.replace(store_of(item), '')
