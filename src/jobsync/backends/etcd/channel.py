"""A channel of gRPC to one server, and the token that server gave us."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from grpc.experimental import ChannelOptions

from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.errors import MAYBE_STALE_TOKEN, STALE_TOKEN, not_let_in, translate
from jobsync.backends.etcd.forks import GATE, hang_up_before_fork, prepare_for_forks
from jobsync.backends.etcd.protos import MESSAGES, calls_on
from jobsync.backends.etcd.url import Cluster, Login, Tls
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['EtcdChannel', 'link_of_client', 'links_to']

CHANNEL_OPTIONS = {
    # An answer is read in pieces of a few megabytes; a larger one is not jobsync's.
    'grpc.max_receive_message_length': 32 << 20,
    # A call that may have reached the server is never sent again: a heartbeat that counts twice would look like another's.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.min_reconnect_backoff_ms': 1000,
    'grpc.max_reconnect_backoff_ms': 1000,
    # A watch that hears nothing notices within 15 seconds that its server is gone without a word. A server puts up with
    # a ping every five seconds.
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.http2.max_pings_without_data': 0,
    # Measuring the line keeps gRPC's threads awake; a window that carries an assignment in one go has to be asked for then.
    'grpc.http2.bdp_probe': 0,
    'grpc.http2.lookahead_bytes': 4 << 20,
    # Connections are this channel's alone, and end with it.
    'grpc.use_local_subchannel_pool': 1,
    # A watch needs no thread beside its reader's.
    ChannelOptions.SingleThreadedUnaryStream: 1,
}


LOGIN_PAUSE_SEC = 1.0
"""To check a password costs a server a tenth of a second of a processor: many that are refused must not ask all the time."""
SILENT_SEC = 0.5
"""A connection that nothing has come over for a whole call that lasted longer is given up."""


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


class EtcdChannel:
    """One server, and the token it gave us. Its channel is opened by the first call, and by the first after a fork."""

    def __init__(self, name: str, make_client: Callable[[], Any], login: Login | None = None, token: str = '') -> None:
        self.name = name
        self._make_client = make_client
        self._login = login
        self._token = token
        self._client: Any = None
        self._calls: dict[str, Callable[..., Any]] = {}
        self._opening = threading.RLock()
        """Taken again by a signal's handler that calls."""
        self._next_login = 0.0
        """When to try again after a login that was refused, on ``time.monotonic``."""
        self._is_closed = False
        self._heard = 0.0
        """When the server last answered anything, on ``time.monotonic``."""
        hang_up_before_fork(self)

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

    @contextmanager
    def stream(self, method: str, request: Any, deadline: float) -> Iterator[Any]:
        """A call of many answers, to be iterated over and cancelled; its errors are gRPC's. It ends with the context."""
        token = self._logged_in(deadline)
        with GATE.passed() as passage:
            # Of a member that has lost the others a watch would go on, and tell nothing.
            answers = self._method(method)(request, metadata=[*self._metadata(token), ('hasleader', 'true')])
            passage.cancel = answers.cancel
            try:
                yield answers
            finally:
                answers.cancel()
                hear_out(answers)

    def hang_up(self) -> None:
        """Close the channel, which ends all calls."""
        with self._opening:
            client, self._client, self._calls = self._client, None, {}
        if client is not None:
            client.close()

    def close(self) -> None:
        """End all calls, for good."""
        self._is_closed = True
        with GATE.passed():
            self.hang_up()

    def _answer(self, method: str, request: Any, deadline: float, token: str) -> Any:
        began = time.monotonic()
        try:
            with GATE.passed():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BackendUnavailable(f'etcd at {self.name}: no time was left for this call')
                answer = self._method(method)(request, timeout=left, metadata=self._metadata(token))
                self._heard = time.monotonic()
                return answer
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                self._heard = time.monotonic()
            elif self._heard < began < deadline - SILENT_SEC:
                # The connection may lead nowhere any more, while another would be answered.
                with GATE.passed():
                    self.hang_up()
            raise
        except ValueError as error:  # gRPC's word for a channel that is closed
            raise BackendUnavailable(f'etcd at {self.name}: {error}') from error

    def _method(self, name: str) -> Callable[..., Any]:
        """One of the calls of the channel."""
        with self._opening:
            if self._is_closed:
                raise BackendUnavailable(f'etcd at {self.name}: this backend is closed')
            if self._client is None:
                self._client = self._make_client()
                self._calls = calls_on(self._client.channel)
                # etcd keeps a watch whose request stream ends after the first request.
                self._calls['Watch.Watch'] = self._client.channel.unary_stream(
                    '/etcdserverpb.Watch/Watch',
                    request_serializer=MESSAGES['WatchRequest'].SerializeToString,
                    response_deserializer=MESSAGES['WatchResponse'].FromString,
                )
                prepare_for_forks()
            return self._calls[name]

    def _metadata(self, token: str) -> Sequence[tuple[str, str]]:
        return [('token', token)] if token else []

    def _logged_in(self, deadline: float) -> str:
        """The token to send, none if nobody logs in here."""
        if self._login is None or self._token:
            return self._token
        if time.monotonic() < self._next_login:
            raise not_let_in('as it said a moment ago', self.name)
        # Several threads may do this at once. A lock would be held while waiting for the server.
        request = MESSAGES['AuthenticateRequest'](name=self._login.user, password=self._login.password)
        try:
            token: str = self._answer('Auth.Authenticate', request, deadline, '').token
        except grpc.RpcError as error:
            # The server knows no users at all, so far: whoever has a password may go without.
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                return ''
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                self._next_login = time.monotonic() + LOGIN_PAUSE_SEC
                raise not_let_in(error.details(), self.name) from error
            raise translate(error, self.name) from error
        self._token = token
        return token


def hear_out(answers: Any) -> None:
    """Of a stream that was cancelled, read all that gRPC has yet to say: until then it is not over, nor ever its channel.

    Where another thread reads it, as on a client of the user's, there is nothing to do.
    """
    if hear := getattr(answers, '_consume_next_event', None):
        while answers._state.due:
            hear()


def links_to(cluster: Cluster) -> tuple[EtcdChannel, ...]:
    """A link to each server; nothing is reached yet."""
    return tuple(EtcdChannel(endpoint, partial(Client, endpoint, cluster.tls), cluster.login) for endpoint in cluster.endpoints)


class ChannelOfClient(EtcdChannel):
    """On a client of the user's, whose channel is not ours to close."""

    def hang_up(self) -> None:
        """Nothing: the client stays as it is."""


def link_of_client(client: Any) -> EtcdChannel:
    """The link that a client of the user's has; ``ConfigError`` if it has none."""
    channel = getattr(client, 'channel', None)
    if not callable(getattr(channel, 'unary_unary', None)) or not callable(getattr(channel, 'unary_stream', None)):
        raise ConfigError(
            f'a client of type {type(client).__name__} has no channel of gRPC: give one such as etcd3.client() makes'
        )
    token = dict(getattr(client, 'metadata', None) or ()).get('token', '')
    return ChannelOfClient('the server of the given client', lambda: client, token=token)
