"""A worker process on an event loop: ``python -m tests.job.async_worker URL NAME MODE [SETTING=VALUE …]``, as ``worker``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator

from tests.job.worker import PlainHandler, sample, say
from tests.support.timings import FAST

from jobsync import AsyncJob, CoordinationConfig


async def endless(source: str) -> AsyncIterator[int]:
    """Tasks one after the other, or three and then none for a very long time."""
    task = 0
    while source == 'claim' or task < 3:
        task += 1
        yield task
    say(state='waiting')
    await asyncio.sleep(3600)


async def work(job: AsyncJob, mode: str) -> None:
    """What the worker does in its block."""
    while mode == 'sample':  # an event loop that is blocked for good
        sample(job)
        time.sleep(0.005)
    if mode == 'busy':
        await job.add_task(next(task for task in range(1000) if job.can_claim_task(task)))
        say(state='busy')
        await asyncio.sleep(3600)
    async for _ in job.claim(endless(mode)):
        await asyncio.sleep(0.01)
    say(state='over')


async def main() -> None:
    """Run until a signal comes."""
    url, name, mode, *settings = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, handlers=[PlainHandler()])
    fields = {key: json.loads(value) for key, value in (setting.split('=', 1) for setting in settings)}
    config = CoordinationConfig(backend=url, **(FAST | fields))
    say(state='entering')
    async with AsyncJob(name, coordination_config=config, handle_signals=True) as job:
        say(state='entered', tokens=len(job.my_tokens))
        await work(job, mode)
    say(state='left')


if __name__ == '__main__':
    asyncio.run(main())
