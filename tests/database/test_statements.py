"""Statements over the user's connection: the same on each database."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.exc
from tests.job.stores import Store

import jobsync.database as db
from jobsync import CoordinationConfig, Job, JobsyncError, UnsupportedOperation
from jobsync.errors import ConfigError


def fill(cn: db.Connection, *names: str) -> None:
    """Tasks 1, 2, … of these names."""
    db.insert_rows(cn, 'tasks', [{'task_id': number, 'name': name} for number, name in enumerate(names, 1)])


def add(cn: db.Connection, name: str) -> None:
    """One more task."""
    db.execute(cn, 'INSERT INTO tasks (task_id, name) SELECT coalesce(max(task_id), 0) + 1, CAST(%s AS TEXT) FROM tasks', name)


def test_what_is_no_connection() -> None:
    """A job in place of its connection, and a connection of a driver, are refused by name."""
    raw: Any = sqlite3.connect(':memory:')
    job: Any = Job('a', coordination_config=CoordinationConfig(backend='memory://'))
    calls: list[Callable[[Any], object]] = [
        lambda cn: db.select(cn, 'SELECT 1'),
        lambda cn: db.select_row(cn, 'SELECT 1'),
        lambda cn: db.select_column(cn, 'SELECT 1'),
        lambda cn: db.select_scalar(cn, 'SELECT 1'),
        lambda cn: db.execute(cn, 'SELECT 1'),
        lambda cn: db.insert_rows(cn, 'o', []),
        lambda cn: db.insert_rows(cn, 'o', [{'a': 1}]),
        db.transaction,
    ]
    for call in calls:
        for wrong in (job, raw, None):
            with pytest.raises(ConfigError, match=r'cn is .*must be a connection of jobsync\.database, such as job\._cn'):
                call(wrong)
    raw.close()


def test_select(cn: db.Connection) -> None:
    """The rows of a query can be counted, looped over, asked for as records, and asked whether there are any."""
    fill(cn, 'a', 'b')
    rows = db.select(cn, 'SELECT task_id, name FROM tasks ORDER BY task_id DESC')
    records = [{'task_id': 2, 'name': 'b'}, {'task_id': 1, 'name': 'a'}]
    assert rows.to_dict('records') == rows.to_dict() == list(rows) == records
    assert (len(rows), bool(rows), rows.columns) == (2, True, ('task_id', 'name'))
    nothing = db.select(cn, 'SELECT task_id FROM tasks WHERE task_id > %s', 5)
    assert (len(nothing), bool(nothing), nothing.to_dict('records'), nothing.columns) == (0, False, [], ('task_id',))
    with pytest.raises(ConfigError, match="must be 'records'"):
        rows.to_dict('list')


def test_parts_of_a_result(cn: db.Connection) -> None:
    """One row, one column, one value; None where there is none."""
    fill(cn, 'a', 'b')
    assert db.select_row(cn, 'SELECT * FROM tasks WHERE task_id = %s', 2) == {'task_id': 2, 'name': 'b', 'at': None, 'day': None}
    assert db.select_row(cn, 'SELECT * FROM tasks WHERE task_id = %s', 3) is None
    assert db.select_column(cn, 'SELECT name FROM tasks ORDER BY task_id') == ['a', 'b']
    assert db.select_scalar(cn, 'SELECT COUNT(*) FROM tasks WHERE name = %s', 'b') == 1
    assert db.select_scalar(cn, 'SELECT name FROM tasks WHERE task_id = %s', 3) is None


def test_a_statement_of_a_signal_handler(cn: db.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement may interrupt another one at its very end, when that gives its connection back, as a signal's handler does."""
    close, answers = sqlalchemy.Connection.close, list[int]()

    def interrupted(connection: sqlalchemy.Connection) -> None:
        monkeypatch.setattr(sqlalchemy.Connection, 'close', close)
        answers.append(db.select_scalar(cn, 'SELECT 2'))
        connection.close()

    def work() -> None:
        monkeypatch.setattr(sqlalchemy.Connection, 'close', interrupted)
        answers.append(db.select_scalar(cn, 'SELECT 1'))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert answers == [2, 1]


