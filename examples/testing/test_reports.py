"""A worker and its tests: what it does as nodes die, hang and come back, in milliseconds and without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from jobsync import AsyncJob, BackendUnavailable, Job
from jobsync.testing import VirtualCluster

# --- the program -------------------------------------------------------------------------------------------------------------

CUSTOMERS = [f'customer-{number}' for number in range(30)]


class Cache:
    """What a worker keeps in memory of the customers that are its own."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def drop_all(self, tokens: frozenset[int]) -> None:  # noqa: ARG002 - any loss empties it
        """Forget everything: another worker may write to the same customers by now."""
        self.entries.clear()


def report(job: Job, send: Callable[[str], object], cache: Cache) -> None:
    """Send each customer's report once a day, whichever worker does it."""
    for customer in job.batch(CUSTOMERS):
        time.sleep(2)  # the report is made
        if not job.can_claim_task(customer):
            return  # lost meanwhile: the report stays incomplete, and its owner sends it
        cache.entries[customer] = 'sent'
        send(customer)


async def report_async(job: AsyncJob, send: Callable[[str], object]) -> None:
    """Do the same on an event loop."""
    async with job:
        async for customer in job.batch(CUSTOMERS):
            await asyncio.sleep(2)  # the report is made
            send(customer)


# --- its tests ---------------------------------------------------------------------------------------------------------------


def test_every_report_is_sent_though_a_worker_dies(jobsync_cluster: VirtualCluster) -> None:
    """What a dead worker has not finished, the others do."""
    sent: list[str] = []
    for name in ('a', 'b', 'c'):
        jobsync_cluster.join(name)
        jobsync_cluster.start(name, report, sent.append, Cache())
    jobsync_cluster.wait_until(lambda: len(sent) >= 6)
    jobsync_cluster.kill('a')
    jobsync_cluster.wait_until(lambda: set(sent) == set(CUSTOMERS))
    assert len(sent) == len(CUSTOMERS)


def test_a_worker_that_was_suspended_sends_nothing_and_drops_its_cache(jobsync_cluster: VirtualCluster) -> None:
    """A minute of SIGSTOP in the midst of a report: the report is the other worker's by then."""
    sent: list[str] = []
    cache = Cache()
    jobsync_cluster.join('a', on_lost=cache.drop_all)
    jobsync_cluster.join('b')
    jobsync_cluster.start('a', report, sent.append, cache)
    jobsync_cluster.wait_until(lambda: len(sent) == 3)
    assert cache.entries
    jobsync_cluster.pause('a')
    jobsync_cluster.advance(60)
    jobsync_cluster.resume('a')
    jobsync_cluster.advance(1)
    assert len(sent) == 3
    assert not cache.entries


def test_an_outage_ends_nothing(jobsync_cluster: VirtualCluster) -> None:
    """The worker has no lease for a while, and goes on where it was."""
    sent: list[str] = []

    def work(job: Job) -> None:
        while len(sent) < len(CUSTOMERS):
            try:
                report(job, sent.append, Cache())
            except BackendUnavailable:
                time.sleep(5)

    jobsync_cluster.join('a')
    jobsync_cluster.start('a', work)
    jobsync_cluster.advance(10)
    jobsync_cluster.cut_off()
    jobsync_cluster.advance(300)
    before = len(sent)
    jobsync_cluster.reconnect()
    jobsync_cluster.wait_until(lambda: set(sent) == set(CUSTOMERS))
    assert before < 15


def test_every_report_is_sent_though_an_event_loop_dies(jobsync_cluster: VirtualCluster) -> None:
    """The same of workers on event loops."""
    sent: list[str] = []
    for name in ('a', 'b', 'c'):
        jobsync_cluster.async_job(name)
        jobsync_cluster.start(name, report_async, sent.append)
    jobsync_cluster.wait_until(lambda: len(sent) >= 6)
    jobsync_cluster.kill('a')
    jobsync_cluster.wait_until(lambda: set(sent) == set(CUSTOMERS))
    assert len(sent) == len(CUSTOMERS)
