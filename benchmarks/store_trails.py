"""Ours in ``store.py``: bulk writes, and the bare statements to hold them against."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import psycopg

from jobsync import CoordinationConfig, Job, plugins
from jobsync.backend import BackendOptions
from jobsync.core.model import NodeRef, Registration, Settings

__all__ = ['bare', 'trails']

_QUIET_SEC = 2.0
_rounds = count()
"""So that no two runs write the same items."""


def items(number: int) -> list[str]:
    this_round = next(_rounds)
    return [f'task-{this_round}-{each}' for each in range(number)]


def seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def wait_until_quiet(job: Job) -> None:
    """The leader, which is this very process, pins what is locked: until it has done so and there is nothing left to do."""
    known, since = job.token_version, time.monotonic()
    while time.monotonic() < since + _QUIET_SEC:
        time.sleep(0.05)
        if job.token_version != known:
            known, since = job.token_version, time.monotonic()


@contextmanager
def trails(url: str, namespace: str, number: int) -> Iterator[dict[str, Callable[[], float]]]:
    """The runs of a job that owns everything, and of a backend by itself.

    ``add_task`` is what it took to begin the tasks of the last ``audits``.
    """
    config = CoordinationConfig(backend=url, appname=namespace, minimum_nodes=1)
    backend = plugins.connect(url, BackendOptions(namespace + 'backend_'))
    timeline = backend.open(Settings(10_000, 'xxh3', 1), create=True).timeline
    ref, date = NodeRef('node-0000', 'run'), dt.datetime.now(dt.UTC).date()
    backend.register(Registration(ref, 15), timeline, 0)
    added = 0.0
    with Job('node-0000', coordination_config=config) as job:

        def locks() -> float:
            took = seconds(job.register_task_locks_bulk, [(item, 'node%', 'benchmark') for item in items(number)])
            job.clear_all_locks()
            wait_until_quiet(job)
            return took

        def audits() -> float:
            nonlocal added
            tasks = items(number)
            added = seconds(lambda: [job.add_task(task) for task in tasks])
            return seconds(job.write_audit)

        yield {
            'locks': locks,
            'claims': lambda: seconds(job.set_claim, items(number)),
            'append_claims': lambda: seconds(backend.append_claims, ref, items(number), date),
            'audits': audits,
            'add_task': lambda: added,
            'append_audits': lambda: seconds(backend.append_audits, ref.name, items(number), date),
        }
    backend.close()


@contextmanager
def bare(url: str, namespace: str, number: int) -> Iterator[dict[str, Callable[[], float]]]:
    """Single statements, each committed, on tables like ours without their triggers."""
    with psycopg.connect(url, autocommit=True) as connection:

        def run(statement: str, *parameters: object) -> float:
            return seconds(connection.execute, statement, parameters)

        for name in ('claim', 'lock'):
            connection.execute(f'CREATE TABLE bare_{name} (LIKE {namespace}{name} INCLUDING ALL)')
        claim = 'INSERT INTO bare_claim (item, date, node, created_on) SELECT unnest(%s::text[]), current_date, %s, now()'
        lock = (
            'INSERT INTO bare_lock (task_id, node_pattern, patterns, reason, created_by, created_at, registered)'
            """ SELECT unnest(%s::text[]), 'node%%', '["node%%"]', 'benchmark', 'node-0000', now(), 1"""
        )
        yield {
            'SELECT 1': lambda: run('SELECT 1'),
            'commit': lambda: run(claim, items(1), 'node-0000'),
            'claims': lambda: run(claim, items(number), 'node-0000'),
            'locks': lambda: run(lock, items(number)),
        }
