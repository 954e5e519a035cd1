"""Connections to the server: few, each call within its time, none shared with a forked process.

redis-py's own pool is not used: it retries for seconds, and its timeouts are the same for every call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections import deque
from collections.abc import Callable
from ctypes import py_object, pythonapi
from typing import Any, TypeVar

import redis
from redis.connection import AbstractConnection

from jobsync.backends.redis.connection import Deadline, close, exchange, is_stale, opened
from jobsync.backends.redis.errors import translated
from jobsync.backends.redis.script import Script
from jobsync.backends.redis.sentinel import master_of
from jobsync.backends.redis.url import RedisServer
from jobsync.errors import BackendUnavailable

__all__ = ['RedisPool', 'abandon']

T = TypeVar('T')

BUSY_SEC = 6.0
"""After five seconds of a script a server tells others that it is busy, unless it is configured otherwise."""


class RedisPool:
    """The way to one server. Thread-safe. Keeps one idle connection; calls at once have more, for as long as they run."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._closed = False
        self._set_up()
        _links.add(self)

    def _set_up(self) -> None:
        # No lock guards it: a signal handler that leaves the job may interrupt whoever holds that.
        self._idle: deque[AbstractConnection] = deque()
        self._moved: tuple[str, int] | None = None

    def run(self, script: Script, deadline: Deadline, *words: object) -> Any:
        """The answer of a script, called with ``Script.words``."""

        def call(connection: AbstractConnection) -> Any:
            try:
                return exchange(connection, deadline, 'EVALSHA', script.digest, *words, is_busy=is_busy)
            except redis.exceptions.NoScriptError:
                return exchange(connection, deadline, 'EVAL', script.source, *words, is_busy=is_busy)

        is_busy = functools.partial(self._is_busy, deadline) if deadline.is_for_bulk else None

        return self._with_connection(deadline, call)

    def command(self, deadline: Deadline, *words: object) -> Any:
        """The answer of a plain command."""
        return self._with_connection(deadline, lambda connection: exchange(connection, deadline, *words))

    def _is_busy(self, call: Deadline) -> bool:
        """Ask on another connection whether the server is running a script; else it is done with all that it was asked.

        Raises what any call raises if nothing answers there.
        """
        deadline = Deadline(min(call.left, max(call.silence_sec, BUSY_SEC)), call.silence_sec)
        try:
            connection = self.connect(deadline)
            try:
                exchange(connection, deadline, 'TIME')
            finally:
                close(connection)
        except redis.ResponseError:
            return True  # why else refuse a client that it served a moment ago
        return False

    def connect(self, deadline: Deadline) -> AbstractConnection:
        """A connection for the caller alone, who closes it."""
        address: dict[str, Any] = {}
        if self.server.sentinels:
            address['host'], address['port'] = master_of(self.server.sentinels, self.server.connection_class, deadline)
        elif self._moved:
            address['host'], address['port'] = self._moved
        try:
            return opened(self.server.connection_class, {**self.server.parameters, **address}, deadline)
        except (redis.ConnectionError, redis.TimeoutError):
            # The node that has the slot is gone: the one in the URL knows who has it now.
            self._moved = None
            raise

    def close(self) -> None:
        """Close the idle connection; those in use are closed by their calls."""
        self._closed = True
        self._trim(0)

    def forget(self) -> None:
        """In a forked child: go on with nothing that the parent has open."""
        abandon(self._idle)
        self._set_up()

    def _with_connection(self, deadline: Deadline, call: Callable[[AbstractConnection], T]) -> T:
        with translated(self.server):
            try:
                return self._once(deadline, call)
            except redis.ResponseError as error:
                moved = moved_to(error)
                if moved is None:
                    raise
                # A refused script has not run: it may go to the node of the cluster that has its keys.
                self._moved = moved
                self._trim(0)
                return self._once(deadline, call)

    def _once(self, deadline: Deadline, call: Callable[[AbstractConnection], T]) -> T:
        if self._closed:
            raise BackendUnavailable(f'this backend on {self.server} is closed')
        connection = self._taken()
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

    def _taken(self) -> AbstractConnection | None:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _keep(self, connection: AbstractConnection) -> None:
        """Make a connection idle, if there is none yet and the link is open."""
        self._idle.append(connection)
        self._trim(0 if self._closed else 1)

    def _trim(self, count: int) -> None:
        """Close idle connections beyond so many."""
        while len(self._idle) > count and (spare := self._taken()) is not None:
            close(spare)


def moved_to(error: redis.ResponseError) -> tuple[str, int] | None:
    """The node of a cluster that a client is sent to, if that is what the error says: ``MOVED slot host:port``."""
    if isinstance(error, redis.exceptions.MovedError):
        return error.host, error.port
    code, *words = str(error).split()  # redis-py before 6 knows the code in clients for clusters only
    if code != 'MOVED':
        return None
    host, _, port = words[-1].rpartition(':')
    return host, int(port)


def abandon(thing: object) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))


_links: weakref.WeakSet[RedisPool] = weakref.WeakSet()


def _forget_all() -> None:
    for link in list(_links):
        link.forget()


os.register_at_fork(after_in_child=_forget_all)
