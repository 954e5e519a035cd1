"""``job.where``: the rows whose tasks are this node's, chosen by the database."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import ConfigError, Job
from jobsync.database import RowFilter, TokenColumn
from jobsync.database.clause import clause

_random = random.Random(7)
LETTERS = ('x', '7', ' ', "'", '"', '%', '\\', '\n', '\x7f', 'ü', 'ẞ', '漢', '😀', '\N{COMBINING DIAERESIS}')
IDS: dict[str, tuple[Any, list[Any]]] = {
    'text': (
        sa.Text,
        sorted(
            {''.join(_random.choices(LETTERS, k=_random.randrange(1, 20))) for _ in range(600)} | {'\\x41', '\\\\', '%s', '?'}
        ),
    ),
    'integer': (sa.BigInteger, sorted({*range(-150, 150), *(_random.randrange(-(2**63), 2**63) for _ in range(300)), 0})),
    'uuid': (sa.Uuid, [uuid.UUID(int=_random.getrandbits(128)) for _ in range(600)]),
}
"""For each type that a column of ids may have: the type, and ids."""


class Base(DeclarativeBase):
    """The tables of a user."""


class Order(Base):
    """A mapped table."""

    __tablename__ = 'orders'
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    token_xxh3_60: Mapped[int]


class Database:
    """The user's own database, by the libraries that users have."""

    def __init__(self, store: Store) -> None:
        self.is_sqlite = store.url.startswith('sqlite')
        self.dialect = 'sqlite' if self.is_sqlite else 'postgresql'
        self.cn = db.connect(store.url)
        self.engine = sa.create_engine(store.url.replace('postgresql:', 'postgresql+psycopg:'))
        self.raw: Any = sqlite3.connect(store.url[10:]) if self.is_sqlite else psycopg.connect(store.url)

    def create(self, type_: Any, ids: list[Any], column: TokenColumn) -> sa.Table:
        """Make a table with these ids and their tokens, and an index on the tokens."""
        table = sa.Table('items', sa.MetaData(), sa.Column('id', type_, primary_key=True), sa.Column(column.name, sa.Integer))
        sa.Index('items_by_token', table.c[column.name], table.c.id)
        table.create(self.engine)
        with self.engine.begin() as connection:
            connection.execute(table.insert(), [{'id': each, column.name: column.token(each)} for each in ids])
        return table

    def ids(self, statement: Any) -> list[Any]:
        """The first column of what a statement of SQLAlchemy returns."""
        with self.engine.connect() as connection:
            return list(connection.scalars(statement))

    def plan(self, query: Any, *values: Any) -> str:
        """How the database runs a query: text with values, or a statement of SQLAlchemy."""
        explain = 'EXPLAIN QUERY PLAN ' if self.is_sqlite else 'EXPLAIN '
        if isinstance(query, str):
            return str(db.select(self.cn, explain + query, *values).values)

        def change(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
            return explain + statement, parameters

        sa.event.listen(self.engine, 'before_cursor_execute', change, retval=True)
        try:
            with self.engine.connect() as connection:
                cursor: Any = connection.execute(query).cursor
                return str(cursor.fetchall())
        finally:
            sa.event.remove(self.engine, 'before_cursor_execute', change)

    def close(self) -> None:
        """Close all connections."""
        self.raw.close()
        self.engine.dispose()
        self.cn.close()


PATIENT = {'heartbeat_timeout_sec': 600}


@pytest.fixture
def database(store: Store) -> Iterator[Database]:
    """A database of the store's kind."""
    database = Database(store)
    yield database
    database.close()


def pin(one: Job, other: Job, ids: list[Any]) -> None:
    """Pin a task of each node to the other one, one to its own node, and two to no live node. Returns when all know it."""
    ones, others = ([each for each in ids if job.can_claim_task(each)] for job in (one, other))
    places = {ones[0]: other, others[0]: one, ones[1]: one, others[1]: None, ones[2]: None}
    one.register_task_locks_bulk([(each, job.node_name if job else 'gone-%') for each, job in places.items()])

    def are_placed(job: Job) -> bool:
        return all(job.can_claim_task(each) == (place is job) for each, place in places.items())

    wait_until(lambda: are_placed(one) and are_placed(other), 'the pins hold')
    wait_until(lambda: all(job.task_to_token(each) >= TOKENS for each in places for job in (one, other)), 'the pins are known')


@pytest.mark.parametrize('name', IDS)
def test_rows_are_those_that_can_be_claimed(store: Store, database: Database, name: str) -> None:
    """The rows of a node are exactly the tasks it can claim, pins included, for each type of ids and each way to ask."""
    type_, ids = IDS[name]
    table = database.create(type_, ids, TokenColumn('xxh3', TOKENS))
    found: list[Any] = []
    with store.job('a', config=PATIENT) as one, store.job('b', config=PATIENT) as other:
        for is_pinned in (False, True):
            if is_pinned:
                pin(one, other, ids)
            for job in (one, other):
                mine = [each for each in ids if job.can_claim_task(each)]
                assert 0 < len(mine) < len(ids)
                found = database.ids(sa.select(table.c.id).where(job.where(table.c.id)))
                assert not set(found) ^ set(mine)
                assert len(found) == len(mine)
                if name == 'uuid' and database.is_sqlite:
                    continue  # SQLAlchemy stores their digits only, which are the text of another id
                texts = {str(each) for each in mine}
                found = db.select_column(database.cn, 'SELECT i.id FROM items i WHERE 1 = %s AND %s', 1, job.where('i.id'))
                assert not set(map(str, found)) ^ texts
                condition, values = job.where('id').text(database.dialect)
                found = database.raw.execute(f'SELECT id FROM items WHERE {condition}', values).fetchall()
                assert not {str(each) for (each,) in found} ^ texts
                database.raw.rollback()


def test_mapped_class(store: Store, database: Database) -> None:
    """An attribute of a mapped class or of its alias finds the token column, and the clause combines with other conditions."""
    column = TokenColumn('xxh3', TOKENS)
    Base.metadata.create_all(database.engine)
    rows = [{'id': n, 'state': 'new' if n % 2 else 'done', column.name: column.token(n)} for n in range(200)]
    with database.engine.begin() as connection:
        connection.execute(sa.insert(Order), rows)
    with store.job('a') as one, store.job('b') as other:
        for job in (one, other):
            mine = {n for n in range(200) if job.can_claim_task(n) and n % 2}
            alias = aliased(Order)
            assert set(database.ids(sa.select(Order.id).where(Order.state == 'new', job.where(Order.id)))) == mine
            assert set(database.ids(sa.select(alias.id).where(alias.state == 'new', job.where(alias.id)))) == mine
            named = job.where(Order.id, Order.token_xxh3_60)
            assert set(database.ids(sa.select(Order.id).where(Order.state == 'new', named))) == mine
            others = {n for n in range(200) if not job.can_claim_task(n)}
            assert set(database.ids(sa.select(Order.id).where(~job.where(Order.id)))) == others


@pytest.mark.postgres
@pytest.mark.parametrize('hash_function', ['md5', 'sha256', 'double_sha256'])
def test_postgresql_computes_the_token(newest_postgres: Any, hash_function: str) -> None:
    """A generated column has each id's token, for every type of ids and for the smallest and the largest pool."""
    engine = sa.create_engine(newest_postgres.new_schema().replace('postgresql:', 'postgresql+psycopg:'))
    for name, (type_, ids) in IDS.items():
        for total_tokens in (1, 7, 10_000, 2**30):
            column = TokenColumn(hash_function, total_tokens)
            generated = sa.Computed(column.expression('id'), persisted=True)
            table = sa.Table(name, sa.MetaData(), sa.Column('id', type_), sa.Column(column.name, sa.Integer, generated))
            with engine.begin() as connection:
                table.create(connection)
                connection.execute(table.insert(), [{'id': each} for each in ids])
                rows = connection.execute(sa.select(table.c.id, table.c[column.name])).all()
                assert not [each for each, token in rows if token != column.token(each)]
                assert len(rows) == len(ids)
                table.drop(connection)
    engine.dispose()


FILTERS = {
    'tokens': RowFilter('id', 'token', [3, 500, 977]),
    'pins': RowFilter('id', 'token', [3, 4, 500, 977], [4], ['no', '17'], ['5', 'never']),
}


@pytest.fixture
def large(store: Store, database: Database) -> sa.Table:
    """A table of 30,000 rows with 1,000 tokens, which the database has analysed."""
    table = sa.Table('rows', sa.MetaData(), *(sa.Column(name, sa.Integer) for name in ('id', 'token')), sa.Column('pad', sa.Text))
    sa.Index('rows_by_token', table.c.token, table.c.id)
    table.create(database.engine)
    numbers = 'WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29999) SELECT i'
    db.execute(database.cn, f"INSERT INTO rows {numbers}, i * 7 %% 1000, 'some text' FROM n WHERE %s", True)
    db.execute(database.cn, 'ANALYZE')
    return table


def test_queries_use_the_index(database: Database, large: sa.Table) -> None:
    """The database finds a node's rows by the index, with pins too, whether the condition is text or a clause."""
    for condition in FILTERS.values():
        where = clause(condition, large.c.id, large.c.token)
        for columns in (['id'], ['id', 'pad']):
            text = f'SELECT {", ".join(columns)} FROM rows WHERE %s'
            statement = sa.select(*(large.c[column] for column in columns)).where(where)
            for plan in (database.plan(text, condition), database.plan(statement)):
                assert 'rows_by_token' in plan
                assert ('SEARCH rows' in plan) if database.is_sqlite else ('Seq Scan' not in plan)


def test_many_tokens(database: Database, large: sa.Table) -> None:
    """A node may own hundreds of thousands of tokens: they are one parameter."""
    many = attrs.evolve(FILTERS['pins'], tokens=range(5, 300_000))
    where = clause(many, large.c.id, large.c.token)
    expected = 30_000 - 30 * 5 - 1  # without the rows of tokens 0 to 4, and without the task that is pinned elsewhere
    assert database.ids(sa.select(sa.func.count()).select_from(large).where(where)) == [expected]
    assert db.select_scalar(database.cn, 'SELECT count(*) FROM rows WHERE %s', many) == expected


def test_a_statement_has_a_text() -> None:
    """A statement with the condition can be printed, as any statement of SQLAlchemy can."""
    condition = RowFilter('id', 'token', tokens=(1, 2), pinned_elsewhere=('7',))
    statement = sa.select(Order.id).where(clause(condition, sa.column('id'), sa.column('token')))
    assert 'token IN (' in str(statement)
    assert 'NOT IN (' in str(statement)


def test_without_a_lease(store: Store, database: Database) -> None:
    """A job that is not in its block gets no rows, and one with coordination off gets all."""
    table = database.create(sa.Integer, list(range(20)), TokenColumn('xxh3', TOKENS))

    def counts(job: Job) -> set[int]:
        select = 'SELECT count(*) FROM items WHERE %s'
        clause = job.where(table.c.id)
        return {
            db.select_scalar(database.cn, select, job.where('id')),
            *database.ids(sa.select(sa.func.count()).select_from(table).where(clause)),
        }

    job = store.job()
    assert counts(job) == {0}
    with job:
        assert counts(job) == {20}
    assert counts(job) == {0}
    with store.job(config={'enabled': False}) as job:
        assert counts(job) == {20}


@pytest.mark.any_store
def test_lease_that_has_ended() -> None:
    """The condition of a node whose lease has ended is true of no row."""
    with Store('memory://rows').job() as job:
        lease = job._session.lease
        assert lease
        assert job.where('id').tokens
        _, pins, mine = lease.grant
        lease.grant = (0.0, pins, mine)
        assert job.where('id').text('sqlite') == ('(1 = 0)', [])


def test_async_job() -> None:
    """``AsyncJob.where`` returns what that of ``Job`` does."""

    async def where() -> RowFilter:
        async with Store('memory://rows').async_job() as job:
            return job.where('id')

    assert asyncio.run(where()) == RowFilter('id', 'token_xxh3_60', tuple(range(TOKENS)))


def test_percent_signs_in_names(cn: db.Connection) -> None:
    """In a name or an expression a percent sign is one, whatever the driver takes for a placeholder."""
    db.execute(cn, 'CREATE TABLE shares ("50%" TEXT, hash INTEGER)')
    db.insert_rows(cn, 'shares', [{'50%': name, 'hash': number} for name, number in (('a', 61), ('b', 122), ('c', 3), ('d', 63))])
    mine = RowFilter('"50%"', 'hash % 60', tokens=(1, 2, 3), lent_tokens=(3,), pinned_here=('d',), pinned_elsewhere=('a',))
    assert set(db.select_column(cn, 'SELECT "50%" FROM shares WHERE %s', mine)) == {'b', 'd'}


def test_a_column_that_takes_no_account_of_case() -> None:
    """A row is not taken for the row of a pinned task whose id the column's collation takes for the same."""
    table = sa.Table('orders', sa.MetaData(), sa.Column('id', sa.Text(collation='NOCASE')), sa.Column('token', sa.Integer))
    engine = sa.create_engine('sqlite://', poolclass=sa.StaticPool)
    table.create(engine)
    elsewhere = RowFilter('id', 'token', tokens=(3,), pinned_elsewhere=('a',))
    here = RowFilter('id', 'token', tokens=(3,), lent_tokens=(3,), pinned_here=('a',))
    with engine.connect() as connection:
        connection.execute(table.insert().values(id='A', token=3))
        for condition, expected in ((elsewhere, ['A']), (here, [])):
            text, values = condition.text('sqlite')
            found = connection.exec_driver_sql(f'SELECT id FROM orders WHERE {text}', tuple(values))
            assert found.scalars().all() == expected
            assert connection.scalars(sa.select(table.c.id).where(clause(condition, table.c.id, table.c.token))).all() == expected
    engine.dispose()


def test_names() -> None:
    """The token column has the name of the settings, and belongs to the table of the ids' column."""
    job = Store('memory://rows').job(config={'total_tokens': 500, 'hash_function': 'md5'})
    usual = TokenColumn.of(job._config).name
    assert usual == 'token_md5_500'
    for column, token_column in (('id', usual), ('o.id', f'o.{usual}'), ('s."my o".id', f's."my o".{usual}')):
        assert job.where(column).token_column == token_column
    assert job.where('lower(o.id)', 'o.token').token_column == 'o.token'


WITHOUT = sa.Table('t', sa.MetaData(), sa.Column('id', sa.Integer))


@pytest.mark.parametrize(
    ('refused', 'message'),
    [
        (
            lambda job: job.where('lower(id)'),
            "column is 'lower(id)' (str): must be the name of a column, unless",
        ),
        (lambda job: job.where(5), 'column is 5 (int): must be a column of SQLAlchemy, or the name of one'),
        (lambda job: job.where('id', WITHOUT.c.id), 'must be the name of a column, as column is'),
        (lambda job: job.where(WITHOUT.c.id), 'the table of t.id has no column token_xxh3_60: add it, or give token_column'),
        (lambda job: job.where(WITHOUT.c.id + 1), 'has no column token_xxh3_60'),
        (
            lambda job: job.where(WITHOUT.c.id, 'token'),
            "token_column is 'token' (str): must be a column of SQLAlchemy, as",
        ),
        (lambda job: job.where('id').text('mysql'), "dialect is 'mysql' (str): must be one of postgresql, sqlite"),
        (lambda job: TokenColumn.of(job._config).expression('id'), "hash_function is 'xxh3', which PostgreSQL cannot compute"),
        (lambda job: TokenColumn('crc', 5), "hash_function is 'crc'"),
        (lambda job: TokenColumn('md5', 0), 'total_tokens is 0'),
        (lambda job: TokenColumn('md5', 5).token(None), 'task id None'),
    ],
)
def test_refused(refused: Callable[[Any], object], message: str) -> None:
    """What cannot be meant is refused with an error that says so."""
    with pytest.raises(ConfigError) as raised:
        refused(Store('memory://rows').job())
    assert message in str(raised.value)
