"""Which kind of server listens at an address: a URL with the wrong scheme or port is to be a clear error, and not an outage."""

from __future__ import annotations

import contextlib
import socket
import ssl

from jobsync.errors import ConfigError

__all__ = ['ETCD', 'POSTGRESQL', 'REDIS', 'refuse_other_server']

POSTGRESQL, REDIS, ETCD, WEB = 'a PostgreSQL server', 'a Redis server', 'an etcd server', 'a web server'
SCHEMES = {POSTGRESQL: 'postgresql://', REDIS: 'redis://', ETCD: 'etcd://'}
TLS_SCHEMES = {REDIS: 'rediss://', ETCD: 'etcds://'}
"""How the URLs of servers that speak TLS begin. On PostgreSQL all URLs begin alike."""

PART = 1 / 10
MOST_SEC = 0.5
"""How long a server has for each of four answers, as a part of the time for a call and at the most. A slower one is unknown."""
SSL_REQUEST = b'\0\0\0\x08\x04\xd2\x16/'
"""PostgreSQL's question for TLS, which it answers with one letter, and which leaves no trace in its log."""
MOST_BYTES = 4096


def refuse_other_server(wanted: str, host: str, port: int, shown: object, within_sec: float, *, over_tls: bool = False) -> None:
    """Raise ``ConfigError`` if a server of another kind than ``wanted`` is found at an address; return if none is recognised.

    Without ``over_tls`` a server that speaks TLS is of another kind, and with it one that answers in plain text. Takes less than
    half of ``within_sec``, and does nothing if that is over: after a call that has taken all of its time.
    """
    if within_sec <= 0:
        return
    limit_sec = min(PART * within_sec, MOST_SEC)
    found = _kind_at(host, port, limit_sec)
    if over_tls and found not in SCHEMES:  # a web server may answer in plain text that it speaks TLS
        return
    if over_tls and found == wanted:
        said = f'does not speak TLS, and the URL is for TLS: without, it begins with {SCHEMES[wanted]}'
        raise ConfigError(f'{shown}: {host}:{port} {said}')
    if found is None and wanted in TLS_SCHEMES and _speaks_tls(host, port, limit_sec):
        said = f'speaks TLS, and the URL is for a server that does not: with TLS it begins with {TLS_SCHEMES[wanted]}'
        raise ConfigError(f'{shown}: {host}:{port} {said}')
    if found is None or found == wanted:
        return
    hint = f'; its URL begins with {SCHEMES[found]}' if found in SCHEMES else ''
    raise ConfigError(f'{shown}: {host}:{port} is {found}, and the URL is for {wanted}: check its scheme, host and port{hint}')


def _kind_at(host: str, port: int, limit_sec: float) -> str | None:
    """Return the kind of server at an address; None if there is none, or none of these."""
    with contextlib.suppress(OSError):
        if _answer(host, port, limit_sec, SSL_REQUEST) in (b'S', b'N'):
            return POSTGRESQL
        if _answer(host, port, limit_sec, b'PING\r\n')[:1] in (b'+', b'-'):
            return REDIS
        answer = _answer(host, port, limit_sec, b'GET /version HTTP/1.0\r\n\r\n', is_long=True)
        if answer.startswith(b'HTTP/'):
            return ETCD if b'etcdserver' in answer else WEB
    return None


def _speaks_tls(host: str, port: int, limit_sec: float) -> bool:
    """Return whether a server answers the first message of TLS. Nothing is checked, and nothing is said over the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), socket.create_connection((host, port), limit_sec) as plain, context.wrap_socket(plain):
        return True
    return False


def _answer(host: str, port: int, limit_sec: float, question: bytes, *, is_long: bool = False) -> bytes:
    """Return what a server answers, up to its first pause or, if ``is_long``, to its end. ``OSError`` if none listens."""
    answer = b''
    with socket.create_connection((host, port), limit_sec) as connection, contextlib.suppress(OSError):
        connection.sendall(question)
        while len(answer) < MOST_BYTES and (part := connection.recv(MOST_BYTES)):
            answer += part
            if not is_long:
                break
    return answer
