"""Engines whose connections may be returned at the moment at which a signal handler ends the program."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, Pool, create_engine

from jobsync.backend import Diverted

__all__ = ['autocommitting']

NAME = 'jobsync'


class _NoExits(logging.Filter):
    """Drops what SQLAlchemy logs, with a traceback, when a signal handler's exit passes through its pool.

    The exception (SystemExit, KeyboardInterrupt) is still raised, and the connection is closed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or issubclass(kind, Exception)


def autocommitting(dialect: str, connect: Callable[[], Any], pool: type[Pool], **options: Any) -> Engine:
    """Return an engine whose connections are made by ``connect``, and begin transactions only by our own statements."""
    logger = logging.getLogger(f'{pool.__module__}.{pool.__name__}.{NAME}')
    for each in (_LEAVING, _DIVERTED):
        logger.addFilter(each)
    return create_engine(
        f'{dialect}://', creator=connect, poolclass=pool, pool_logging_name=NAME, isolation_level='AUTOCOMMIT', **options
    )


_LEAVING, _DIVERTED = _NoExits(), Diverted()
