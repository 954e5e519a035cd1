"""The results of the work as a table, which can be checked with ``wc`` and ``sha256sum``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from jobsync.testing.worker_log import WorkerLog

__all__ = ['save_results']

_TABLE = """
create table result (
    file text not null,
    node text not null,
    lines integer not null,
    words integer not null,
    sha256 text not null,
    error text not null,
    begun real not null,
    finished real not null,
    primary key (file, node, finished)
)
"""


def save_results(path: Path, logs: Iterable[WorkerLog]) -> None:
    """Write all results of all workers into a new SQLite file. A file that was done twice has two rows."""
    rows = [
        (w.task, w.node, w.result['lines'], w.result['words'], w.result['sha256'], w.result['error'], w.begin, w.end)
        for log in logs
        for w in log.works
        if w.end is not None
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_TABLE)
        connection.executemany('insert into result values (?, ?, ?, ?, ?, ?, ?, ?)', rows)
