"""Reading only this node's rows of a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import jobsync.database as db
from jobsync import CoordinationConfig, Job
from jobsync.database import Connection, TokenColumn
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target
from jobsync_bench.timing import seconds

__all__ = ['SCENARIO']

_SQL = ('postgresql', 'sqlite')
_NODES = 20
_PAGE = 1_000
_WAIT_SEC = 60.0
_READ_ALL, _OWNER = 'all rows, and can_claim_task', "rows with this node's name"


@contextmanager
def one_of_twenty(bench: Bench) -> Iterator[tuple[Job, CoordinationConfig]]:
    """Enter a node that has a twentieth of the tokens: another one has the weight of nineteen."""
    config = CoordinationConfig(backend=bench.store.url, appname=bench.store.namespace(), minimum_nodes=1)
    heavy = CoordinationConfig(backend=config.backend, appname=config.appname, minimum_nodes=1, weight=_NODES - 1)
    with Job('others', coordination_config=heavy), Job('one', coordination_config=config) as job:
        deadline = time.monotonic() + _WAIT_SEC
        while len(job.my_tokens) != config.total_tokens // _NODES:
            bench.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f'the node has {len(job.my_tokens)} of {config.total_tokens} tokens')
            time.sleep(0.02)
        yield job, config


def fill(cn: Connection, table: str, column: TokenColumn, job: Job, rows: int) -> None:
    """Make a table with an index by tokens, and one by the name of the node that is to do the row."""
    db.execute(cn, f'CREATE TABLE {table} (id integer PRIMARY KEY, {column.name} integer NOT NULL, node text NOT NULL)')
    named = ('one' if job.can_claim_task(number) else 'others' for number in range(rows))
    db.insert_rows(
        cn, table, [{'id': number, column.name: column.token(number), 'node': node} for number, node in enumerate(named)]
    )
    db.execute(cn, f'CREATE INDEX {table}_token ON {table} ({column.name}, id)')
    db.execute(cn, f'CREATE INDEX {table}_node ON {table} (node, id)')
    db.execute(cn, 'ANALYZE')


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    if bench.store.name not in _SQL:
        return
    with ExitStack() as stack:
        job, config = stack.enter_context(one_of_twenty(bench))
        cn = stack.enter_context(closing(db.connect(bench.store.url)))
        column = TokenColumn.of(config)
        table, rows = f'rows_{bench.store.namespace()}', 20_000 if bench.quick else 200_000
        fill(cn, table, column, job, rows)
        measure(bench, cn, table, job, rows)


def measure(bench: Bench, cn: Connection, table: str, job: Job, rows: int) -> None:
    """Read a page of the node's rows, and all of them, each in three ways."""

    def where(limit: int) -> list[int]:
        return list(db.select_column(cn, f'SELECT id FROM {table} WHERE %s LIMIT {limit}', job.where('id')))

    def by_name(limit: int) -> list[int]:
        return list(db.select_column(cn, f'SELECT id FROM {table} WHERE node = %s LIMIT {limit}', 'one'))

    def read_all(limit: int) -> list[int]:
        return [each for each in db.select_column(cn, f'SELECT id FROM {table}') if job.can_claim_task(each)][:limit]

    for limit, case in ((_PAGE, f'the first {_PAGE:,}'), (rows, 'all of them')):
        if {len(read(limit)) for read in (where, by_name, read_all)} != {len(read_all(limit))}:
            raise RuntimeError(f'the three ways to read {table} do not agree')
        rounds = Rounds(5 if bench.quick else 30, least=3, seconds=1 if bench.quick else 5)
        ours = {'ours': partial(seconds, where, limit), f'ours, {_READ_ALL}': partial(seconds, read_all, limit)}
        floors = {_OWNER: partial(seconds, by_name, limit)}
        bench.in_turns('read', f'{case}, of {rows:,} rows', ours, rounds, floors=floors)


SCENARIO = Scenario(
    name='where',
    title="This node's rows of a table",
    means="""
        job.where has PostgreSQL and SQLite return only the rows whose tasks are this node's, by an index on a column of tokens.
        Without it each of twenty workers reads all rows, and passes over nineteen of twenty. One node has a twentieth of the
        tokens, and reads the ids of its rows: a page of them, or all.
    """,
    bounds="""
        The rows that are read: a statement on a column with the node's own name, indexed, reads the same rows and no tokens.
        Such a column would have to be written anew whenever tokens move. The condition holds 500 tokens, which the database
        compares with the index.
    """,
    figures=(Figure('read', Unit.SECONDS, 'Elapsed time from the statement to the list of ids.', tail=True),),
    play=play,
    needs=Needs.STORE,
    targets=(
        Target(
            "where, all of a node's rows of 200,000: times reading all rows",
            Pick('read', who=f'ours, {_READ_ALL}', case='all of them, of 200,000 rows'),
            at_least=3,
            against=Pick('read', case='all of them, of 200,000 rows'),
        ),
    ),
)
