"""Hosts and paths in the URLs of stores."""

from __future__ import annotations

import contextlib
import os

from jobsync.errors import ConfigError

__all__ = ['absolute', 'checked_host']


def checked_host(host: str) -> str:
    """Return the name or address of a host; ``ConfigError``, which does not show it, if no host can have this name.

    Python, which resolves hosts for psycopg and redis-py too, raises a ``UnicodeError`` for it.
    """
    try:
        host.encode('idna')
    except UnicodeError:
        raise ConfigError(
            'a host in the URL has no possible name: before a dot there is nothing, as where a variable is empty, or over 63 '
            'characters'
        ) from None
    return host


def absolute(path: str) -> str:
    """Return a path that a later change of the working directory does not change; as it is where that directory was removed.

    A driver reads its files anew for each connection.
    """
    with contextlib.suppress(FileNotFoundError):
        return os.path.abspath(path)  # noqa: PTH100 - links in the path must be followed at each use, not now
    return path
