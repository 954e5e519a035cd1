"""procrastinate on PostgreSQL: jobs that do nothing, deferred and then worked off by as many processes as there are.

    fill     before a round: forget earlier ones and defer its jobs, all in one batch (seconds)
    one      a worker as it is by default, one job at a time, until nothing is left
    many     the same with ten jobs at a time in one process, as its page on concurrency has it
    recorded    after a round: how many of its jobs are marked as succeeded

The jobs are coroutines, which cost less than functions in threads, and the worker deletes nothing, its default.
Run by procrastinate's own environment.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import procrastinate  # type: ignore[import-not-found,unused-ignore]
from benchmarks.libraries.rounds import answer, numbers
from benchmarks.libraries.serving import serve

_AT_ONCE = {'one': 1, 'many': 10}


def main(url: str) -> None:
    logging.getLogger('procrastinate').setLevel(logging.ERROR)  # it warns of an app in a program's main module
    connector = procrastinate.PsycopgConnector(conninfo=url)
    app = procrastinate.App(connector=connector)
    done: list[int] = []

    @app.task(name='nothing')  # type: ignore[untyped-decorator,unused-ignore]
    async def nothing(number: int) -> None:
        done.append(number)

    async def prepare() -> None:
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()

    async def fill(tasks: range) -> float:
        async with app.open_async():
            await connector.execute_query_async('TRUNCATE procrastinate_jobs CASCADE')
            start = time.perf_counter()
            await nothing.batch_defer_async(*({'number': number} for number in tasks))
            took = time.perf_counter() - start
            await connector.execute_query_async('ANALYZE procrastinate_jobs')
            return took

    async def work(concurrency: int) -> dict[str, Any]:
        done.clear()
        async with app.open_async():
            began = time.monotonic()
            # It is over when it finds nothing to do; notifications would be for jobs yet to come.
            await app.run_worker_async(wait=False, concurrency=concurrency, listen_notify=False, install_signal_handlers=False)
            return answer(began, done)

    async def recorded(tasks: range) -> int:
        async with app.open_async():
            row = await connector.execute_query_one_async(
                "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
                " AND (args ->> 'number')::bigint BETWEEN %(first)s AND %(last)s",
                first=tasks.start,
                last=tasks.stop - 1,
            )
            return int(row['count'])

    def run(line: str) -> Any:
        verb, first, count = line.split()
        tasks = numbers(first, count)
        if verb in _AT_ONCE:
            return asyncio.run(work(_AT_ONCE[verb]))
        return asyncio.run({'fill': fill, 'recorded': recorded}[verb](tasks))

    asyncio.run(prepare())
    serve(f'procrastinate {procrastinate.__version__}', run)


if __name__ == '__main__':
    main(*sys.argv[1:])
