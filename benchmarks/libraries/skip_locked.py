"""A queue in a table of PostgreSQL, taken from with ``FOR UPDATE SKIP LOCKED``, as an expert writes it with psycopg.

    one     take one task and delete it, do it, commit: the row stays locked meanwhile, and comes back if the process dies
    kept    take one task and mark it as begun, commit; do it; mark it as done, commit: what began and ended can be looked up
    batch   take a hundred and delete them, do them, commit
    decide  look whether a given task is free, and lock it: nothing done, nothing written
    fill, recorded   before and after a round: make its tasks; how many the table says are done

Run by the queue's own environment: each line of input is a verb with its round, and one process of several may get it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import psycopg
from benchmarks.libraries.rounds import doing, numbers
from benchmarks.libraries.serving import serve

_BATCH = 100
_TABLE = 'skip_locked_queue'
# The order is that of the primary key, and of what is left to do for the queue whose rows stay.
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {_TABLE} (id bigint PRIMARY KEY, begun timestamptz, done timestamptz);
    CREATE INDEX IF NOT EXISTS {_TABLE}_free ON {_TABLE} (id) WHERE begun IS NULL;
"""
_FREE = f'SELECT id FROM {_TABLE} WHERE begun IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED'
_TAKE = f'DELETE FROM {_TABLE} WHERE id = ANY (ARRAY({_FREE})) RETURNING id'
_BEGIN = f'UPDATE {_TABLE} SET begun = clock_timestamp() WHERE id = ANY (ARRAY({_FREE})) RETURNING id'
_DONE = f'UPDATE {_TABLE} SET done = clock_timestamp() WHERE id = %s'
_DECIDE = f'SELECT id FROM {_TABLE} WHERE id = %s AND begun IS NULL FOR UPDATE SKIP LOCKED'


class Queue:
    """One worker's connection to the queue."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        with self._connection.transaction():
            # Several may start at once, and IF NOT EXISTS is no protection from that.
            self._connection.execute('SELECT pg_advisory_xact_lock(1)')
            self._connection.execute(_CREATE)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def fill(self, tasks: range) -> float:
        """Put tasks into the empty queue, and return the seconds."""
        start = time.perf_counter()
        self._connection.execute(f'TRUNCATE {_TABLE}')
        with self._connection.cursor().copy(f'COPY {_TABLE} (id) FROM STDIN') as copy:
            for task in tasks:
                copy.write_row((task,))
        took = time.perf_counter() - start
        # As it would be in a queue that autovacuum has seen.
        self._connection.execute(f'VACUUM ANALYZE {_TABLE}')
        return took

    def one(self, done: list[int]) -> None:
        """Take one task after the other until there are none."""
        self._take(done, 1)

    def batch(self, done: list[int]) -> None:
        """Take many tasks at once until there are none."""
        self._take(done, _BATCH)

    def _take(self, done: list[int], limit: int) -> None:
        connection = self._connection
        while True:
            with connection.transaction():
                taken = connection.execute(_TAKE, (limit,)).fetchall()
                done += [task for (task,) in taken]
            if not taken:
                return

    def kept(self, done: list[int]) -> None:
        """Take one task after the other, and keep its row with both times."""
        connection = self._connection
        while taken := connection.execute(_BEGIN, (1,)).fetchone():
            done.append(taken[0])
            connection.execute(_DONE, taken)

    def decide(self, tasks: range) -> float:
        """Seconds for each of ``tasks`` to find out whether it is free, and have it, in one transaction."""
        connection = self._connection
        with connection.transaction():
            start = time.perf_counter()
            for task in tasks:
                assert connection.execute(_DECIDE, (task,)).fetchone() is not None
            return (time.perf_counter() - start) / len(tasks)

    def recorded(self, tasks: range) -> int:
        """Return how many of these tasks are marked as done or deleted."""
        row = self._connection.execute(
            f'SELECT count(*) FROM {_TABLE} WHERE done IS NULL AND id >= %s AND id < %s',
            (tasks.start, tasks.stop),
        ).fetchone()
        assert row is not None
        return len(tasks) - int(row[0])


def main(url: str) -> None:
    queue = Queue(url)
    rounds: dict[str, Callable[[range], object]] = {
        'fill': queue.fill,
        'one': lambda _: doing(queue.one),
        'batch': lambda _: doing(queue.batch),
        'kept': lambda _: doing(queue.kept),
        'decide': queue.decide,
        'recorded': queue.recorded,
    }

    def run(line: str) -> object:
        verb, first, count = line.split()
        return rounds[verb](numbers(first, count))

    serve(f'psycopg {psycopg.__version__}', run)


if __name__ == '__main__':
    main(*sys.argv[1:])
