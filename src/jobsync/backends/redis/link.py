"""Connections to the server: few, each call within its time, none shared with a forked process.

redis-py's own pool is not used: it retries for seconds, and its timeouts are the same for every call.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from ctypes import py_object, pythonapi
from typing import Any, TypeVar

import redis
from redis.connection import AbstractConnection

from jobsync.backends.redis.connection import Deadline, close, exchange, is_stale, opened
from jobsync.backends.redis.errors import translated
from jobsync.backends.redis.script import Script
from jobsync.backends.redis.sentinel import master_of
from jobsync.backends.redis.url import Server
from jobsync.errors import BackendUnavailable

__all__ = ['Link', 'abandon']

T = TypeVar('T')


class Link:
    """The way to one server. Thread-safe. Keeps one idle connection; calls at once have more, for as long as they run."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._closed = False
        self._set_up()
        _links.add(self)

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._idle: AbstractConnection | None = None
        self._moved: tuple[str, int] | None = None

    def run(self, script: Script, deadline: Deadline, *words: object) -> Any:
        """The answer of a script, called with ``Script.words``."""

        def call(connection: AbstractConnection) -> Any:
            try:
                return exchange(connection, deadline, 'EVALSHA', script.digest, *words)
            except redis.exceptions.NoScriptError:
                return exchange(connection, deadline, 'EVAL', script.source, *words)

        return self._with_connection(deadline, call)

    def command(self, deadline: Deadline, *words: object) -> Any:
        """The answer of a plain command."""
        return self._with_connection(deadline, lambda connection: exchange(connection, deadline, *words))

    def connect(self, deadline: Deadline) -> AbstractConnection:
        """A connection for the caller alone, who closes it."""
        address: dict[str, Any] = {}
        if self.server.sentinels:
            address['host'], address['port'] = master_of(self.server.sentinels, self.server.connection_class, deadline)
        elif self._moved:
            address['host'], address['port'] = self._moved
        try:
            return opened(self.server.connection_class, {**self.server.parameters, **address}, deadline)
        except redis.ConnectionError:
            # The node that has the slot is gone: the one in the URL knows who has it now.
            self._moved = None
            raise

    def close(self) -> None:
        """Close the idle connection; those in use are closed by their calls."""
        self._closed = True
        self._keep(None)

    def forget(self) -> None:
        """In a forked child: go on with nothing that the parent has open."""
        abandon(self._idle)
        self._set_up()

    def _with_connection(self, deadline: Deadline, call: Callable[[AbstractConnection], T]) -> T:
        with translated(self.server):
            try:
                return self._once(deadline, call)
            except redis.exceptions.AskError as error:
                if not isinstance(error, redis.exceptions.MovedError):
                    raise
                # A refused script has not run: it may go to the node of the cluster that has its keys.
                self._moved = error.host, error.port
                self._keep(None)
                return self._once(deadline, call)

    def _once(self, deadline: Deadline, call: Callable[[AbstractConnection], T]) -> T:
        if self._closed:
            raise BackendUnavailable(f'this backend on {self.server} is closed')
        with self._lock:
            connection, self._idle = self._idle, None
        if connection is not None and is_stale(connection):
            close(connection)
            connection = None
        if connection is None:
            connection = self.connect(deadline)
        try:
            answer = call(connection)
        except BaseException as error:
            # After a mere refusal the connection is as good as before, unless it is that of a server that lost its rank.
            if isinstance(error, redis.ResponseError) and not isinstance(error, redis.exceptions.ReadOnlyError):
                self._keep(connection)
            else:
                close(connection)
            raise
        self._keep(connection)
        return answer

    def _keep(self, connection: AbstractConnection | None) -> None:
        """Make a connection the idle one if there is none yet, else close it; None closes the one there is."""
        with self._lock:
            if connection is None or self._closed:
                spare = [self._idle, connection]
                self._idle = None
            elif self._idle is None:
                spare, self._idle = [], connection
            else:
                spare = [connection]
        for each in spare:
            if each is not None:
                close(each)


def abandon(thing: object) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _forget_all() -> None:
    for link in list(_links):
        link.forget()


os.register_at_fork(after_in_child=_forget_all)
