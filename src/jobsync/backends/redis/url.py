"""From a URL to the parameters of a connection."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs
import redis
import redis.connection

from jobsync.backends._common.urls import absolute, checked_host
from jobsync.backends.redis.connection import PARAMETERS
from jobsync.errors import ConfigError

__all__ = ['RedisServer', 'Sentinels', 'check_files', 'server_of']

SENTINEL_PORT = 26379
KEEPALIVE = {'socket_keepalive': True}
"""An idle listener notices by these that its server is gone without closing the connection."""

OPTIONS = {'db', 'client_name'}
PATHS = {'ssl_ca_certs', 'ssl_ca_path', 'ssl_certfile', 'ssl_keyfile'}
HOW = (
    'redis://user:password@host:port/db, rediss:// the same over TLS, unix:///path/to.sock?db=0, or '
    'redis+sentinel://user:password@host:port,host:port/service/db; ?options may be db, client_name, ssl_..., durable=yes, '
    'sentinel_username and sentinel_password; characters such as @ : / ? % # in a name or password are written as %40 and so on'
)
CLIENT_NAME = re.compile('[!-~]*')
YES_OR_NO = {'yes': True, 'true': True, '1': True, 'no': False, 'false': False, '0': False}


@attrs.frozen
class Sentinels:
    """The sentinels of a service, which know its master."""

    addresses: tuple[tuple[str, int], ...]
    service: str
    parameters: dict[str, Any] = attrs.field(repr=False)
    """For a connection to a sentinel, without its address."""


@attrs.frozen
class RedisServer:
    """How to reach a server."""

    parameters: dict[str, Any] = attrs.field(repr=False)
    """For a connection, the password included."""
    connection_class: type[redis.connection.AbstractConnection] = attrs.field(repr=False)
    durable: bool
    sentinels: Sentinels | None = None

    @property
    def db(self) -> int:
        """The number of the database."""
        return int(self.parameters.get('db', 0))

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None for a socket, and where sentinels know it."""
        is_unknown = 'path' in self.parameters or self.sentinels is not None
        return None if is_unknown else (str(self.parameters['host']), int(self.parameters['port']))

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.connection_class is redis.connection.SSLConnection

    def __str__(self) -> str:
        if self.sentinels:
            hosts = ','.join(f'{host}:{port}' for host, port in self.sentinels.addresses)
            return f'redis service {self.sentinels.service!r} of sentinels {hosts} db {self.db}'
        path = self.parameters.get('path')
        where = path if path is not None else f'{self.parameters.get("host", "localhost")}:{self.parameters.get("port", 6379)}'
        return f'redis {where} db {self.db}'


def server_of(url: str) -> RedisServer:
    """Return the server that a URL names; ``ConfigError``, without the URL in its message, if the URL cannot be read."""
    scheme, _, rest = url.partition('://')
    kind, _, sentinel = scheme.partition('+')
    try:
        parts = _parts(f'{kind}://{rest}')
        return _sentinel_server(kind, parts) if sentinel else _server(kind, parts)
    except ConfigError:
        raise
    except (ValueError, TypeError, redis.RedisError):
        # The parser's message quotes parts of the URL, and the most likely mistake is in the escapes of a password.
        raise ConfigError(f'the Redis URL cannot be read: it is {HOW}') from None


def check_files(server: RedisServer) -> None:
    """Raise ``ConfigError`` if a file of TLS that the URL names cannot be read: Python's error for a connection names none."""
    for name in sorted(PATHS & server.parameters.keys()):
        path = server.parameters[name]
        try:
            if name == 'ssl_ca_path':
                os.scandir(path).close()
            elif path:
                Path(path).open('rb').close()
        except OSError as error:
            raise ConfigError(f'{name}={path!r} in the Redis URL: {error.strerror or error}') from error


def _parts(url: str) -> SplitResult:
    # Python 3.13 takes no brackets beside another host, as lists of sentinels have them: the hosts are put in afterwards.
    scheme, _, rest = url.partition('://')
    hosts = rest[: min((at for mark in '/?#' if (at := rest.find(mark)) >= 0), default=len(rest))]
    parts = urlsplit(f'{scheme}://{rest[len(hosts) :]}')._replace(netloc=hosts)
    if hosts.count('[') != hosts.count(']') or parts.fragment or '@' in parts.query + parts.path:
        raise ValueError  # most likely a part of a password
    return parts


