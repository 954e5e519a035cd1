"""What keeps strangers out: names by which the server may be addressed, headers, and the token without which nothing changes."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ['LOCAL', 'HostCheck', 'SafeHeaders', 'allowed_hosts', 'checked_token', 'refusal']

LOCAL = ('localhost', '127.0.0.1', '[::1]')
_NAME = r'\[[^\s/\[\]]+\]|[^\s/:*\[\]]+'
"""The name or address of a host in a URL: an address of IPv6 stands in brackets."""
_REFUSED = {'error': 'this server is not to be reached by this name: jobsync web --allow-host NAME allows another one'}
_SHORTEST_TOKEN = 16
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b'content-security-policy', _POLICY.encode()),
    (b'x-content-type-options', b'nosniff'),
    (b'x-frame-options', b'DENY'),
    (b'referrer-policy', b'no-referrer'),
    (b'cross-origin-opener-policy', b'same-origin'),
    (b'cross-origin-resource-policy', b'same-origin'),
    (b'permissions-policy', b'camera=(), geolocation=(), microphone=()'),
    (b'cache-control', b'no-store'),
)


def allowed_hosts(host: str, names: Sequence[str] = ()) -> list[str]:
    """Return the names by which a server that listens on ``host`` may be addressed: any, unless it listens on this machine only.

    A page of another site, whose name leads to this machine, could read everything otherwise.

    Raises:
        ConfigError: A name is not what stands in a URL between the scheme and the port.
    """
    for name in names:
        if not re.fullmatch(rf'\*|{_NAME}', name):
            raise ConfigError(
                f'the allowed host is {safe_repr(name)}: must be a name without scheme and port, an address of IPv6 in brackets, '
                'or * for any'
            )
    if host in ('127.0.0.1', '::1', 'localhost'):
        return [*LOCAL, *names]
    return list(names) or ['*']


def checked_token(token: str | None) -> str | None:
    """Return the token. Raise ``ConfigError`` for one that could be guessed, or that no header can carry."""
    if token is not None and not (len(token) >= _SHORTEST_TOKEN and token.isascii() and token.isprintable() and ' ' not in token):
        raise ConfigError(f'the token must have at least {_SHORTEST_TOKEN} printable ASCII characters, and no space')
    return token


def refusal(request: Request, token: str) -> tuple[int, str] | None:
    """Return the status and the reason with which a request to change something is refused; None if it is allowed.

    The token travels in a header that a browser sends only if a script of this page says so: a form or an image of another site
    cannot, and no cookie does it for them. ``Origin`` and the type of the content are a second bar.
    """
    scheme, _, given = request.headers.get('authorization', '').partition(' ')
    if scheme.lower() != 'bearer' or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return 401, 'give the token of this server: Authorization: Bearer TOKEN'
    origin = request.headers.get('origin')
    if origin is not None and origin.partition('://')[2] != request.headers.get('host'):
        return 403, f'a page of {origin} may change nothing here: a proxy in between must pass on the header Host as it is'
    if request.headers.get('content-type', '').partition(';')[0].strip() != 'application/json':
        return 415, 'give the arguments as application/json'
    return None


class HostCheck:
    """Refuses requests to a name that is not allowed, except probes, which use addresses and get no names in return."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        is_allowed = scope['type'] == 'lifespan' or '*' in self._hosts
        path = scope.get('path', '').removeprefix(scope.get('root_path', ''))  # where another application has this one
        is_probe = scope['type'] == 'http' and path.startswith('/health/')
        if is_allowed or is_probe or self._is_addressed(Headers(scope=scope).get('host', '')):
            await self._app(scope, receive, send)
        else:
            await JSONResponse(_REFUSED, 400)(scope, receive, send)

    def _is_addressed(self, host: str) -> bool:
        found = re.fullmatch(rf'({_NAME})(:\d*)?', host)
        return found is not None and found[1].lower() in self._hosts


class SafeHeaders:
    """Adds the headers that keep a browser from doing more with an answer than this page does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to the answer."""

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                names = {name for name, _ in _HEADERS}
                kept = [header for header in message['headers'] if header[0].lower() not in names]
                message['headers'] = [*kept, *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)
