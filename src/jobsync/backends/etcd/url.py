"""The URL of an etcd cluster."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import attrs

from jobsync.backends._common.urls import absolute, checked_host
from jobsync.errors import ConfigError

__all__ = ['EtcdCluster', 'Login', 'Tls', 'cluster_of']

PORT = 2379
OPTIONS = ('ca', 'cert', 'key', 'server_name')
HOW = (
    'the etcd URL is etcd://user:password@host1:2379,host2:2379 or, with TLS, '
    'etcds://…?ca=file&cert=file&key=file&server_name=name; user, password and all options may be left out, and characters '
    'such as @ : / ? % # in a name or password are written as %40 and so on'
)
ENDPOINT = re.compile(r'(?P<host>\[[0-9A-Fa-f:.]+(?:%[^\s\[\]:/?#@,]+)?\]|[^\s\[\]:/?#@,]+)(?::(?P<port>[0-9]{1,5}))?')
"""An address in brackets may have a zone, the interface of a link-local address, whose ``%`` a URL writes as ``%25``."""


@attrs.frozen
class Login:
    """A user of etcd."""

    user: str
    password: str = attrs.field(repr=False)


@attrs.define
class Tls:
    """What a channel is encrypted with: files in PEM, which may be replaced at any time."""

    ca: str | None = None
    """Certificates to trust; None for those that gRPC brings."""
    cert: str | None = None
    """The client's certificate."""
    key: str | None = None
    server_name: str | None = None
    """The name to expect in the server's certificate, if not the host's."""

    _last: tuple[bytes | None, ...] = attrs.field(default=(), init=False, repr=False)

    def read(self) -> tuple[bytes | None, ...]:
        """Return what ``ca``, ``key`` and ``cert`` have now, or had when they could last be read; ``ConfigError`` if never."""
        try:
            self._last = tuple(_content(name, getattr(self, name)) for name in ('ca', 'key', 'cert'))
        except ConfigError:
            if not self._last:  # a process may give up its right to read them
                raise
        return self._last


@attrs.frozen
class EtcdCluster:
    """The servers of one cluster."""

    endpoints: tuple[str, ...]
    """Each ``host:port``, in the order in which they are tried."""
    login: Login | None = None
    tls: Tls | None = None

    def __str__(self) -> str:
        return f'etcd {",".join(self.endpoints)}'


def cluster_of(url: str) -> EtcdCluster:
    """Return the cluster that a URL names; raise ``ConfigError``, without the URL and its secrets, if it cannot be read."""
    scheme, _, rest = url.partition('://')
    rest, _, query = rest.partition('?')
    user, at, hosts = rest.rpartition('@')
    hosts, _, path = hosts.partition('/')
    if path or '#' in hosts or '@' in query or scheme not in ('etcd', 'etcds'):
        raise ConfigError(HOW)
    endpoints, login = tuple(_endpoint_of(part) for part in hosts.split(',')), _login_of(user) if at else None
    options = _options_of(query)
    # Files come last: the error for one quotes its path, and up to here a piece of a password could stand in the path's place.
    return EtcdCluster(endpoints, login, _tls_of(options) if scheme == 'etcds' or options else None)


def _endpoint_of(part: str) -> str:
    found = ENDPOINT.fullmatch(part)
    port = int(found['port'] or PORT) if found else 0
    if found is None or not 0 < port < 2**16:
        raise ConfigError(f'a host in the URL cannot be read; {HOW}')
    return f'{checked_host(found["host"].replace("%25", "%"))}:{port}'


def _login_of(part: str) -> Login:
    user, separator, password = part.partition(':')
    if not (user and separator and password):
        raise ConfigError(f'a user needs a password, and a password a user; {HOW}')
    try:
        return Login(unquote(user, errors='strict'), unquote(password, errors='strict'))
    except UnicodeDecodeError:  # this error would quote the password
        raise ConfigError(f'user or password is not UTF-8; {HOW}') from None


def _options_of(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError(f'the options of the URL cannot be read; {HOW}') from None
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= set(OPTIONS) or not all(options.values()):
        raise ConfigError(f'the options of the URL are {", ".join(OPTIONS)}, each once and with a value; {HOW}')
    return options


def _tls_of(options: dict[str, str]) -> Tls:
    """Return the files that the options name; ``ConfigError`` if one of them cannot be read."""
    if ('cert' in options) != ('key' in options):
        raise ConfigError(f'the options cert and key go together; {HOW}')
    tls = Tls(**{name: value if name == 'server_name' else absolute(value) for name, value in options.items()})
    tls.read()
    return tls


def _content(name: str, path: str | None) -> bytes | None:
    try:
        content = Path(path).read_bytes() if path else None
    except OSError as error:
        raise ConfigError(f'{name}={path!r} in the etcd URL: {error.strerror or error}') from error
    # t=0  a certificate is renewed: ``cp`` empties the file before it writes
    # t=1  the file is read. gRPC ends the process if there is no certificate, or no key, and trusts others if there is no ca
    if content == b'':
        raise ConfigError(f'{name}={path!r} in the etcd URL: the file is empty')
    return content
