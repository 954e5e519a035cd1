"""A wheel made by hand, so that something can be installed without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ['wheel']


def wheel(folder: Path, name: str) -> Path:
    """A distribution with one module that has ``answer = 42``."""
    path = folder / f'{name}-1.0-py3-none-any.whl'
    files = {
        f'{name}.py': 'answer = 42\n',
        f'{name}-1.0.dist-info/METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n',
        f'{name}-1.0.dist-info/WHEEL': 'Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    }
    record = f'{name}-1.0.dist-info/RECORD'
    with zipfile.ZipFile(path, 'w') as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(record, ''.join(f'{file},,\n' for file in [*files, record]))
    return path
