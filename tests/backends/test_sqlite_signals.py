"""What a signal's handler raises while SQLite works in the main thread."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.cursor import CursorResult
from sqlalchemy.engine.default import DefaultExecutionContext
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.sqlite import store as sqlite_store
from jobsync.backends.sql.store import Mode
from jobsync.database.connection import Connection
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

COUNT = sa.text('WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < :most) SELECT count(*) FROM n')


class AlarmError(BaseException):
    """What the handler raises."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite_store.SqliteStore]:
    """A store that compares the clock with the deadline all the time."""
    monkeypatch.setattr(sqlite_store, 'PROGRESS_STEPS', 1)
    harness = SqliteHarness(tmp_path)
    backend = harness.connect()
    backend.open(SETTINGS, True)
    assert isinstance(backend, SqlBackend)
    assert isinstance(backend.store, sqlite_store.SqliteStore)
    yield backend.store
    harness.close()


@pytest.mark.usefixtures('no_collections')
def test_it_is_raised(store: sqlite_store.SqliteStore) -> None:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for turn in range(10):
            with pytest.raises(AlarmError):  # before the alarm is set: on a busy machine it may ring at once
                signal.setitimer(signal.ITIMER_REAL, 0.005 + 0.001 * turn)
                with store.transaction(Mode.READ, time.monotonic() + 100) as tx:
                    while True:
                        tx.connection.execute(COUNT, {'most': 20_000})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_statement_ends_with_the_time_for_the_call(store: sqlite_store.SqliteStore) -> None:
    with pytest.raises(BackendUnavailable), store.transaction(Mode.READ, time.monotonic() + 0.2) as tx:
        tx.connection.execute(COUNT, {'most': 10**12})


@pytest.mark.usefixtures('no_collections')
def test_a_call_that_ends_after_a_statement_leaves_no_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler raises while SQLAlchemy takes a statement's result ends the transaction: other handles write at once."""
    harness = SqliteHarness(tmp_path)
    namespace, other = Namespace(harness.connect()), Namespace(harness.connect(op_timeout_sec=1.0))
    ref = namespace.join('a')

    def ring(_result: object, *_arguments: object) -> None:
        raise AlarmError

    with monkeypatch.context() as patch, pytest.raises(AlarmError):
        patch.setattr(CursorResult, '_init_metadata', ring)
        namespace.beat(ref)
    assert other.beat(ref).heartbeat == 1
    assert namespace.beat(ref).heartbeat == 2
    harness.close()


@pytest.mark.usefixtures('no_collections')
@pytest.mark.parametrize('in_transaction', [False, True])
@pytest.mark.parametrize('kind', [AlarmError, TimeoutError])
@pytest.mark.parametrize(('place', 'step'), [(CursorResult, 'fetchall'), (DefaultExecutionContext, 'get_result_processor')])
def test_a_users_statement_that_is_cut_short_keeps_no_writer_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: type, step: str, kind: type[BaseException], in_transaction: bool
) -> None:
    """Also as long as the program has the exception: its traceback has the cursor of a statement whose rows were not taken."""
    harness = SqliteHarness(tmp_path)
    backend = harness.connect(op_timeout_sec=1.0)
    assert isinstance(backend, SqlBackend)
    namespace = Namespace(backend)
    ref = namespace.join('a')
    mine = Connection(backend.store.connection, lambda action: action())
    mine.execute('CREATE TABLE mine (x INTEGER)')

    def ring(*_: object) -> None:
        raise kind

    with monkeypatch.context() as patch, pytest.raises(kind) as caught:
        patch.setattr(place, step, ring)
        with mine.transaction() if in_transaction else nullcontext():
            mine.query('INSERT INTO mine VALUES (1), (2) RETURNING x')
    assert namespace.beat(ref).heartbeat == 1
    assert caught.tb is not None
    harness.close()


@pytest.mark.usefixtures('no_collections')
def test_a_call_that_is_cut_short_leaves_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the program has the exception, -wal would grow: it is emptied only where no statement reads an older state."""
    harness = SqliteHarness(tmp_path)
    namespace, other = Namespace(harness.connect()), Namespace(harness.connect())
    ref = namespace.join('a')

    def ring(result: object, *_arguments: object) -> None:
        def of_a_closure() -> None:
            raise AlarmError if result else AssertionError

        of_a_closure()

    with monkeypatch.context() as patch, pytest.raises(AlarmError) as caught:
        patch.setattr(CursorResult, '_init_metadata', ring)
        namespace.beat(ref)
    other.join('b')
    reader = sqlite3.connect(tmp_path / 'jobs.db')
    busy, *_ = reader.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
    assert not busy
    assert caught.tb is not None
    reader.close()
    harness.close()
