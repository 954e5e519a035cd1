"""A gRPC channel to one server, and the token of the login there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
from grpc.experimental import ChannelOptions

from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.errors import MAYBE_STALE_TOKEN, STALE_TOKEN, not_let_in, translate
from jobsync.backends.etcd.forks import GATE, prepare_for_forks
from jobsync.backends.etcd.protos import MESSAGES, calls_on
from jobsync.backends.etcd.url import EtcdCluster, Login, Tls
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['EtcdChannel', 'channel_of_client', 'channels_to']

CHANNEL_OPTIONS = {
    # Answers come in pieces of a few megabytes. A larger one is not jobsync's.
    'grpc.max_receive_message_length': 32 << 20,
    # A call that may have reached the server is never sent again: a heartbeat that counts twice would look like another node's.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1000,
    # A watch notices within 15 seconds that its server is gone without a word. A server tolerates a ping every five seconds.
    # ``keepalive_timeout_ms`` would bound nothing here: what gRPC waits for is the answer to the ping, for a minute by itself.
    'grpc.keepalive_time_ms': 10_000,
    'grpc.http2.ping_timeout_ms': 5_000,
    'grpc.http2.max_pings_without_data': 0,
    # Measuring the bandwidth keeps gRPC's threads awake. Without it, the window for a whole assignment must be set.
    'grpc.http2.bdp_probe': 0,
    'grpc.http2.lookahead_bytes': 4 << 20,
    # Connections belong to one channel, and end with it.
    'grpc.use_local_subchannel_pool': 1,
    # A watch needs no thread besides its reader's.
    ChannelOptions.SingleThreadedUnaryStream: 1,
}
CONNECTING_SEC = 1.0
"""The least time that a connection is given, TLS and all, if half of that for a call is shorter; then gRPC tries anew."""
LOGIN_PAUSE_SEC = 1.0
"""Pause after a refused login. A password check costs a server a tenth of a second of CPU, so many nodes must not repeat it."""
SILENT_SEC = 0.5
"""A connection over which nothing came during a whole call that lasted longer than this is given up."""


class Client(etcd3.Etcd3Client):  # type: ignore[misc]
    """python-etcd3's client for one server, without its login: a token has to be renewed, and must work without TLS too."""

    def __init__(self, endpoint: str, tls: Tls | None, op_timeout_sec: float) -> None:
        self._tls = tls or Tls()
        self._files = self._tls.read()
        host, _, port = endpoint.rpartition(':')
        options: dict[str, Any] = dict(CHANNEL_OPTIONS)
        options['grpc.min_reconnect_backoff_ms'] = round(1000 * max(CONNECTING_SEC, op_timeout_sec / 2))
        if self._tls.server_name:
            options['grpc.ssl_target_name_override'] = self._tls.server_name
        super().__init__(host, int(port), ca_cert='' if tls else None, grpc_options=list(options.items()))

    def _get_secure_creds(self, *_: object) -> Any:
        """Return credentials from the contents of files, which python-etcd3 would read itself."""
        return grpc.ssl_channel_credentials(*self._files)

    def is_outdated(self) -> bool:
        """Return whether a file was replaced since the channel was made."""
        return self._tls.read() != self._files


