"""From a URL to what psycopg is told."""

from __future__ import annotations

from typing import Any

import attrs
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from jobsync.errors import ConfigError

__all__ = ['Server', 'server_of']

SHOWN = ('host', 'port', 'dbname', 'user')
"""What may be told of a server; a password is not among it, wherever in the URL it stands."""

KEEPALIVE = {'keepalives_idle': 10, 'keepalives_interval': 5, 'keepalives_count': 3}
"""A listener that nobody writes to notices within half a minute that its server is gone without a word."""


@attrs.frozen
class Server:
    """How to reach a database."""

    parameters: dict[str, Any] = attrs.field(repr=False)
    """libpq's connection parameters, the password included."""

    def __str__(self) -> str:
        shown = {name: self.parameters[name] for name in SHOWN if self.parameters.get(name)}
        return 'postgresql ' + (' '.join(f'{name}={value}' for name, value in shown.items()) or '(all by default)')


def server_of(url: str, timeout_sec: float) -> Server:
    """The server that a URL names; ``ConfigError``, without the URL, if libpq cannot read it."""
    scheme, _, rest = url.partition('://')
    try:
        given = conninfo_to_dict(f'{scheme.partition("+")[0]}://{rest}')
    except ProgrammingError:
        given = None
    # An @ in the host is the end of a password in which one is not written as %40.
    if given is None or '@' in str(given.get('host')):
        # What libpq says quotes parts of the URL, and a mistake in a password's escapes is the most likely one.
        raise ConfigError(
            'the PostgreSQL URL cannot be read: it is postgresql://user:password@host:port/dbname?option=value, where any of '
            "libpq's options may follow, and characters such as @ : / ? % # in a name or password are written as %40 and so on"
        )
    parameters: dict[str, Any] = {'application_name': 'jobsync', **KEEPALIVE, **given}
    # libpq's own default is to wait for as long as the network does, and it takes no less than two seconds.
    wanted = max(2, round(timeout_sec))
    try:
        chosen = int(given.get('connect_timeout') or 0)
    except ValueError:
        raise ConfigError(
            f'connect_timeout={given["connect_timeout"]!r} in the PostgreSQL URL: a whole number of seconds'
        ) from None
    parameters['connect_timeout'] = min(chosen, wanted) if chosen > 0 else wanted
    return Server(parameters)
