"""The examples are distributions of their own. Those not installed are built, and put on the path as an installer would."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from jobsync.testing import BackendSuite
from jobsync.testing.pytest_plugin import jobsync_cluster

__all__ = ['jobsync_cluster']
"""The fixture of the plugin, also where jobsync is on the path and not installed."""

_HERE = Path(__file__).parent
_BUILD = 'import sys, hatchling.build; hatchling.build.build_wheel(sys.argv[1])'


def pytest_configure() -> None:
    """Before any test of theirs is imported."""
    for example in sorted(path.parent for path in _HERE.glob('*/pyproject.toml')):
        try:
            importlib.metadata.distribution(example.name)
        except importlib.metadata.PackageNotFoundError:
            install(example)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the contract on an example's backend to ``--full``: it is no store of jobsync."""
    for item in items:
        kind = item.cls if isinstance(item, pytest.Function) and item.path.is_relative_to(_HERE) else None
        if kind is not None and issubclass(kind, BackendSuite):
            item.add_marker(pytest.mark.full)


def install(example: Path) -> None:
    """Build its wheel and unpack it in a folder that goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix=f'{example.name}-')
    _folders.append(folder)
    subprocess.run([sys.executable, '-c', _BUILD, folder.name], cwd=example, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = Path(folder.name).glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder.name)
    sys.path.append(folder.name)
    # for the processes that tests start
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (os.environ.get('PYTHONPATH'), folder.name)))


_folders: list[tempfile.TemporaryDirectory[str]] = []
