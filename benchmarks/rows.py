"""A table of ten million rows that twenty workers read by ``job.where``: how much they read, and whether each row is theirs.

    python -m benchmarks.rows                                        # on PostgreSQL and SQLite
    python -m benchmarks.rows --rows 100000 --ids 10000 --store sqlite

The nodes are jobs of one process. Some tasks are pinned by task locks, and some are items. The first table shows the queries of
all nodes for their rows: *read* is what they read all together, as a multiple of the table without its indexes (pages that the
plan counts on PostgreSQL; bytes that the process reads on SQLite, which Linux counts), *twice* and *left* count rows that two
nodes found, and that none did, *index* says whether each plan uses the index. The second table compares what each node finds
among random ids with ``can_claim_task``, for each type of ids and for both forms of the condition.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psycopg
import sqlalchemy as sa
from tests.support.stores import KINDS

from jobsync import CoordinationConfig, Job
from jobsync.database import TokenColumn
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

__all__ = ['main']

Chances = random.Random
_PINS, _PATIENCE_SEC = 40, 120.0
_CHUNK = 100_000
_LETTERS = ''.join(map(chr, range(0x20, 0x7F))) + '\n\t\x7füẞ漢😀\N{COMBINING DIAERESIS}'
QUERIES: Mapping[str, tuple[str, str]] = {
    'the id': ('id', '({token}, id)'),
    'the id and two columns': ('id, customer, amount', '({token}, id) INCLUDE (customer, amount)'),
}
"""For each query: its columns, and the index for it."""
TYPES: Mapping[str, tuple[Any, Callable[[Chances], Any]]] = {
    'text': (sa.Text, lambda chance: ''.join(chance.choices(_LETTERS, k=chance.randrange(1, 30)))),
    'integer': (sa.BigInteger, lambda chance: chance.randrange(-(2**63), 2**63) >> chance.randrange(64)),
    'uuid': (sa.Uuid, lambda chance: uuid.UUID(int=chance.getrandbits(128))),
}
"""For each type of ids: the column's type, and how to draw one."""


@attrs.frozen
class Found:
    """What one query found."""

    ids: list[int]
    sec: float
    read: float
    """How much was read for it, in the unit of the table's size."""
    has_index: bool
    """Whether the database went by the index."""


class Database(ABC):
    """The database of the rows."""

    dialect: str
    hash_function: str

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def connect(self) -> Any:
        """Return a new connection of the driver."""

    @abstractmethod
    def engine(self) -> sa.Engine:
        """Return SQLAlchemy's engine."""

    @abstractmethod
    def token_column(self, column: TokenColumn) -> sa.Column[int]:
        """Return the column of tokens, generated where the database can."""

    @abstractmethod
    def fill(self, column: TokenColumn, rows: int) -> float:
        """Make the table ``orders``; return its size."""

    @abstractmethod
    def index(self, definition: str) -> None:
        """Replace the index of ``orders``."""

    @abstractmethod
    def read(self, query: str, values: Sequence[Any]) -> Found:
        """Run a query."""


class PostgreSQL(Database):
    """PostgreSQL, which computes the tokens."""

    dialect, hash_function = 'postgresql', 'sha256'

    def connect(self) -> Any:
        return psycopg.connect(self.url, autocommit=True)

    def engine(self) -> sa.Engine:
        return sa.create_engine(self.url.replace('postgresql:', 'postgresql+psycopg:', 1))

    def token_column(self, column: TokenColumn) -> sa.Column[int]:
        return sa.Column(column.name, sa.Integer, sa.Computed(column.expression('id'), persisted=True))

    def fill(self, column: TokenColumn, rows: int) -> float:
        with self.connect() as cn:
            cn.execute(f"""
                CREATE TABLE orders (id bigint, customer integer, amount integer, note text, {column.name} integer NOT NULL
                    GENERATED ALWAYS AS ({column.expression('id')}) STORED)
            """)
            cn.execute(
                "INSERT INTO orders (id, customer, amount, note) SELECT n, n % 9973, n % 1000, 'a note on the order ' || n "
                f'FROM generate_series(0, {rows - 1}) n'
            )
            size = cn.execute("SELECT pg_relation_size('orders') / current_setting('block_size')::integer").fetchone()
        return float(size[0])

    def index(self, definition: str) -> None:
        with self.connect() as cn:
            cn.execute('DROP INDEX IF EXISTS orders_by_token')
            cn.execute(f'CREATE INDEX orders_by_token ON orders {definition}')
            cn.execute('VACUUM ANALYZE orders')

    def read(self, query: str, values: Sequence[Any]) -> Found:
        with self.connect() as cn:
            begun = time.perf_counter()
            ids = [row[0] for row in cn.execute(query, values)]
            seconds = time.perf_counter() - begun
            plan = cn.execute(f'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}', values).fetchone()[0][0]['Plan']
        has_index = 'orders_by_token' in str(plan) and 'Seq Scan' not in str(plan)
        return Found(ids, seconds, plan['Shared Hit Blocks'] + plan['Shared Read Blocks'], has_index)


