"""gRPC's errors as those of jobsync, by their status."""

from __future__ import annotations

import os

import grpc

from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

__all__ = ['MAYBE_STALE_TOKEN', 'STALE_TOKEN', 'Compacted', 'Late', 'Refused', 'TooLarge', 'not_let_in', 'translate']

STALE_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)
"""How etcd refuses a token that has expired, or is from before a change of users or rights. Then nothing has happened."""
MAYBE_STALE_TOKEN = grpc.StatusCode.UNKNOWN
"""How etcd 3.5 refuses a token from before such a change: with a status that may mean anything else as well."""

UNREACHED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
NO_LOGIN = 'does not accept this login, or requires one: check user and password in the URL'
REFUSED = {
    grpc.StatusCode.UNAUTHENTICATED: NO_LOGIN,
    grpc.StatusCode.PERMISSION_DENIED: 'denies this user the keys of the namespace: grant its role readwrite to them',
}
PROXIES = ('grpc_proxy', 'https_proxy', 'http_proxy')
"""The variables of the environment that may give gRPC a proxy, in its order."""
FULL = 'compact it, defragment its members and disarm the alarm with etcdctl, or give it more with --quota-backend-bytes'
LARGE = (
    'raise --max-request-bytes of the server if it is below its default of 1.5 MiB, or grpc.max_receive_message_length of a '
    'client of your own'
)
MANY = 'raise --max-txn-ops of the server if it is below its default of 128'
FILES = 'ca, cert and key in the URL must be files in PEM, of which cert and key are a pair'
CERTIFICATE = (
    "the server does not accept this client's certificate, which may have expired, or wants one: give the client's certificate "
    'as cert and key in the URL'
)
AWAY = (
    'if this goes on, the server, or most members of the cluster that it belongs to, may be away: etcdctl endpoint status shows '
    'which members answer, and whether one leads'
)
GIVEN_UP = 'the connection was given up, since another call over it had no answer'
CORRUPT = (
    'the data of a member are not those of the others: find it by etcdctl endpoint hashkv --cluster, remove it, add it anew with '
    'an empty folder, and disarm the alarm with etcdctl'
)
LEARNER = 'this member is a learner, which serves no client: name members that vote in the URL, or etcdctl member promote it'
HINTS = {
    'larger than max': LARGE,
    'request is too large': LARGE,
    'too many operations': MANY,
    'space exceeded': FULL,
    'Failed to create security handshaker': FILES,
    '_ALERT_BAD_CERTIFICATE': CERTIFICATE,
    'Deadline Exceeded': AWAY,
    'context deadline exceeded': AWAY,
    'no leader': AWAY,
    'request timed out': AWAY,
    'Channel closed': GIVEN_UP,
    'corrupt cluster': CORRUPT,
    'not supported for learner': LEARNER,
}
"""What to do, by what the server or gRPC says. A server that is busy exhausts resources too (``too many requests``)."""


class Compacted(BackendUnavailable):
    """The revision of etcd that was to be read is no longer kept; a later one is."""


class Late(BackendUnavailable):
    """No answer came in time for one request, or not all of it: over a slow line a smaller one may."""


class TooLarge(BackendUnavailable):
    """The server's space, or what a channel may carry in one message, does not suffice."""


class Refused(BackendUnavailable):
    """The server refuses a request: it is too large, or there is no login. A small request shows which."""


def not_let_in(details: str, server: str) -> ConfigError:
    """Return the error for a login that the server does not accept."""
    return ConfigError(f'etcd at {server} {NO_LOGIN} ({details})')


def translate(error: grpc.RpcError, server: str) -> JobsyncError:
    """Return the error to raise instead of gRPC's."""
    code, details = error.code(), error.details()
    if code in REFUSED:
        return ConfigError(f'etcd at {server} {REFUSED[code]} ({details})')
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TooLarge(f'etcd at {server}: {details}{_hint(details)}')
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return Refused(f'etcd at {server} refuses this request ({details}){_hint(details)}')
    if code == grpc.StatusCode.OUT_OF_RANGE:
        return Compacted(f'etcd at {server}: {details}')
    kind = Late if code == grpc.StatusCode.DEADLINE_EXCEEDED else BackendUnavailable
    return kind(f'etcd at {server}: {code.name}: {details}{_hint(details)}{_proxy() if code in UNREACHED else ""}')


def _hint(details: object) -> str:
    """Return what to add to what the server says."""
    return next((f'; {hint}' for said, hint in HINTS.items() if said in str(details)), '')


def _proxy() -> str:
    """Return what to add where a server was not reached, and the environment has a proxy between."""
    if (variable := next(filter(os.environ.get, PROXIES), None)) is None:
        return ''
    return f'; the environment has {variable}, and gRPC connects by way of that proxy, unless no_proxy has the host'
