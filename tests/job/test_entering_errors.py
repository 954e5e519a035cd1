"""What a user sees of an error of entering: a few steps, which are the user's own, and one line."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import wait_until

from jobsync import AsyncJob, CoordinationConfig, Job
from jobsync._event_log import event_log
from jobsync._runtime import threads
from jobsync.errors import BackendNotFound, BackendUnavailable, JobsyncError, NodeNameInUse


def lines_of(error: BaseException) -> list[str]:
    return ''.join(traceback.format_exception(error)).splitlines()


def assert_short(error: BaseException) -> None:
    """The error has no chain, few steps, and one line; the driver's exception is not lost."""
    lines = lines_of(error)
    assert len(lines) <= 20, '\n'.join(lines)
    assert len([line for line in lines if line.startswith('Traceback')]) == 1
    assert lines[-1] == f'{type(error).__module__}.{type(error).__qualname__}: {error}'


@pytest.mark.any_store
def test_a_name_in_use(store: Store) -> None:
    """No step of the node's own threads is shown."""
    with store.job('a'):
        with pytest.raises(NodeNameInUse) as caught, store.job('a'):
            pass
        assert_short(caught.value)
        try:
            raise LookupError  # what the program handles meanwhile is no reason for it
        except LookupError:
            with pytest.raises(NodeNameInUse) as caught, store.job('a'):
                pass
        assert_short(caught.value)


def test_a_store_that_does_not_answer() -> None:
    """No step of a driver is shown, and its exception is there for a debugger."""
    config = CoordinationConfig(backend='redis://127.0.0.1:1', op_timeout_sec=0.2)
    with pytest.raises(BackendUnavailable) as caught, Job('a', coordination_config=config):
        pass
    assert_short(caught.value)
    assert caught.value.__context__ is not None


def alarms() -> int:
    """Return how many descriptors of this process wake a thread of a node."""
    found: list[Path] = []
    for entry in Path('/proc/self/fd').iterdir():
        with suppress(OSError):  # another thread has closed it meanwhile
            found.append(entry.readlink())
    return found.count(Path('anon_inode:[eventfd]'))


@pytest.mark.parametrize('store', kinds(['sqlite']), indirect=True)
@pytest.mark.parametrize('what', ['deaths', 'heartbeat'])
def test_a_node_without_a_thread(
    store: Store, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the process can start none, that is an error of jobsync, as with any call of the store; and nothing stays open.

    Nor is anything waited for, or logged, as if the node had been a member, and could not leave.
    """
    start = threads.start

    def refuse(node_name: str, wanted: str, target: Callable[[], object]) -> threads.Running:
        if wanted == what:
            raise RuntimeError('the process can start no thread now')
        return start(node_name, wanted, target)

    monkeypatch.setattr(threads, 'start', refuse)
    opened = alarms()
    with pytest.raises(JobsyncError, match='start no thread') as caught, store.job('a', config={'op_timeout_sec': 0.5}):
        pass
    assert_short(caught.value)
    wait_until(lambda: alarms() == opened, 'what was opened is closed', 20)
    assert event_log.flush(60)
    assert 'could not leave' not in caplog.text


@pytest.mark.parametrize('what', ['gate', 'heartbeat'])
def test_an_async_job_without_a_thread(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AsyncJob`` raises what ``Job`` does, also where no thread can be started for entering itself."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == f'jobsync-{what}-a':
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        async with AsyncJob('a', coordination_config=CoordinationConfig(backend='memory://')):
            pass

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    with pytest.raises(JobsyncError, match='start no thread'):
        asyncio.run(main())


def test_a_wrong_scheme_for_async_jobs() -> None:
    """``AsyncJob`` shows as little."""

    async def main() -> None:
        async with AsyncJob('a', coordination_config=CoordinationConfig(backend='postgre://h/db')):
            pass

    with pytest.raises(BackendNotFound, match='did you mean postgresql://') as caught:
        asyncio.run(main())
    assert isinstance(caught.value, JobsyncError)
    assert len([line for line in lines_of(caught.value) if line.startswith('Traceback')]) == 1