def test_execute(cn: db.Connection) -> None:
    """A statement that writes says how many rows it wrote, be it with RETURNING."""
    fill(cn, 'a', 'b', 'c')
    assert db.execute(cn, 'UPDATE tasks SET name = %s WHERE task_id > %s', 'x', 1) == 2
    assert db.execute(cn, 'DELETE FROM tasks WHERE task_id = 7') == 0
    assert db.execute(cn, 'DELETE FROM tasks RETURNING task_id') == 3


def test_insert_rows(cn: db.Connection) -> None:
    """All rows or none; a name that needs quotes gets them."""
    db.execute(cn, 'CREATE TABLE "Order" ("from" INTEGER PRIMARY KEY, "a%b" TEXT)')
    assert db.insert_rows(cn, 'Order', [{'from': number, 'a%b': '%s'} for number in range(500)]) == 500
    assert db.insert_rows(cn, 'Order', []) == 0
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        db.insert_rows(cn, 'Order', [{'from': 500, 'a%b': 'new'}, {'from': 0, 'a%b': 'there already'}])
    with pytest.raises(ConfigError, match='all must have the columns'):
        db.insert_rows(cn, 'Order', [{'from': 500, 'a%b': 'new'}, {'from': 501}])
    assert db.select_column(cn, 'SELECT "a%b" FROM "Order"') == ['%s'] * 500


def test_insert_rows_of_a_query(cn: db.Connection) -> None:
    """What a query returned, and what a generator yields, can be inserted; what are no mappings is refused, and says so."""
    fill(cn, 'a', 'b')
    db.execute(cn, 'CREATE TABLE copy (task_id INTEGER, name TEXT)')
    assert db.insert_rows(cn, 'copy', db.select(cn, 'SELECT task_id, name FROM tasks')) == 2
    assert db.insert_rows(cn, 'copy', ({'task_id': number} for number in (3, 4))) == 2
    wrong: list[Any] = [{'task_id': 5}, [(5, 'c')], 5, 'task_id']
    for rows in wrong:
        with pytest.raises(ConfigError, match='must be a list of mappings by column'):
            db.insert_rows(cn, 'copy', rows)
    assert sorted(db.select_column(cn, 'SELECT task_id FROM copy')) == [1, 2, 3, 4]


def test_insert_rows_where_names_have_percent_signs(cn: db.Connection) -> None:
    """Names are taken as they are, two percent signs and what resembles a placeholder included."""
    db.execute(cn, 'CREATE TABLE "50%%" ("a%%b" INTEGER, "%s" INTEGER, "%(c)s" INTEGER)')
    assert db.insert_rows(cn, '50%%', [{'a%%b': 1, '%s': 2, '%(c)s': 3}]) == 1
    assert list(db.select(cn, 'SELECT * FROM "50%%"')) == [{'a%%b': 1, '%s': 2, '%(c)s': 3}]


def test_percent_signs(cn: db.Connection) -> None:
    """Without values the statement is the database's own; with values a percent sign in quotes may be single or double."""
    fill(cn, 'prod-1', 'test-1', '%s')
    assert db.select_column(cn, "SELECT task_id FROM tasks WHERE name LIKE 'prod-%'") == [1]
    assert db.select_scalar(cn, "SELECT '%%' || (7 % 4)") == '%%3'
    for pattern in ('prod-%', 'prod-%%'):
        assert db.select_column(cn, f"SELECT task_id FROM tasks WHERE name LIKE '{pattern}' AND task_id < %s", 9) == [1]
    assert db.select_column(cn, "SELECT task_id FROM tasks WHERE name = '%s' AND task_id %% 2 = %s", 1) == [3]


def test_tuples(cn: db.Connection) -> None:
    """``IN %s`` takes a tuple, which may be empty."""
    fill(cn, 'a', 'b', 'c')
    sql = 'SELECT name FROM tasks WHERE task_id IN %s AND name <> %s ORDER BY task_id'
    assert db.select_column(cn, sql, (1, 2, 3), 'b') == ['a', 'c']
    assert db.select_column(cn, sql, (), 'b') == []


def test_an_empty_tuple(cn: db.Connection) -> None:
    """No row is in it, and every row is not."""
    db.insert_rows(cn, 'tasks', [{'task_id': 1, 'name': 'a'}, {'task_id': 2, 'name': None}])
    for condition, found in (('{} IN %s', []), ('{} NOT IN %s', [1, 2]), ('NOT {} IN %s', [1, 2]), ('NOT ({} NOT IN %s)', [])):
        for column in ('task_id', 'name'):
            sql = f'SELECT task_id FROM tasks WHERE {condition.format(column)} AND task_id < %s ORDER BY task_id'
            assert db.select_column(cn, sql, (), 3) == found, sql


