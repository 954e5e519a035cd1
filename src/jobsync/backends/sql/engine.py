"""Engines whose connections may be taken and returned at a moment at which an exception from outside ends the call.

A signal's handler raises in the main thread, and what ends work that takes too long may raise in any (``func_timeout``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, Pool, QueuePool, create_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import queue

from jobsync.backend import Diverted

__all__ = ['IdlePool', 'PrivatePool', 'autocommitting']

NAME = 'jobsync'


class _NoExits(logging.Filter):
    """Drops what SQLAlchemy logs, with a traceback, when a signal handler's exit passes through its pool.

    The exception (SystemExit, KeyboardInterrupt) is still raised, and the connection is closed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or issubclass(kind, Exception)


class _IdleConnections(queue.QueueCommon[Any]):
    """The idle connections of a pool, in a queue that has no lock."""

    # t=0  a thread of the user's takes a connection: it has just taken the lock of the queue of SQLAlchemy's pool
    # t=1  an exception from outside is raised there, before the block of the lock has begun: the lock is never released
    # t=2  the threads of the node wait for that lock for ever, and so does the end of the block
    # Each step on a deque is one for all threads. Of two that return a connection at once, both may be kept.

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self._idle: deque[Any] = deque()

    def qsize(self) -> int:
        return len(self._idle)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 - never waits
        if len(self._idle) >= self.maxsize:
            raise queue.Full
        self._idle.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002 - never waits
        try:
            return self._idle.popleft()
        except IndexError:
            raise queue.Empty from None


class IdlePool(QueuePool):
    """A ``QueuePool`` for a ``max_overflow`` of -1, which takes no lock, and keeps no connection once it was disposed of."""

    _queue_class = _IdleConnections
    _sqla_logger_namespace = f'{QueuePool.__module__}.{QueuePool.__name__}'
    _is_disposed = False

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        # t=0  a thread is about to return a connection
        # t=1  another thread disposes of the pool, which closes the connections that it finds
        # t=2  the first one returns the connection: it would stay open until the collector of garbage finds the pool
        if self._is_disposed:
            self.dispose()

    def dispose(self) -> None:
        """Close the connections, and each that is returned from now on."""
        self._is_disposed = True
        super().dispose()


class PrivatePool(IdlePool):
    """A pool for statements of jobsync's own, of which a program that listens to all engines of its process learns nothing.

    A program may do so to change every connection: SQLAlchemy's documentation gives such listeners for SQLite. One that sets
    ``PRAGMA synchronous`` would have a node lose what it has acknowledged, another begins a transaction within ours.
    """

    _sa_propagate_class_events = False


def autocommitting(dialect: str, connect: Callable[[], Any], pool: type[Pool], **options: Any) -> Engine:
    """Return an engine whose connections are made by ``connect``, and begin transactions only by our own statements."""
    name = getattr(pool, '_sqla_logger_namespace', None) or f'{pool.__module__}.{pool.__name__}'
    logger = logging.getLogger(f'{name}.{NAME}')
    for each in (_LEAVING, _DIVERTED):
        logger.addFilter(each)
    engine = create_engine(
        f'{dialect}://', creator=connect, poolclass=pool, pool_logging_name=NAME, isolation_level='AUTOCOMMIT', **options
    )
    if issubclass(pool, PrivatePool):
        engine._has_events = engine.dialect._has_events = False
    return engine


_LEAVING, _DIVERTED = _NoExits(), Diverted()
