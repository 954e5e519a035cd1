"""The table of stores, and what a test does to one behind a job's back."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from tests.job.waiting import wait_until
from tests.support.stores import KINDS, Kind
from tests.support.timings import FAST, PATIENT

from jobsync import AsyncJob, CoordinationConfig, Job, plugins
from jobsync._core.records import Audit, Claim, HistoryKind, NodeRef, Registration, TaskLock
from jobsync.backend import Backend, BackendOptions
from jobsync.errors import NameTaken

_FIXTURES = {'postgresql': 'newest_postgres', 'redis': 'redis_of_many', 'etcd': 'etcd_server'}
"""The servers that tests share."""


def _empty(kind: Kind, request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(_FIXTURES[kind.name]) if kind.start else None
    return kind.empty(server, request.getfixturevalue('tmp_path'))


STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {name: partial(_empty, kind) for name, kind in KINDS.items()}
"""For each kind of store the URL of an empty one, for a test with the fixtures it may ask for."""
MARKS = {'postgresql': pytest.mark.postgres, 'redis': pytest.mark.redis, 'etcd': pytest.mark.etcd}
"""Of the kinds that need a server."""


SQL = ('sqlite', 'postgresql')
"""The kinds that have it."""


def kinds(names: Iterable[str] = STORES) -> list[Any]:
    """Parameters of a fixture: names of stores, each with its mark."""
    return [pytest.param(name, marks=MARKS.get(name, ())) for name in names]


class Store:
    """A store, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._handle: Backend | None = None

    def config(self, **fields: Any) -> CoordinationConfig:
        """Fast timings, a small pool, and what the test asks for."""
        return CoordinationConfig(**{'backend': self.url, **FAST, **fields})

    def job(self, name: str = 'a', /, *, config: dict[str, Any] | None = None, **arguments: Any) -> Job:
        """A job on this store."""
        return Job(name, coordination_config=self.config(**(config or {})), **arguments)

    def async_job(self, name: str = 'a', /, *, config: dict[str, Any] | None = None, **arguments: Any) -> AsyncJob:
        """The same for an event loop."""
        return AsyncJob(name, coordination_config=self.config(**(config or {})), **arguments)

    @property
    def handle(self) -> Backend:
        """The test's own way into the store."""
        if self._handle is None:
            self._handle = plugins.connect(self.url, BackendOptions(**PATIENT))
            self._handle.open(self.config().settings, create=True)
        return self._handle

    def close(self) -> None:
        """Let go of the handle."""
        if self._handle is not None:
            self._handle.close()

    @property
    def claims(self) -> list[str]:
        """The items claimed so far, oldest first."""
        return [row.item for row in reversed(self.handle.history(HistoryKind.CLAIM)) if isinstance(row, Claim)]

    @property
    def audits(self) -> list[str]:
        """The items audited so far, oldest first."""
        return [row.item for row in reversed(self.handle.history(HistoryKind.AUDIT)) if isinstance(row, Audit)]

    @property
    def locks(self) -> list[TaskLock]:
        """The task locks and items, without the records of who has led or steered."""
        return [lock for lock in self.handle.read_locks().locks if lock.is_policy]

    @property
    def node_names(self) -> list[str]:
        """Who has a record."""
        return [node.name for node in self.handle.snapshot().nodes]

    def evict(self, name: str) -> None:
        """Put another run in the place of a node's, one that leaves at once: the node is no longer registered.

        Goes by the protocol alone, so that it works on every store.
        """
        usurper = NodeRef(name, uuid.uuid4().hex)

        def replaced() -> bool:
            snapshot = self.handle.snapshot()
            node = next(node for node in snapshot.nodes if node.name == name)
            with contextlib.suppress(NameTaken):
                self.handle.register(Registration(usurper, timeout_sec=1), snapshot.timeline, 0, node.beat)
                return True
            return False

        wait_until(replaced, f'{name} is replaced')
        self.handle.deregister(usurper)


def owned_tasks(job: Job | AsyncJob, count: int = 1, among: range = range(1000)) -> list[int]:
    """Task ids that the job may claim now."""
    found = [task for task in among if job.can_claim_task(task)]
    assert len(found) >= count, f'{job.node_name} owns only {len(found)} of {len(among)} tasks'
    return found[:count]


def foreign_task(job: Job | AsyncJob) -> int:
    """A task id that it may not."""
    return next(task for task in range(1000) if not job.can_claim_task(task))