def test_percent_signs_where_no_value_is_left(cn: db.Connection) -> None:
    """An empty tuple is no value for the driver, and a percent sign stays one all the same."""
    sql = "SELECT 5 %% 3 AS rest, '%%' AS two, '5%' AS one WHERE 1 NOT IN %s"
    assert db.select_row(cn, sql, ()) == {'rest': 2, 'two': '%', 'one': '5%'}


def test_lists(cn: db.Connection, store: Store) -> None:
    """A list is one value: an array on PostgreSQL, JSON on SQLite."""
    fill(cn, 'a', 'b', 'c')
    among = 'IN (SELECT value FROM json_each(%s))' if store.handle.info.name == 'sqlite' else '= ANY(%s)'
    assert db.select_column(cn, f'SELECT name FROM tasks WHERE task_id {among} ORDER BY 1', [1, 3]) == ['a', 'c']


@pytest.mark.parametrize('value', [True, 2.5, 'x', None, b'\x00'])
def test_plain_values(cn: db.Connection, store: Store, value: Any) -> None:
    """What both databases have comes back as it was."""
    kinds = {bool: 'BOOLEAN', float: 'DOUBLE PRECISION', str: 'TEXT', type(None): 'TEXT', bytes: 'BYTEA'}
    db.execute(cn, f'CREATE TABLE kept (value {kinds[type(value)]})')
    db.execute(cn, 'INSERT INTO kept VALUES (%s)', value)
    assert db.select_scalar(cn, 'SELECT value FROM kept WHERE value IS NOT DISTINCT FROM %s', value) == value or value is None


def test_values_of_richer_types(cn: db.Connection) -> None:
    """Decimals and UUIDs are found again by what they were written as."""
    db.execute(cn, 'CREATE TABLE kept (price NUMERIC, id UUID)')
    key = uuid.uuid4()
    db.execute(cn, 'INSERT INTO kept VALUES (%s, %s)', decimal.Decimal('2.50'), key)
    assert db.select_scalar(cn, 'SELECT count(*) FROM kept WHERE price = %s AND id = %s', decimal.Decimal('2.5'), key) == 1


def test_dates(cn: db.Connection) -> None:
    """A date is found by the same date, and by no other."""
    today = dt.date.today()
    db.insert_rows(cn, 'tasks', [{'task_id': days, 'day': today - dt.timedelta(days)} for days in range(3)])
    assert db.select_column(cn, 'SELECT task_id FROM tasks WHERE day = %s', today - dt.timedelta(1)) == [1]
    assert db.select_column(cn, 'SELECT task_id FROM tasks WHERE day < %s', today) == [1, 2]


def test_a_statement_commits_by_itself(connect: Callable[[], db.Connection]) -> None:
    """What one connection has written another sees at once, and may lock and write in its turn."""
    one, two = connect(), connect()
    for number, (writer, reader) in enumerate([(one, two), (two, one)] * 2):
        db.execute(writer, 'INSERT INTO tasks (task_id, name) VALUES (%s, %s)', number, 'x')
        assert db.select_scalar(reader, 'SELECT count(*) FROM tasks') == number + 1
        db.execute(reader, 'UPDATE tasks SET name = %s', 'y')


def test_a_transaction_is_all_or_nothing(connect: Callable[[], db.Connection]) -> None:
    """Others see nothing of it before it ends, all of it after, and nothing if an exception leaves it."""
    cn, other = connect(), connect()
    count = 'SELECT count(*) FROM tasks'
    with cn.transaction():
        fill(cn, 'a', 'b')
        db.execute(cn, 'DELETE FROM tasks WHERE task_id = 1')
        assert (db.select_scalar(cn, count), db.select_scalar(other, count)) == (1, 0)
    assert db.select_scalar(other, count) == 1
    with pytest.raises(ZeroDivisionError), db.transaction(cn):
        db.execute(cn, 'DELETE FROM tasks')
        raise ZeroDivisionError
    assert db.select_scalar(cn, count) == db.select_scalar(other, count) == 1


