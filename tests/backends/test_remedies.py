"""Errors of a store that an operator meets at night: each says what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest

from jobsync.backends.etcd.state import state_of
from jobsync.backends.sql import state
from jobsync.backends.sql.postgresql import errors as of_postgresql
from jobsync.backends.sql.postgresql.url import server_of
from jobsync.backends.sql.sqlite import errors
from jobsync.errors import SchemaMismatch

SERVER = server_of('postgresql://a@h/d', 5)


def test_an_empty_state() -> None:
    """A start would not make the row anew: it says the same."""
    with pytest.raises(SchemaMismatch, match=r'from a backup, or stop all nodes'):
        state.parse(None)


def test_an_unreadable_state() -> None:
    """The same as of a SQL database."""
    with pytest.raises(SchemaMismatch, match=r'put back what was there, or stop all nodes'):
        state_of(b'?')


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (psycopg.errors.UndefinedTable('gone'), 'jobsync doctor says which'),
        (psycopg.errors.UndefinedColumn('gone'), 'put back what jobsync had made'),
        (psycopg.errors.UndefinedFunction('no = for these types'), 'put back what jobsync had made'),
        (psycopg.errors.CheckViolation('refused'), 'put back what jobsync had made'),
        (psycopg.errors.ReadOnlySqlTransaction('refused'), 'default_transaction_read_only'),
        (psycopg.errors.lookup('25P04')('ended'), 'SET transaction_timeout'),
    ],
)
def test_postgresql(error: psycopg.Error, words: str) -> None:
    """Tables that are not there, or are others, of which doctor knows nothing; no writes are taken, or no long transactions."""
    assert words in str(of_postgresql.translate(error, SERVER))


@pytest.mark.parametrize('code', [sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT_TRIGGER, sqlite3.SQLITE_MISMATCH])
def test_sqlite(code: int) -> None:
    """Tables that are not there, or are others: a trigger that refuses a row is no table that is missing."""
    error = sqlite3.OperationalError('refused')
    error.sqlite_errorcode = code
    said = str(errors.translate(error, Path('jobs.db'), opening=False))
    assert 'put back what jobsync had made' in said
    assert 'jobsync doctor says which' in said
