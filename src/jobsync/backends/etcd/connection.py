"""Calls that keep to a deadline, on whichever server of the cluster answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from jobsync.backends.etcd.channel import EtcdChannel
from jobsync.backends.etcd.errors import Refused, not_let_in
from jobsync.backends.etcd.forks import abandon, forget_in_child
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.errors import BackendUnavailable

__all__ = ['Connection']


class Route:
    """To one of the servers.

    A server counts as proven once it has answered a question that it can only answer as a member of a majority.
    """

    def __init__(self, links: tuple[EtcdChannel, ...], probe: Any) -> None:
        self._links = links
        self._probe = probe
        self._first = 0
        self._proven: EtcdChannel | None = None

    @property
    def is_proven(self) -> bool:
        """Whether a server has answered, and none has failed since."""
        return self._proven is not None

    def proven(self, deadline: float) -> EtcdChannel:
        """A server that answers; ``BackendUnavailable`` if none does in time."""
        if (link := self._proven) is not None:
            return link
        error: BackendUnavailable | None = None
        for nth in range(len(self._links)):
            at = (self._first + nth) % len(self._links)
            now = time.monotonic()
            try:
                self._links[at].call('KV.Range', self._probe, now + (deadline - now) / (len(self._links) - nth))
            except Refused as refusal:  # so small a question can only be refused for want of a login
                raise not_let_in(str(refusal), self._links[at].name) from refusal
            except BackendUnavailable as failure:
                error = failure
                continue
            self._first, self._proven = at, self._links[at]
            return self._links[at]
        assert error is not None
        raise error

    def call(self, method: str, request: Any, deadline: float) -> Any:
        """The answer of a proven server, which is asked once."""
        link = self.proven(deadline)
        try:
            return link.call(method, request, deadline)
        except BackendUnavailable:
            if self._proven is link:
                self._proven = None
            raise

    def close(self) -> None:
        """End all calls."""
        for link in self._links:
            link.close()


class Connection:
    """To a cluster. Thread-safe.

    What is to be written is sent once: if that fails, nobody knows whether it has happened.

    A server has ``patience_sec`` for each request, also where the deadline is that of a call of many requests: one that goes on
    may go on, and one that is silent is not waited for any longer.
    """

    def __init__(
        self,
        make_links: Callable[[], tuple[EtcdChannel, ...]],
        probe_key: bytes,
        patience_sec: float,
        *,
        survives_fork: bool = True,
    ) -> None:
        self._make_links = make_links
        self._patience_sec = patience_sec
        self._probe = MESSAGES['RangeRequest'](key=probe_key, count_only=True)
        self._survives_fork = survives_fork
        self._state = 'open'
        self._set_up()
        forget_in_child(self)

    def _set_up(self) -> None:
        self._made: Route | None = None
        self._making = threading.Lock()

    def read(self, method: str, request: Any, deadline: float) -> Any:
        """The answer to a question: if a server fails to answer, another is asked, or it once more."""
        route, deadline = self._route(), self._soon(deadline)
        was_proven = route.is_proven
        try:
            return route.call(method, request, deadline)
        except BackendUnavailable:
            if not was_proven or self._state != 'open' or time.monotonic() >= deadline:
                raise
            return route.call(method, request, deadline)

    def write(self, method: str, request: Any, deadline: float) -> Any:
        """Do something once. After ``BackendUnavailable`` it may or may not have happened."""
        return self._route().call(method, request, self._soon(deadline))

    def proven(self, deadline: float) -> EtcdChannel:
        """A server that answers; ``BackendUnavailable`` if none does in time."""
        return self._route().proven(deadline)

    def close(self) -> None:
        """End all calls, now and for good."""
        with self._making:
            self._state = 'closed'
            route, self._made = self._made, None
        if route is not None:
            route.close()

    def forget(self) -> None:
        """In a forked child: begin anew, with nothing of the parent's."""
        abandon(self._made)
        if self._state == 'open' and not self._survives_fork:
            self._state = 'of the parent process, as is the client it was made with: make both anew after the fork'
        self._set_up()

    def _soon(self, deadline: float) -> float:
        return min(deadline, time.monotonic() + self._patience_sec)

    def _route(self) -> Route:
        if (route := self._made) is not None:
            return route
        with self._making:
            if self._state != 'open':
                raise BackendUnavailable(f'this backend is {self._state}')
            if self._made is None:
                self._made = Route(self._make_links(), self._probe)
            return self._made
