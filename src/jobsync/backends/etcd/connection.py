"""Calls to whichever server of a cluster answers, each with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends.etcd.channel import EtcdChannel
from jobsync.backends.etcd.errors import Refused, not_let_in
from jobsync.backends.etcd.forks import GATE, hang_up_before_fork
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

__all__ = ['EtcdConnection']

COMPARING_SEC = 0.5
"""How long each other server may take to say which cluster it belongs to. One that says nothing is not compared."""


class EtcdConnection:
    """The servers of a cluster, one of which is called as long as it answers. Thread-safe.

    A server counts as proven once it has answered a question that takes a majority of the members. It has ``patience_sec`` for
    each request, also where the deadline is that of a call of many requests.
    """

    def __init__(
        self,
        make_channels: Callable[[], Sequence[EtcdChannel]],
        probe_key: bytes,
        patience_sec: float,
        *,
        survives_fork: bool = True,
    ) -> None:
        self._make_channels = make_channels
        self._patience_sec = patience_sec
        self._probe = MESSAGES['RangeRequest'](key=probe_key, count_only=True)
        self._survives_fork = survives_fork
        self._channels = make_channels()
        self._first = 0
        """The channel to try first."""
        self._proven: EtcdChannel | None = None
        self._cluster = 0
        """The id of the cluster of the server that was proven last; 0 before any was."""
        hang_up_before_fork(self)
        forget_in_child(self)

    def read(self, method: str, request: Any, deadline: float) -> Any:
        """Return an answer; if a proven server fails, another one or the same is called once more."""
        deadline, was_proven = self._patient(deadline), self._proven is not None
        try:
            return self._call(method, request, deadline)
        except BackendUnavailable:
            if not was_proven or time.monotonic() >= deadline:
                raise
            return self._call(method, request, deadline)

    def write(self, method: str, request: Any, deadline: float) -> Any:
        """Return the answer to a request that is sent once: after ``BackendUnavailable`` it may or may not have happened."""
        return self._call(method, request, self._patient(deadline))

    def proven(self, deadline: float) -> EtcdChannel:
        """Return a channel to a server that answers; raise ``BackendUnavailable`` if none does in time."""
        if (channel := self._proven) is not None:
            return channel
        error: BackendUnavailable | None = None
        for nth in range(len(self._channels)):
            at = (self._first + nth) % len(self._channels)
            channel, now = self._channels[at], time.monotonic()
            try:
                answer = channel.call('KV.Range', self._probe, now + (deadline - now) / (len(self._channels) - nth))
            except Refused as refusal:  # so small a question can only be refused for want of a login
                raise not_let_in(str(refusal), channel.name) from refusal
            except BackendUnavailable as failure:
                error = failure
                continue
            if answer.header.cluster_id != self._cluster:
                self._compare(channel, answer.header.cluster_id, deadline)
            self._first, self._proven, self._cluster = at, channel, answer.header.cluster_id
            return channel
        raise BackendUnavailable(str(error)) from error

    def _compare(self, proven: EtcdChannel, cluster: int, deadline: float) -> None:
        """Raise ``ConfigError`` if another server answers that belongs to another cluster."""
        # t=0  the URL names servers of two clusters; all nodes call the first one
        # t=1  node a cannot reach that for a moment, and goes on with the second one, where no other node is
        # t=2  a owns all tokens there, and after its timeout the others own them here
        for other in self._channels:
            if other is proven:
                continue
            try:
                found = other.call('KV.Range', self._probe, min(deadline, time.monotonic() + COMPARING_SEC)).header.cluster_id
            except JobsyncError:
                continue
            if found != cluster:
                raise ConfigError(
                    f'the servers of the URL are of different etcd clusters: {proven.name} of {cluster:x}, '
                    f'{other.name} of {found:x}; name the members of one cluster only'
                )

    def close(self) -> None:
        """End all calls, now and for good."""
        for channel in self._channels:
            channel.close('closed')
        # t=0  the thread of the watch reads what gRPC still has for it, under a lock of gRPC's
        # t=1  the program ends: that thread stops where it is, and the lock stays taken
        # t=2  as the interpreter frees an object of gRPC's, that closes its channel once more: it waits for the lock for ever
        GATE.wait_for_calls(self._channels)

    def hang_up(self) -> None:
        """Close all channels before a fork; the next call opens new ones."""
        for channel in self._channels:
            channel.hang_up()

    def forget(self) -> None:
        """See ``Forgetful``."""
        abandon(self._channels)
        refusal = self._channels[0].refusal
        if not self._survives_fork:
            refusal = refusal or 'of the parent process, as is the client it was made with: make both anew after the fork'
        self._channels, self._proven = self._make_channels(), None
        for channel in self._channels if refusal else ():
            channel.close(refusal)

    def _call(self, method: str, request: Any, deadline: float) -> Any:
        channel = self.proven(deadline)
        try:
            return channel.call(method, request, deadline)
        except BackendUnavailable:
            if self._proven is channel:
                self._proven = None
            raise

    def _patient(self, deadline: float) -> float:
        return min(deadline, time.monotonic() + self._patience_sec)
