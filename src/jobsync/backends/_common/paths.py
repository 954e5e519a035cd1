"""Paths in the URLs of stores."""

from __future__ import annotations

import contextlib
import os

__all__ = ['absolute']


def absolute(path: str) -> str:
    """Return a path that a later change of the working directory does not change; as it is where that directory was removed.

    A driver reads its files anew for each connection.
    """
    with contextlib.suppress(FileNotFoundError):
        return os.path.abspath(path)  # noqa: PTH100 - links in the path must be followed at each use, not now
    return path
