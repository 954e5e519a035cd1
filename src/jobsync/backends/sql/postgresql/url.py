"""From a URL to the parameters of a connection."""

from __future__ import annotations

from typing import Any

import attrs
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from jobsync.backends._common.urls import absolute, checked_host
from jobsync.errors import ConfigError

__all__ = ['PostgresqlServer', 'server_of']

_LAST_PORT = 65_535
SHOWN = ('host', 'port', 'dbname', 'user')
"""The parameters that messages show. A password is not among them, wherever in the URL it stands."""

SOCKETS = ('/', '@')
"""How the name of a socket begins, which takes the place of a host's."""

PATHS = ('passfile', 'sslcert', 'sslkey', 'sslrootcert', 'sslcrl', 'sslcrldir')
"""The parameters that are paths, which libpq reads for each connection."""

SHORTEST_SEC = 2
"""The shortest timeout that libpq takes to connect; and a kernel counts its probes in seconds."""

MOST_PROBES = 127
"""As many as Linux takes. With more, libpq does not connect."""


@attrs.frozen
class PostgresqlServer:
    """A database, and how to reach it."""

    parameters: dict[str, Any] = attrs.field(repr=False)
    """libpq's connection parameters, the password included."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None if there are several, or a socket, or what only libpq knows."""
        host, port = str(self.parameters.get('host') or ''), str(self.parameters.get('port') or '5432')
        if not host or host.startswith(SOCKETS) or ',' in host or not port.isdecimal() or self.parameters.get('hostaddr'):
            return None
        return host, int(port)

    def __str__(self) -> str:
        shown = {name: self.parameters[name] for name in SHOWN if self.parameters.get(name)}
        return 'postgresql ' + (' '.join(f'{name}={value}' for name, value in shown.items()) or '(all by default)')


def _is_in_order(rest: str, given: dict[str, Any]) -> bool:
    """Return whether libpq found the parts of a URL where they were meant to be.

    Of ``u:pw/secret@host/db`` libpq makes a port ``pw`` and a database ``secret@host/db``. A password has to be escaped, so no
    other part has an ``@``, and no port is anything but a port's number, which libpq checks only when it connects.
    """
    authority, _, after = rest.partition('/')
    ports = str(given.get('port') or '').split(',')
    return authority.count('@') <= 1 and '@' not in after and all(not port or _is_port(port) for port in ports)


def _unknown_option(rest: str) -> str | None:
    """Return the name of an option after the database that libpq does not know; None where it may be part of a password."""
    before, _, options = rest.rpartition('?')
    names = [option.partition('=')[0] for option in options.split('&')]
    if '?' in before or '@' in options or not all(name.isidentifier() for name in names):
        return None
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return next((name for name in names if name not in known), None)


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(_LAST_PORT)) and 0 < int(text) <= _LAST_PORT


def _fixed(path: str) -> str:
    fixed = absolute(path)
    # libpq takes ``system`` for the authorities of the operating system, and a key with a colon for one in a device.
    return path if path == 'system' or ':' in fixed else fixed


def server_of(url: str, timeout_sec: float) -> PostgresqlServer:
    """Return the server that a URL names; ``ConfigError``, which does not show the URL, if libpq cannot read it."""
    scheme, _, rest = url.partition('://')
    try:
        given = conninfo_to_dict(f'{scheme.partition("+")[0]}://{rest}')
    except ProgrammingError:
        given = None
    if given is None and (unknown := _unknown_option(rest)):
        raise ConfigError(f'the PostgreSQL URL has the option {unknown!r}, which libpq does not know: see its list of parameters')
    if given is None or not _is_in_order(rest, given):
        # What libpq says quotes parts of the URL, and a mistake in a password's escapes is the most likely one.
        raise ConfigError(
            'the PostgreSQL URL cannot be read: it is postgresql://user:password@host:port/dbname?option=value, where any of '
            "libpq's options may follow, and characters such as @ : / ? % # in a name or password are written as %40 and so on"
        )
    wanted = max(SHORTEST_SEC, round(timeout_sec))
    for host in str(given.get('host') or '').split(','):
        if not host.startswith(SOCKETS):
            checked_host(host)
    parameters: dict[str, Any] = {'application_name': 'jobsync', **keepalive(wanted), **given}
    if ',' in str(given.get('host') or given.get('hostaddr') or ''):
        # libpq's own default is the first host that answers: after a failover, the former primary that is a standby by then.
        parameters.setdefault('target_session_attrs', 'read-write')
    parameters |= {name: _fixed(str(path)) for name in PATHS if (path := given.get(name))}
    # libpq's own default is to wait for as long as the network does.
    try:
        chosen = int(given.get('connect_timeout') or 0)
    except ValueError:
        raise ConfigError('connect_timeout in the PostgreSQL URL must be a whole number of seconds') from None
    parameters['connect_timeout'] = min(chosen, wanted) if chosen > 0 else wanted
    return PostgresqlServer(parameters)


def keepalive(timeout_sec: int) -> dict[str, int]:
    """Return the options that end a connection about ``timeout_sec`` after its peer has vanished without closing it.

    The probes end a wait for an answer; the user timeout ends a wait for sent data to be acknowledged. A busy server is not
    cut off: its kernel answers both.
    """
    half = max(1, timeout_sec // 2)
    count = min(half, MOST_PROBES)
    probes = {'keepalives_idle': half, 'keepalives_interval': half // count, 'keepalives_count': count}
    return {**probes, 'tcp_user_timeout': timeout_sec * 1000}