class Sqlite(Database):
    """SQLite, to which the program gives the tokens: a file beside the cluster's, whose heartbeats wait for no long insert."""

    dialect, hash_function = 'sqlite', 'xxh3'

    def __init__(self, url: str) -> None:
        super().__init__(f'{url}.rows')

    def connect(self) -> Any:
        return sqlite3.connect(self.url.removeprefix('sqlite:///'), isolation_level=None)

    def engine(self) -> sa.Engine:
        return sa.create_engine(self.url)

    def token_column(self, column: TokenColumn) -> sa.Column[int]:
        return sa.Column(column.name, sa.Integer, nullable=False)

    def fill(self, column: TokenColumn, rows: int) -> float:
        cn = self.connect()
        cn.execute(f"""
            CREATE TABLE orders (
                id integer PRIMARY KEY, customer integer, amount integer, note text, {column.name} integer NOT NULL
            )
        """)
        before = self._size(cn)
        made = ((n, n % 9973, n % 1000, f'a note on the order {n}', column.token(n)) for n in range(rows))
        cn.execute('BEGIN')
        cn.executemany('INSERT INTO orders VALUES (?, ?, ?, ?, ?)', made)
        cn.execute('COMMIT')
        size = self._size(cn) - before
        cn.close()
        return size

    def index(self, definition: str) -> None:
        cn = self.connect()
        cn.execute('DROP INDEX IF EXISTS orders_by_token')
        cn.execute(f'CREATE INDEX orders_by_token ON orders {definition.replace(") INCLUDE (", ", ")}')
        cn.execute('ANALYZE')
        cn.close()

    def read(self, query: str, values: Sequence[Any]) -> Found:
        cn = self.connect()
        before, begun = _bytes_read(), time.perf_counter()
        ids = [row[0] for row in cn.execute(query, values)]
        seconds, read = time.perf_counter() - begun, _bytes_read() - before
        plan = str(cn.execute(f'EXPLAIN QUERY PLAN {query}', values).fetchall())
        cn.close()
        return Found(ids, seconds, read, 'SEARCH orders USING COVERING INDEX orders_by_token' in plan)

    @staticmethod
    def _size(cn: sqlite3.Connection) -> float:
        pages, size = (cn.execute(f'PRAGMA {name}').fetchone()[0] for name in ('page_count', 'page_size'))
        return float(pages * size)


DATABASES: Mapping[str, Callable[[str], Database]] = {'postgresql': PostgreSQL, 'sqlite': Sqlite}


def _bytes_read() -> int:
    """Return how many bytes this thread has read from files so far, from a cache or not."""
    lines = Path('/proc/thread-self/io').read_text(encoding='ascii').splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith('rchar:')))


# --- the nodes ----------------------------------------------------------------------------------------------------------------


@contextmanager
def nodes(config: CoordinationConfig, count: int, pinned: Sequence[Any], items: Sequence[Any]) -> Iterator[list[Job]]:
    """Enter nodes that share all tokens, the pinned tasks and the items."""
    names = [f'node-{number:02}' for number in range(count)]
    with ExitStack() as stack:
        jobs = [stack.enter_context(Job(name, coordination_config=config)) for name in names]
        jobs[0].register_task_locks_bulk([(task, names[number % count]) for number, task in enumerate(pinned)])
        jobs[0].declare_items('items', items)
        until = time.monotonic() + _PATIENCE_SEC
        while not _are_settled(jobs, config, pinned, items):
            if time.monotonic() > until:
                raise TimeoutError('tokens, pins and items are not shared out')
            time.sleep(0.05)
        yield jobs
        jobs[0].clear_locks_by_creator(names[0])


def _are_settled(jobs: Sequence[Job], config: CoordinationConfig, pinned: Sequence[Any], items: Sequence[Any]) -> bool:
    tokens = sum(len(job.my_tokens) for job in jobs)  # with those of pinned tasks and of items
    if tokens != config.total_tokens + len(pinned) + len(items) or sum(len(job.items('items')) for job in jobs) != len(items):
        return False
    return all(jobs[number % len(jobs)].can_claim_task(task) for number, task in enumerate(pinned))


# --- what is measured ---------------------------------------------------------------------------------------------------------


@attrs.define
class Reading:
    """What all nodes found with one query."""

    read: float = 0.0
    slowest_sec: float = 0.0
    twice: int = 0
    left: int = 0
    has_index: bool = True