def test_a_failed_statement_ends_its_transaction(cn: db.Connection) -> None:
    """The error comes out of the block, what was written before it is gone, and the connection goes on."""
    with pytest.raises(sqlalchemy.exc.IntegrityError), cn.transaction():
        fill(cn, 'a')
        fill(cn, 'a')
    assert db.select_scalar(cn, 'SELECT count(*) FROM tasks') == 0


def test_a_failed_statement_whose_error_stays_in_its_transaction(cn: db.Connection) -> None:
    """A block that ends without an error has written the rest. PostgreSQL undoes that, and answers the commit with no error."""
    insert = 'INSERT INTO tasks (task_id) VALUES (1)'
    written: list[int] = []
    with contextlib.suppress(JobsyncError):
        with cn.transaction():
            db.execute(cn, insert)
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                db.execute(cn, insert)
        written.append(1)
    assert db.select_column(cn, 'SELECT task_id FROM tasks') == written


def test_what_follows_a_full_disk_in_its_transaction(tmp_path: Path) -> None:
    """SQLite undoes the whole block: none of its later statements, which would commit by themselves, is run."""
    path = tmp_path / 'notes.db'
    path.touch()
    with db.connect(f'sqlite:///{path}') as cn:
        db.execute(cn, 'CREATE TABLE notes (note TEXT)')
        with pytest.raises(JobsyncError, match='undone all of it'), cn.transaction():
            db.execute(cn, f'PRAGMA max_page_count = {db.select_scalar(cn, "PRAGMA page_count")}')
            db.execute(cn, "INSERT INTO notes VALUES ('before')")
            with pytest.raises(sqlalchemy.exc.OperationalError, match='full'):
                db.execute(cn, 'INSERT INTO notes VALUES (randomblob(100000))')
            with contextlib.suppress(JobsyncError), cn.transaction():
                db.execute(cn, "INSERT INTO notes VALUES ('inner')")
            db.execute(cn, "INSERT INTO notes VALUES ('after')")
        assert db.select_scalar(cn, 'SELECT count(*) FROM notes') == 0
        db.execute(cn, "INSERT INTO notes VALUES ('later')")


def test_inner_transactions_are_savepoints(cn: db.Connection) -> None:
    """An inner one that fails takes back its own part; an outer one that fails takes back all."""
    names = 'SELECT name FROM tasks ORDER BY task_id'
    with cn.transaction():
        db.execute(cn, "INSERT INTO tasks (task_id, name) VALUES (1, 'outer')")
        with pytest.raises(sqlalchemy.exc.IntegrityError), cn.transaction():
            db.execute(cn, "INSERT INTO tasks (task_id, name) VALUES (2, 'inner')")
            with cn.transaction():
                db.execute(cn, "INSERT INTO tasks (task_id, name) VALUES (3, 'innermost')")
            db.execute(cn, "INSERT INTO tasks (task_id, name) VALUES (1, 'twice')")
        with cn.transaction():
            db.execute(cn, "INSERT INTO tasks (task_id, name) VALUES (4, 'second')")
    assert db.select_column(cn, names) == ['outer', 'second']
    with pytest.raises(ZeroDivisionError), cn.transaction():
        with cn.transaction():
            db.execute(cn, 'DELETE FROM tasks')
        raise ZeroDivisionError
    assert db.select_column(cn, names) == ['outer', 'second']


def test_threads_have_transactions_of_their_own(cn: db.Connection) -> None:
    """What another thread runs meanwhile over the same connection is no part of a transaction, and does not wait for it."""
    seen: list[object] = []

    def work() -> None:
        fill(cn, 'a')
        seen.append(db.select_scalar(cn, 'SELECT name FROM tasks'))

    with pytest.raises(ZeroDivisionError), cn.transaction():
        assert db.select_scalar(cn, 'SELECT count(*) FROM tasks') == 0
        other = threading.Thread(target=work)
        other.start()
        other.join()
        raise ZeroDivisionError
    assert seen == ['a']
    assert db.select_column(cn, 'SELECT name FROM tasks') == ['a']


def test_asyncio_tasks_have_transactions_of_their_own(cn: db.Connection) -> None:
    """Two that overlap on one event loop, in any order of their ends: each is whole, and statements go on after them."""

    async def work() -> None:
        one_begun, two_begun, one_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def one() -> None:
            with pytest.raises(ZeroDivisionError), cn.transaction():
                one_begun.set()
                await two_begun.wait()
                add(cn, 'undone')
                raise ZeroDivisionError
            one_ended.set()

        async def two() -> None:
            await one_begun.wait()
            with cn.transaction():
                two_begun.set()
                await one_ended.wait()
                add(cn, 'kept')
            add(cn, 'after')

        await asyncio.gather(one(), two())
        add(cn, 'last')

    asyncio.run(work())
    assert db.select_column(cn, 'SELECT name FROM tasks ORDER BY task_id') == ['kept', 'after', 'last']