class EtcdChannel:
    """One server, and the token of the login there. The first call opens the gRPC channel, and so does the first after a fork."""

    def __init__(self, name: str, make_client: Callable[[], Any], login: Login | None = None, token: str = '') -> None:
        self.name = name
        self.refusal = ''
        """Why no call is made any more."""
        self._make_client = make_client
        self._login = login
        self._token = token
        self._client: Any = None
        self._calls: dict[str, Callable[..., Any]] = {}
        self._opening = threading.RLock()
        """Reentrant, for a signal's handler may make a call."""
        self._next_login = 0.0
        """When to try again after a refused login, on ``time.monotonic``."""
        self._answered = 0.0
        """When the server last answered anything, on ``time.monotonic``."""

    def call(self, method: str, request: Any, deadline: float) -> Any:
        """Return the answer by ``deadline``, on ``time.monotonic``; raise errors of ``jobsync.errors``."""
        for is_last in (False, True):
            token = self._logged_in(deadline)
            try:
                return self._answer(method, request, deadline, token)
            except grpc.RpcError as error:
                if self._login is not None and self._token == token and error.code() in (*STALE_TOKEN, MAYBE_STALE_TOKEN):
                    self._token = ''
                if is_last or self._login is None or error.code() not in STALE_TOKEN:
                    raise translate(error, self.name) from error
        raise AssertionError('the last attempt returns or raises')

    @contextlib.contextmanager
    def watch(self, request: Any, deadline: float) -> Iterator[Any]:
        """Open a watch for the length of a block: answers to iterate over and to cancel. Errors in the block are gRPC's."""
        token = self._logged_in(deadline)
        with GATE.passed(self) as passage:
            # Without ``hasleader``, a member that has lost the others would keep the watch open and send nothing.
            answers = self._method('Watch.Watch')(request, metadata=[*self._metadata(token), ('hasleader', 'true')])
            passage.cancel = answers.cancel
            try:
                yield answers
            finally:
                answers.cancel()
                _drain(answers)

    def hang_up(self, only: Any = None) -> None:
        """Close the gRPC channel, which ends all calls; the next call opens another. With ``only``, if that client has it."""
        with self._opening:
            if only is not None and self._client is not only:
                return
            client, self._client, self._calls = self._client, None, {}
        if client is not None:
            client.close()

    def close(self, refusal: str) -> None:
        """End all calls for good; later ones are refused because the backend is ``refusal``."""
        self.refusal = refusal
        with GATE.passed():
            self.hang_up()

    def _answer(self, method: str, request: Any, deadline: float, token: str) -> Any:
        began, client = time.monotonic(), self._client
        try:
            with GATE.passed(self):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BackendUnavailable(f'etcd at {self.name}: no time was left for this call')
                call = self._method(method)
                client = self._client
                answer = call(request, timeout=left, metadata=self._metadata(token))
                self._answered = time.monotonic()
                return answer
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                self._answered = time.monotonic()
            elif client is not None and self._answered < began < deadline - SILENT_SEC:
                # t=0  the network drops everything on this connection, and neither side notices
                # t=1  a call ends at its deadline, and nothing has come since it began
                # So the connection is given up: a new one may be answered. Of two calls that end so at once, one does that, and
                # the other leaves the new one alone, over which a heartbeat may be on its way.
                with GATE.passed():
                    self.hang_up(client)
            # t=0  the client's certificate is renewed, in the files that the URL names
            # t=1  the one that this channel has read before expires, and the server refuses each new connection
            if error.code() == grpc.StatusCode.UNAVAILABLE and client is not None and client.is_outdated():
                with GATE.passed():
                    self.hang_up(client)
            raise
        except ValueError as error:  # gRPC's error for a closed channel
            raise BackendUnavailable(f'etcd at {self.name}: {error}') from error

    def _method(self, name: str) -> Callable[..., Any]:
        with self._opening:
            if self.refusal:
                raise BackendUnavailable(f'etcd at {self.name}: this backend is {self.refusal}')
            if self._client is None:
                # t=0  the client is made; a signal's handler raises, or there is no memory for the next step
                # t=1  the next call: with a client that is stored and no table of calls, it and all later ones would fail
                client = self._make_client()
                calls = calls_on(client.channel)
                # etcd keeps a watch whose stream of requests has ended.
                calls['Watch.Watch'] = client.channel.unary_stream(
                    '/etcdserverpb.Watch/Watch',
                    request_serializer=MESSAGES['WatchRequest'].SerializeToString,
                    response_deserializer=MESSAGES['WatchResponse'].FromString,
                )
                prepare_for_forks()
                self._client, self._calls = client, calls
            return self._calls[name]

    def _metadata(self, token: str) -> Sequence[tuple[str, str]]:
        return [('token', token)] if token else []

    def _logged_in(self, deadline: float) -> str:
        """Return the token to send, after a login if need be; empty where there is no login."""
        known = self._token  # read once: another thread whose call is refused forgets it
        if self._login is None or known:
            return known
        if time.monotonic() < self._next_login:
            raise not_let_in('as it said a moment ago', self.name)
        # Several threads may log in at once: a lock would be held while waiting for the server.
        request = MESSAGES['AuthenticateRequest'](name=self._login.user, password=self._login.password)
        try:
            self._token = token = self._answer('Auth.Authenticate', request, deadline, '').token
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:  # the server has no users yet, so calls need no token
                return ''
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                self._next_login = time.monotonic() + LOGIN_PAUSE_SEC
                raise not_let_in(error.details(), self.name) from error
            raise translate(error, self.name) from error
        return str(token)


def _drain(answers: Any) -> None:
    """Read what gRPC still has for a cancelled stream. Until then neither the stream nor its channel ends.

    On a client of the user's another thread reads the stream.
    """
    if read_next := getattr(answers, '_consume_next_event', None):
        while answers._state.due:
            read_next()


def channels_to(cluster: EtcdCluster, op_timeout_sec: float) -> tuple[EtcdChannel, ...]:
    """Return a channel to each server, without connecting."""
    return tuple(
        EtcdChannel(endpoint, partial(Client, endpoint, cluster.tls, op_timeout_sec), cluster.login)
        for endpoint in cluster.endpoints
    )


def channel_of_client(client: Any) -> EtcdChannel:
    """Return the channel of a user's client, which stays open; raise ``ConfigError`` if it has none."""
    channel = getattr(client, 'channel', None)
    if not callable(getattr(channel, 'unary_unary', None)) or not callable(getattr(channel, 'unary_stream', None)):
        raise ConfigError(
            f'a client of type {type(client).__name__} has no channel of gRPC: give one such as etcd3.client() makes'
        )
    token = dict(getattr(client, 'metadata', None) or ()).get('token', '')
    kept_open = SimpleNamespace(channel=channel, close=lambda: None, is_outdated=lambda: False)
    return EtcdChannel('the server of the given client', lambda: kept_open, token=token)
