"""What hints of changes cost a node that they do not concern."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from tests.job.stores import Store, owned_tasks
from tests.job.waiting import wait_until

from jobsync import BackendUnavailable, plugins
from jobsync._core.agent import monitor
from jobsync._runtime import change_listener
from jobsync._runtime.change_listener import BURST_SEC, ChangeListener
from jobsync.backend import BackendOptions, Hint
from jobsync.testing import FaultyBackend

LOOKED_AT_SEC = 0.5


class Talkative(FaultyBackend):
    """A backend that always has news, which concern no node."""

    waits = 0

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        self.waits += 1
        return Hint(revision + 1, frozenset())


class Deaf(FaultyBackend):
    """A backend to which no news comes, as at the former primary of a database."""

    known = 0

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        self.known = revision
        return revision


class Broken(FaultyBackend):
    """A backend whose ``wait`` raises what no backend should."""

    waits = 0

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        self.waits += 1
        raise ZeroDivisionError


class Away(FaultyBackend):
    """A backend that cannot wait, as its store is away."""

    waits = 0

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        self.waits += 1
        raise BackendUnavailable('away')


@pytest.mark.any_store
def test_a_wait_that_fails_while_the_node_waits_for_its_tasks(store: Store) -> None:
    """It is repeated ten times a second, as before the node began to leave."""
    backend = Away(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'shutdown_timeout_sec': 600}) as job:
        task = owned_tasks(job)[0]
        assert job.add_task(task)
        runtime = job._session.runtime
        assert runtime is not None
        runtime.request_leave()
        wait_until(lambda: runtime.status.stays, 'it waits for the task')
        before, started = backend.waits, time.monotonic()
        threading.Event().wait(LOOKED_AT_SEC)
        waits, seconds = backend.waits - before, time.monotonic() - started
        job.write_audit()
    backend.inner.close()
    assert 0 < waits <= seconds / 0.1 + 2


@pytest.mark.any_store
def test_a_wait_that_always_fails_is_logged_at_a_falling_rate(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Its traceback is logged after the 1st, 2nd, 4th and 8th failure in a row."""
    backend = Broken(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}):
        wait_until(lambda: backend.waits > 10, 'it has failed often')
    backend.inner.close()
    lines = [record.getMessage() for record in caplog.records if 'the listen thread' in record.getMessage()]
    assert len(lines) >= 4
    text = "node 'a': the listen thread goes on after an unexpected error (failure {} in a row)"
    assert lines == [text.format(2**power) for power in range(len(lines))]


@pytest.mark.any_store
def test_many_changes_that_do_not_concern_a_node_are_taken_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While thousands of nodes register, another one looks twenty times a second at what has changed, not thousands of times."""
    monkeypatch.setattr(monitor, 'STANDBYS', 0)
    backend = Talkative(plugins.connect(store.url, BackendOptions()))
    with store.job('leads'), store.job('a', config={'backend': backend}):
        before, started = backend.waits, time.monotonic()
        threading.Event().wait(LOOKED_AT_SEC)
        waits, seconds = backend.waits - before, time.monotonic() - started
    backend.inner.close()
    assert 0 < waits <= seconds / BURST_SEC + 2


@pytest.mark.any_store
def test_what_a_node_has_read_without_a_hint(store: Store) -> None:
    """The backend is called with the revision that the node has read meanwhile: so it can find that it listens in vain."""
    backend = Deaf(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        job.register_task_lock('x', '%')
        revision = backend.snapshot().revision.number
        wait_until(lambda: backend.known >= revision, 'it waits for more than it has read')
    backend.inner.close()


def test_a_wait_that_ends_at_once_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one may that finds no connection: the node would do nothing else."""
    pauses = list[float]()
    monkeypatch.setattr(change_listener, 'time', SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    backend = Mock()
    backend.wait.side_effect = [7, BackendUnavailable('away')]
    listener = ChangeListener(backend, Mock(), lambda: 7)
    listener._known = 7
    for _ in range(2):
        listener.listen()
    assert pauses == [0.1, 0.1]