def _server(kind: str, parts: SplitResult) -> RedisServer:
    options, durable = _options(parts, OPTIONS)
    if kind == 'unix':
        if not parts.path.strip('/') or parts.hostname:
            raise ValueError
        address: dict[str, Any] = {'path': unquote(parts.path)}
    else:
        address = {'host': checked_host(unquote(parts.hostname or 'localhost')), 'port': parts.port or 6379, **KEEPALIVE}
        options |= _database(parts.path.strip('/'), options)
    connection_class, typed = _typed(kind, options)
    return RedisServer({**address, **_credentials(parts), **typed}, connection_class, durable)


def _sentinel_server(kind: str, parts: SplitResult) -> RedisServer:
    options, durable = _options(parts, OPTIONS | {'sentinel_username', 'sentinel_password'})
    if durable:
        raise ConfigError(
            'durable=yes in the Redis URL is for one server: a replica that sentinels promote may not have everything'
        )
    own = {name: options.pop('sentinel_' + name) for name in ('username', 'password') if 'sentinel_' + name in options}
    service, _, database = parts.path.strip('/').partition('/')
    hosts = parts.netloc.rpartition('@')[2].split(',')
    if not service or not all(hosts):
        raise ValueError
    options |= _database(database, options)
    addresses = []
    for host in hosts:
        each = urlsplit(f'//{host}')
        addresses.append((checked_host(unquote(each.hostname or 'localhost')), each.port or SENTINEL_PORT))
    connection_class, typed = _typed(kind, options)
    secured = {name: value for name, value in typed.items() if name.startswith('ssl_')}
    sentinels = Sentinels(tuple(addresses), unquote(service), {**own, **secured, **KEEPALIVE})
    return RedisServer({**_credentials(parts), **typed, **KEEPALIVE}, connection_class, durable, sentinels)


def _options(parts: SplitResult, allowed: set[str]) -> tuple[dict[str, str], bool]:
    """Return the options of the query, and whether it declares the store durable."""
    given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    durable = given.pop('durable', 'no').lower()
    if durable not in YES_OR_NO:
        raise ConfigError('durable in the Redis URL must be yes or no')
    if not CLIENT_NAME.fullmatch(given.get('client_name', '')):
        raise ConfigError('client_name in the Redis URL may have only visible characters of ASCII, and no spaces')
    for name in given:
        if name not in allowed and not name.startswith('ssl_'):
            # The message does not show the name: it may be a part of a password.
            raise ConfigError(f'the options of a Redis URL are {", ".join(sorted(allowed))}, ssl_... and durable, and no others')
    return given, YES_OR_NO[durable]


def _database(text: str, options: dict[str, str]) -> dict[str, str]:
    return {'db': str(int(text))} if text and 'db' not in options else {}


def _credentials(parts: SplitResult) -> dict[str, str]:
    found = {'username': parts.username, 'password': parts.password}
    return {name: unquote(value, errors='strict') for name, value in found.items() if value}


def _typed(kind: str, options: dict[str, str]) -> tuple[type[redis.connection.AbstractConnection], dict[str, Any]]:
    """Return the class of the connection, and the options in the types that its constructor takes."""
    classes: dict[str, Any] = {
        'redis': redis.connection.Connection,
        'rediss': redis.connection.SSLConnection,
        'unix': redis.connection.UnixDomainSocketConnection,
    }
    parsers: Mapping[str, Any] = redis.connection.URL_QUERY_ARGUMENT_PARSERS
    typed: dict[str, Any] = {}
    for name, value in options.items():
        parse = parsers.get(name)
        typed[name] = absolute(value) if name in PATHS and value else parse(value) if parse else value
    if typed.get('ssl_keyfile') and not typed.get('ssl_certfile'):
        raise ConfigError('ssl_keyfile in the Redis URL is the key of a certificate: give that too, as ssl_certfile')
    if kind == 'rediss' and typed.get('ssl_cert_reqs') != 'none':
        typed.setdefault('ssl_check_hostname', True)  # the default since redis-py 6
    typed['db'] = int(typed.get('db', 0))
    if typed['db'] < 0:
        raise ValueError
    classes[kind](**{**PARAMETERS, **typed})
    return classes[kind], typed
