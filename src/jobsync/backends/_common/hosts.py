"""Hosts in the URLs of stores."""

from __future__ import annotations

from jobsync.errors import ConfigError

__all__ = ['checked_host']


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