def test_what_is_started_in_a_transaction_is_no_part_of_it(cn: db.Connection) -> None:
    """An asyncio task, or a thread with its context, is refused while the transaction lasts, and free afterwards."""

    async def work() -> None:
        ended = asyncio.Event()

        async def later() -> None:
            await ended.wait()
            add(cn, 'later')
            with cn.transaction():
                add(cn, 'later still')

        async def in_between() -> None:
            with cn.transaction():
                add(cn, 'lost')

        with cn.transaction():
            add(cn, 'first')
            waiting = asyncio.create_task(later())
            with pytest.raises(JobsyncError, match='started inside a transaction'):
                await asyncio.create_task(in_between())
            with pytest.raises(JobsyncError, match='started inside a transaction'):
                await asyncio.to_thread(add, cn, 'lost')
            with cn.transaction():
                add(cn, 'second')
        ended.set()
        await waiting

    asyncio.run(work())
    assert db.select_column(cn, 'SELECT name FROM tasks ORDER BY task_id') == ['first', 'second', 'later', 'later still']


def test_transactions_of_two_connections(connect: Callable[[], db.Connection]) -> None:
    """One thread may have both under way, and end them in any order."""
    one, two = connect(), connect()
    first, second = one.transaction(), two.transaction()
    first.__enter__()
    second.__enter__()
    assert db.select_scalar(two, 'SELECT count(*) FROM tasks') == 0
    add(one, 'one')
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    with pytest.raises(ZeroDivisionError), two.transaction():
        add(two, 'undone')
        raise ZeroDivisionError
    add(one, 'two')
    assert db.select_column(two, 'SELECT name FROM tasks ORDER BY task_id') == ['one', 'two']


def test_many_threads(cn: db.Connection) -> None:
    """Statements and transactions of eight threads at once: each is whole."""
    db.execute(cn, 'CREATE TABLE pairs (one INTEGER, two INTEGER)')

    def work(number: int) -> None:
        for _ in range(10):
            with cn.transaction():
                db.execute(cn, 'INSERT INTO pairs (one, two) VALUES (%s, %s)', number, 0)
                db.execute(cn, 'UPDATE pairs SET two = one WHERE one = %s', number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.select_row(cn, 'SELECT count(*) AS n, sum(one - two) AS off FROM pairs') == {'n': 80, 'off': 0}


def test_closed(connect: Callable[[], db.Connection]) -> None:
    """A closed connection says so; a transaction in which it is closed comes to nothing."""
    cn, other = connect(), connect()
    with pytest.raises(JobsyncError, match='closed'), cn.transaction():
        fill(cn, 'a')
        cn.close()
    assert cn.closed
    for statement in (lambda: db.select(cn, 'SELECT 1'), lambda: cn.transaction().__enter__()):
        with pytest.raises(JobsyncError, match='closed'):
            statement()
    cn.close()
    assert db.select_scalar(other, 'SELECT count(*) FROM tasks') == 0


def test_errors_are_sqlalchemys(cn: db.Connection) -> None:
    """A statement that fails raises SQLAlchemy's error with the driver's in it, once, and the next one works."""
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
        db.select(cn, 'SELECT * FROM absent WHERE a = %s', 1)
    assert 'absent' in str(caught.value.orig)
    assert db.select_scalar(cn, 'SELECT 1') == 1


def test_what_can_be_connected_to(store: Store) -> None:
    """A URL, a ``CoordinationConfig``, or whatever holds the settings of a ``Job``."""
    assert store.handle
    for where in (store.url, CoordinationConfig(backend=store.url), SimpleNamespace(sync={'backend': store.url})):
        with db.connect(where) as cn:
            assert db.select_scalar(cn, 'SELECT count(*) FROM sync_state') == 1


def test_a_store_without_sql() -> None:
    """The error says which have it."""
    with pytest.raises(UnsupportedOperation, match='memory has no SQL; sqlite and postgresql have'):
        db.connect('memory://x')
