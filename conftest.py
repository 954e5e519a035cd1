"""What runs by default and what ``--full`` adds; docs/contribute/testing.md gives the reasons."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

MEMORY_FILES = Path('/dev/shm')  # noqa: S108 - the folder is a parent of temporary folders with names of their own
ROOM = 4 * 1024**3
"""Bytes that must be free there: each process of the tests may start a server of each kind."""

SAMPLE_STORES = {'memory', 'postgresql'}
"""The stores of a test marked ``any_store``: one within the process, one across the network."""


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
    deselected = [item for item in items if is_for_full(item)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not is_for_full(item)]


def is_for_full(item: pytest.Item) -> bool:
    """Return whether only ``--full`` runs the test."""
    if item.get_closest_marker('full'):
        return True
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, 'callspec') else {}
    store = parameters.get('store', parameters.get('shared_store', 'memory'))
    return item.get_closest_marker('any_store') is not None and store not in SAMPLE_STORES