def read_all(database: Database, jobs: Sequence[Job], columns: str, rows: int) -> Reading:
    """Have each node read its rows."""
    reading, seen = Reading(), bytearray(rows)
    for job in jobs:
        condition, values = job.where('id').text(database.dialect)
        found = database.read(f'SELECT {columns} FROM orders WHERE {condition}', values)
        reading.slowest_sec = max(reading.slowest_sec, found.sec)
        reading.read, reading.has_index = reading.read + found.read, reading.has_index and found.has_index
        reading.twice += sum(seen[each] for each in found.ids)
        for each in found.ids:
            seen[each] = 1
    reading.left = rows - sum(seen)
    return reading


def differences(database: Database, jobs: Sequence[Job], column: TokenColumn, kind: str, ids: Sequence[Any]) -> int:
    """Return for how many pairs of a node and an id the condition and ``can_claim_task`` differ."""
    engine = database.engine()
    made = sa.Table(f'ids_{kind}', sa.MetaData(), sa.Column('id', TYPES[kind][0]), database.token_column(column))
    made.create(engine)
    is_computed = made.c[column.name].computed is not None
    with engine.begin() as connection:
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            rows = [{'id': each} if is_computed else {'id': each, column.name: column.token(each)} for each in some]
            connection.execute(made.insert(), rows)
    dialect, wrong = database.dialect, 0
    for job in jobs:
        mine = {each for each in ids if job.can_claim_task(each)}
        with engine.connect() as connection:
            found = connection.scalars(sa.select(made.c.id).where(job.where(made.c.id))).all()
        wrong += len(mine.symmetric_difference(found)) + len(found) - len(set(found))
        if (kind, dialect) != ('uuid', 'sqlite'):  # SQLAlchemy stores their digits only, which are the text of another id
            condition, values = job.where('id').text(dialect)
            cn = database.connect()
            rows_found = [row[0] for row in cn.execute(f'SELECT id FROM {made.name} WHERE {condition}', values)]
            cn.close()
            wrong += len(mine.symmetric_difference(rows_found)) + len(rows_found) - len(set(rows_found))
    engine.dispose()
    return wrong


def draw(kind: str, count: int, chance: Chances) -> list[Any]:
    """Return so many different ids."""
    found: dict[Any, None] = {}
    while len(found) < count:
        found[TYPES[kind][1](chance)] = None
    return list(found)


def measure(url: str, name: str, rows: int, count: int, ids: int, chance: Chances) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of both tables for one database."""
    database = DATABASES[name](url)
    config = CoordinationConfig(
        backend=url,
        minimum_nodes=1,
        hash_function=database.hash_function,
        heartbeat_interval_sec=10,
        heartbeat_timeout_sec=900,
    )
    column = TokenColumn.of(config)
    drawn = {kind: draw(kind, ids, chance) for kind in TYPES}
    sampled = (task for tasks in (range(rows), *drawn.values()) for task in chance.sample(tasks, 2 * _PINS))
    some = list({str(task): task for task in sampled}.values())
    reads, compared = [], []
    with nodes(config, count, some[::2], some[1::2]) as jobs:
        conditions = [job.where('id') for job in jobs]
        size = database.fill(column, rows)
        for what, (columns, index) in QUERIES.items():
            database.index(index.format(token=column.name))
            found = read_all(database, jobs, columns, rows)
            share, seconds = f'{found.read / size:.2f}x', f'{found.slowest_sec:.1f} s'
            reads.append(
                [name, f'{rows:,}', what, share, seconds, f'{found.twice}', f'{found.left}', 'yes' if found.has_index else 'no']
            )
        for kind, tasks in drawn.items():
            compared.append([name, kind, f'{ids:,}', str(differences(database, jobs, column, kind, tasks))])
        if conditions != [job.where('id') for job in jobs]:
            raise RuntimeError('tokens have moved meanwhile')
    return reads, compared


def main(arguments: Sequence[str]) -> None:
    """Print what was measured; status 1 if a row is not found by exactly its node."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=DATABASES, action='append', help='this one only; may be given again')
    parser.add_argument('--rows', type=int, default=10_000_000)
    parser.add_argument('--nodes', type=int, default=20)
    parser.add_argument('--ids', type=int, default=1_000_000, help='random ids of each type')
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args(arguments)
    reads, compared = list[list[str]](), list[list[str]]()
    for name in options.store or DATABASES:
        with KINDS[name].fresh() as url:
            found = measure(url, name, options.rows, options.nodes, options.ids, random.Random(options.seed))
        reads, compared = reads + found[0], compared + found[1]
    of_reads = ('store', 'rows', 'query', 'read', 'slowest query', 'twice', 'left', 'index')
    of_compared = ('store', 'ids', 'how many', 'differ')
    print(Machine.here(), table(of_reads, reads), table(of_compared, compared), sep='\n\n')
    sys.exit(any(row[5:] != ['0', '0', 'yes'] for row in reads) or any(row[-1] != '0' for row in compared))


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
