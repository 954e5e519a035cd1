"""A transaction that only reads a SQLite file, and stays open while the nodes write."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.testing.conformance.namespace import Namespace

DOCS = Path(__file__).parents[2] / 'docs'
BEATS = 1200
"""More than SQLite takes as a reason to move its log into the database: 1,000 pages."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    """A file of its own."""
    with closing(SqliteHarness(tmp_path)) as found:
        yield found


def test_the_log_grows_until_it_is_over(harness: SqliteHarness) -> None:
    """Each heartbeat adds as much to ``-wal`` as the page of the stores says, and none does once the reading is over."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    log = harness.path.with_name('jobs.db-wal')

    def grown(beats: int) -> int:
        before = log.stat().st_size
        for _ in range(beats):
            namespace.beat(ref)
        return log.stat().st_size - before

    with closing(sqlite3.connect(harness.path, isolation_level=None)) as reader:
        reader.execute('BEGIN')
        reader.execute('SELECT count(*) FROM sync_node').fetchall()
        added = grown(BEATS) / BEATS
        reader.execute('COMMIT')
    grown(2)  # the first moves what is in the log into the database, and the second begins the log anew
    assert grown(BEATS // 2) == 0

    page = (DOCS / 'backends.md').read_text(encoding='utf-8')
    said = re.search(r'each heartbeat adds about ([0-9]+) kB to `-wal`', page)
    assert said is not None
    assert round(added / 1000) == int(said[1])
