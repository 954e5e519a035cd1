"""States of a cluster in which a wrong answer shows, and what must be true whatever was done to it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence

from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import Job
from jobsync._core.records import NodeRef, Registration

AGO = {
    'postgresql': "now() - interval '{}'",
    'sqlite': "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{}')",
}


def ago(store: Store, time: str) -> str:
    """The expression for a moment in the past: ``'2 hours'``."""
    return AGO[store.handle.info.name].format(time)


class _Undo(Exception):
    """The end of ``undone``."""


@contextlib.contextmanager
def undone(cn: db.Connection) -> Iterator[None]:
    """Take back whatever is written in the block: for states that the cluster itself would put right at once."""
    with contextlib.suppress(_Undo), cn.transaction():
        yield
        raise _Undo


def register_silent(store: Store, name: str) -> None:
    """A node that never beats, and is patiently waited for."""
    timeline = store.handle.snapshot().timeline
    store.handle.register(Registration(NodeRef(name, uuid.uuid4().hex), timeout_sec=600), timeline, 0)


def is_whole(jobs: Sequence[Job], tokens: int = TOKENS) -> bool:
    """Whether every token is exactly one job's, and loads, which pins are part of, differ by one at most."""
    owned = [job.my_tokens for job in jobs]
    together = frozenset[int]().union(*owned)
    loads = [len(each) for each in owned]
    return together.issuperset(range(tokens)) and len(together) == sum(loads) and max(loads) - min(loads) <= 1


def wait_until_whole(*jobs: Job) -> None:
    """Wait until every token is exactly one job's, and each job can go on."""
    wait_until(lambda: is_whole(jobs) and all(job.am_i_healthy() for job in jobs), 'every token has exactly one owner')
    for job in jobs:
        task = next(task for task in range(1000) if job.can_claim_task(task))
        assert job.add_task(task)
        job.write_audit()


def wait_until_shown(cn: db.Connection, *jobs: Job) -> None:
    """Wait until the table says of each job what the job itself says, and of nobody else anything."""

    def shown() -> bool:
        rows = db.select(cn, 'SELECT node, token_id FROM sync_token')
        owned = {(row['node'], row['token_id']) for row in rows}
        return owned == {(job.node_name, token) for job in jobs for token in job.my_tokens}

    wait_until(shown, 'the table is what the jobs go by')
