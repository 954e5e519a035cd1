"""A channel of gRPC to one server, and the token that server gave us."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

# Before gRPC, which reads in the environment whether it is to survive a fork.
from jobsync.backends.etcd.forks import GATE

# isort: split
import grpc

from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.errors import MAYBE_STALE_TOKEN, STALE_TOKEN, translate
from jobsync.backends.etcd.protos import MESSAGES, METHODS
from jobsync.backends.etcd.url import Cluster, Login, Tls
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['Link', 'link_of_client', 'links_to']

CHANNEL_OPTIONS = {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    # A call that may have reached the server is never sent again: a heartbeat that counts twice would look like another's.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.min_reconnect_backoff_ms': 1000,
    'grpc.max_reconnect_backoff_ms': 1000,
    # A watch that hears nothing notices within half a minute that its server is gone without a word.
    'grpc.keepalive_time_ms': 15_000,
    'grpc.keepalive_timeout_ms': 10_000,
    # Connections are this channel's alone: a forked child must not find its parent's.
    'grpc.use_local_subchannel_pool': 1,
}


class Client(etcd3.Etcd3Client):  # type: ignore[misc]
    """python-etcd3's client for one server. It logs nobody in: a token has to be renewed, and goes without TLS too."""

    def __init__(self, endpoint: str, tls: Tls | None) -> None:
        self._tls = tls
        host, _, port = endpoint.rpartition(':')
        options: dict[str, Any] = dict(CHANNEL_OPTIONS)
        if tls and tls.server_name:
            options['grpc.ssl_target_name_override'] = tls.server_name
        super().__init__(host, int(port), ca_cert=None if tls is None else '', grpc_options=list(options.items()))

    def _get_secure_creds(self, *_: object) -> Any:
        """Of contents rather than of files."""
        assert self._tls is not None
        return grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.cert)


class Link:
    """One server, and the token it gave us."""

    def __init__(self, name: str, client: Any, login: Login | None = None, token: str = '', *, is_ours: bool = True) -> None:
        self.name = name
        self._client = client
        self._login = login
        self._token = token
        self._is_ours = is_ours
        self._calls = {name: method.on(client.channel) for name, method in METHODS.items() if not method.streams_request}
        # etcd keeps a watch that says no more than how it begins.
        self._calls['Watch.Watch'] = client.channel.unary_stream(
            METHODS['Watch.Watch'].path,
            request_serializer=MESSAGES['WatchRequest'].SerializeToString,
            response_deserializer=MESSAGES['WatchResponse'].FromString,
        )

    def call(self, method: str, request: Any, deadline: float) -> Any:
        """The answer, at the latest at ``deadline``, which is on ``time.monotonic``; errors are those of ``jobsync.errors``."""
        token = self._logged_in(deadline)
        try:
            return self._answer(method, request, deadline, token)
        except grpc.RpcError as error:
            if self._login is not None and self._token == token and error.code() in (*STALE_TOKEN, MAYBE_STALE_TOKEN):
                self._token = ''
            if self._login is None or error.code() not in STALE_TOKEN:
                raise translate(error, self.name) from error
        try:
            return self._answer(method, request, deadline, self._logged_in(deadline))
        except grpc.RpcError as error:
            raise translate(error, self.name) from error

    def stream(self, method: str, request: Any, deadline: float) -> Any:
        """A call of many answers, to be iterated over and cancelled; its errors are gRPC's."""
        token = self._logged_in(deadline)
        with GATE.passed():
            # Of a member that has lost the others a watch would go on, and tell nothing.
            return self._calls[method](request, metadata=[*self._metadata(token), ('hasleader', 'true')])

    def close(self) -> None:
        """End all calls."""
        if self._is_ours:
            self._client.close()

    def _answer(self, method: str, request: Any, deadline: float, token: str) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            raise BackendUnavailable(f'etcd at {self.name}: no time was left for this call')
        try:
            with GATE.passed():
                return self._calls[method](request, timeout=left, metadata=self._metadata(token))
        except ValueError as error:  # gRPC's word for a channel that is closed
            raise BackendUnavailable(f'etcd at {self.name}: {error}') from error

    def _metadata(self, token: str) -> Sequence[tuple[str, str]]:
        return [('token', token)] if token else []

    def _logged_in(self, deadline: float) -> str:
        """The token to send, none if nobody logs in here."""
        if self._login is None or self._token:
            return self._token
        # Several threads may do this at once. A lock would be held while waiting for the server.
        request = MESSAGES['AuthenticateRequest'](name=self._login.user, password=self._login.password)
        try:
            token: str = self._answer('Auth.Authenticate', request, deadline, '').token
        except grpc.RpcError as error:
            # The server knows no users at all, so far: whoever has a password may go without.
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                return ''
            raise translate(error, self.name) from error
        self._token = token
        return token


def links_to(cluster: Cluster) -> tuple[Link, ...]:
    """A link to each server; nothing is reached yet."""
    return tuple(Link(endpoint, Client(endpoint, cluster.tls), cluster.login) for endpoint in cluster.endpoints)


def link_of_client(client: Any) -> Link:
    """The link that a client of the user's has; ``ConfigError`` if it has none."""
    channel = getattr(client, 'channel', None)
    if not callable(getattr(channel, 'unary_unary', None)) or not callable(getattr(channel, 'unary_stream', None)):
        raise ConfigError(
            f'a client of type {type(client).__name__} has no channel of gRPC: give one such as etcd3.client() makes'
        )
    token = dict(getattr(client, 'metadata', None) or ()).get('token', '')
    return Link('the server of the given client', client, token=token, is_ours=False)
