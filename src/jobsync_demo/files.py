"""The tasks of the demo: files of a directory, and the digest of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from jobsync.errors import ConfigError

__all__ = ['MAX_FILES', 'Digest', 'digest', 'find_files', 'task_id']

MAX_FILES = 50_000
"""More files would take longer than a few minutes, because each file is claimed on its own."""

_LEFT_OUT = frozenset({'__pycache__', 'site-packages', 'dist-packages'})
"""Folders that change while Python runs, or hold installed packages."""

_CHUNK = 1 << 20


@attrs.frozen
class Digest:
    """The figures of ``wc`` and ``sha256sum`` for a file, or the reason why it could not be read."""

    lines: int = 0
    words: int = 0
    sha256: str = ''
    error: str = ''


def find_files(root: Path) -> list[str]:
    """Return all regular files below ``root``, as sorted paths relative to ``root``. Links are not followed.

    Raises ``ConfigError`` if there are no files, or too many.
    """
    found: list[str] = []
    for path in _walk(root):
        found.append(path)
        if len(found) > MAX_FILES:
            raise ConfigError(f'{root} holds more than {MAX_FILES:,} files: choose a smaller directory for the demo')
    if not found:
        raise ConfigError(f'{root} holds no files: choose another directory for the demo')
    return sorted(found)


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(root))


def task_id(name: str) -> str:
    """Return the task id of a file name. Bytes that are not UTF-8 are spelled out, because stores accept text only."""
    return name.encode('utf-8', 'backslashreplace').decode('utf-8')


def digest(path: Path) -> Digest:
    """Count lines and words as ``wc`` does, and hash the content. Never raises: a file may be deleted at any time."""
    lines = words = 0
    in_word = False
    sha256 = hashlib.sha256()
    try:
        with path.open('rb') as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                lines += chunk.count(b'\n')
                words += len(chunk.split()) - (in_word and not chunk[:1].isspace())
                in_word = not chunk[-1:].isspace()
    except OSError as error:
        return Digest(error=error.strerror or type(error).__name__)
    return Digest(lines=lines, words=words, sha256=sha256.hexdigest())
