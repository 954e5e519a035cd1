"""A process that is forked inside the block."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.job.processes import ROOT
from tests.job.stores import Store, kinds, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import AsyncJob, Job, WrongProcess, plugins
from jobsync._core.records import NodeState
from jobsync._worker import connecting
from jobsync.backend import BackendOptions
from jobsync.backends.etcd.purging import EtcdPurging
from jobsync.backends.etcd.storetime import StoreTime
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing.conformance.namespace import SETTINGS


def in_fork(work: Callable[[], Any], fork: Callable[[], int] = os.fork, *, within_sec: int | None = None) -> Any:
    """What ``work`` gives in a forked child, as JSON; None if it gives nothing ``within_sec``."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # that there are threads is the point
        pid = fork()
    if pid == 0:
        try:
            result = work()
        except BaseException:  # noqa: BLE001  (the parent judges)
            result = traceback.format_exc()
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    ending = threading.Timer(within_sec or 0, os.kill, (pid, signal.SIGKILL))
    if within_sec is not None:
        ending.start()
    with os.fdopen(reading) as pipe:
        text = pipe.read()
        result = json.loads(text) if text or within_sec is None else None
    ending.cancel()
    os.waitpid(pid, 0)
    return result


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """A lock that another thread holds."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            is_over.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(120)
    try:
        yield
    finally:
        is_over.set()
        thread.join(120)


def test_a_fork_while_another_thread_is_in_the_memory_store() -> None:
    """The child reads its copy, which no thread of its own keeps from it."""
    store = MemoryStore()
    backend = MemoryBackend(store)
    backend.open(SETTINGS, True)
    with held(store.changed):
        assert in_fork(lambda: len(backend.snapshot().nodes), within_sec=20) == 0


def test_a_fork_while_another_thread_is_at_what_a_backend_remembers(tmp_path: Path) -> None:
    """The child goes on with the handle of the parent: it waits for no thread of the parent's."""
    sqlite: Any = plugins.connect(f'sqlite:///{tmp_path}/a.db', BackendOptions())
    time, purging, store = StoreTime(), EtcdPurging(Mock()), sqlite.store
    with held(time._lock):
        assert in_fork(lambda: time.is_sure, within_sec=20) is not None
    with held(purging._reads):
        assert in_fork(lambda: purging._reads.acquire(timeout=20), within_sec=30)
    with held(store._hints._lock):
        assert in_fork(lambda: store._hints.hint(1, 0), within_sec=20) is not None
    sqlite.close()


def test_a_fork_owns_nothing(store: Store) -> None:
    """In the child ``can_claim_task`` is False and ``my_tokens`` empty; the parent is not disturbed."""
    with store.job('a') as job:
        tokens = job.my_tokens

        def look() -> Any:
            claimable = [task for task in range(1000) if job.can_claim_task(task)]
            return claimable, sorted(job.my_tokens), job.am_i_healthy(), job.am_i_leader()

        assert in_fork(look) == [[], [], False, False]
        assert job.my_tokens is tokens
        assert job.add_task(owned_tasks(job)[0])
        beat = job._last_heartbeat_sent
        wait_until(lambda: job._last_heartbeat_sent != beat, 'the parent goes on')


@pytest.mark.any_store
@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux clears memory in a fork')
def test_a_fork_that_python_does_not_know_of_owns_nothing(store: Store) -> None:
    """A server such as uWSGI forks its workers in C, past what Python calls in the child of ``os.fork``."""
    fork_in_c = ctypes.PyDLL(None).fork
    with store.job('a') as job, job.singleton('place') as turn:
        job.declare_items('letters', ['x'])
        wait_until(lambda: job.items('letters') == ['x'], 'the item is its own')

        def look() -> Any:
            claimable = [task for task in ['x', *range(1000)] if job.can_claim_task(task)]
            owned = sorted(job.my_tokens), [*map(job.owns, range(TOKENS))], job.items('letters')
            return claimable, *owned, job.am_i_healthy(), bool(turn)

        assert look()[0]
        assert look()[-1]
        # Another thread may have had the lock of Python's interpreter at the moment of the fork: such a child can do nothing, and
        # says nothing about jobsync. It is ended, and there is another.
        for _ in range(5):
            seen = in_fork(look, fork_in_c, within_sec=60)
            if seen is not None:
                break
        assert seen == [[], [], [False] * TOKENS, [], False, False]
        assert job.add_task(owned_tasks(job)[0])


USES: list[Callable[[Job], object]] = [
    lambda job: job.add_task(1),
    lambda job: job.set_claim(1),
    lambda job: job.write_audit(),
    lambda job: job.get_audit(),
    lambda job: job.get_incomplete_tasks(),
    lambda job: job.register_task_lock(1, '%'),
    lambda job: job.list_locks(),
    lambda job: job.clear_all_locks(),
    lambda job: job.claim([1]),
    lambda job: job.task(1).__enter__(),
    lambda job: job.complete(1),
    lambda job: job.fence(1),
    lambda job: job.owner_of(1),
    lambda job: job.set_weight(1),
    lambda job: job.register_task_locks_bulk([(1, '%', 'reason')]),
    lambda job: job.clear_locks_by_creator('a'),
    lambda job: job.get_active_nodes(),
    lambda job: job.get_dead_nodes(),
    lambda job: job.nodes,
    lambda job: job._cn,
]
"""What needs the store."""


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_fork_differs_by_its_id_or_by_its_mark(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process of a namespace has the id of its parent in that one's; and not every kernel clears the mark."""
    with store.job('a') as job:
        for owner, name, value in (job._session, 'mark', (False,)), (os, 'getpid', lambda: 1):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, value)
                with pytest.raises(WrongProcess):
                    job.add_task(1)
        assert job.add_task(1)


@pytest.mark.any_store
def test_use_in_a_fork_is_refused(store: Store) -> None:
    """Whatever needs the store raises ``WrongProcess`` in the child, and names both processes."""
    with store.job('a') as job:
        parent = os.getpid()

        def attempt(use: Callable[[Job], object]) -> str:
            try:
                use(job)
            except WrongProcess as error:
                return str(error).replace(f'fork {os.getpid()}', 'fork CHILD')
            return 'not refused'

        refusal = f"job 'a' was entered by process {parent}, and this is its fork CHILD"
        for number, message in enumerate(in_fork(lambda: [attempt(use) for use in USES])):
            assert message.startswith(refusal), number
    assert store.claims == []


@pytest.mark.any_store
@pytest.mark.parametrize('how', ['in a loop', 'in a block'])
def test_a_fork_amid_a_task(store: Store, how: str) -> None:
    """A child forked in the midst of a task cannot end it: the loop or the block raises there, and the parent's goes on."""

    def goes_on(job: Job) -> Iterator[None]:
        if how == 'in a loop':
            for _ in job.claim([1]):
                yield
        else:
            with job.task(1):
                yield

    with store.job('a') as job:
        work = goes_on(job)
        next(work)

        def end() -> str:
            with pytest.raises(WrongProcess):
                next(work)
            return 'refused'

        assert in_fork(end) == 'refused'
        assert store.audits == []
        assert next(work, None) is None
    assert store.audits == ['1']


@pytest.mark.any_store
def test_a_fork_of_an_event_loop(store: Store) -> None:
    """In the child of an ``AsyncJob`` nothing is this node's, all that reaches the store is refused, the end ends nothing."""

    async def attempt(job: AsyncJob) -> list[object]:
        found: list[object] = [job.can_claim_task(1), len(job.my_tokens), job.am_i_healthy()]
        uses: list[Callable[[], Any]] = [
            lambda: job.add_task(1),
            lambda: job.write_audit(),
            lambda: job.complete(1),
            lambda: job.owner_of(1),
            lambda: job.register_task_lock(1, '%'),
            lambda: job.nodes,
            lambda: job.task(1).__aenter__(),
            lambda: anext(job.claim([1])),
        ]
        for use in uses:
            try:
                await use()
            except WrongProcess:
                found.append('refused')
        await job.__aexit__(None, None, None)
        return found

    async def work() -> None:
        async with store.async_job('a') as job:
            await job.add_task(2)
            assert in_fork(lambda: asyncio.run(attempt(job))) == [False, 0, False, *['refused'] * 8]
            assert len(job.my_tokens) == TOKENS
            await job.write_audit()

    asyncio.run(work())
    assert store.audits == ['2']


IMPORTING = f"""
import sys, time
test = sys.modules[{__name__!r}]
test.is_importing.set()
test.is_forking.wait(120)
time.sleep(0.2)
"""
is_importing, is_forking = threading.Event(), threading.Event()


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('what', ['job', 'handle'])
def test_a_fork_while_another_thread_imports_what_it_needs(
    store: Store, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a thread enters the first job of a process: Python's lock on the module is taken for ever in a child of that moment."""
    name = f'slow_to_import_{what}'
    (tmp_path / f'{name}.py').write_text(IMPORTING)
    monkeypatch.syspath_prepend(tmp_path)
    for event in is_importing, is_forking:
        event.clear()

    def enter() -> None:
        with store.job('a'):
            pass

    def connect(url: str, _: object) -> Any:
        importlib.import_module(name)
        return connect_first(url, BackendOptions())

    connect_first = plugins._connect
    if what == 'job':
        monkeypatch.setattr(connecting, '_NEEDED_LATER', (name,))
    else:
        monkeypatch.setattr(plugins, '_connect', connect)

    def fork() -> int:
        is_forking.set()
        return os.fork()

    entering = threading.Thread(target=enter)
    entering.start()
    try:
        assert is_importing.wait(120)
        assert in_fork(lambda: importlib.import_module(name).__name__, fork, within_sec=120) == name
    finally:
        is_forking.set()
        entering.join(120)
        sys.modules.pop(name, None)


FORKING = """
import multiprocessing, os, sys, time
from tests.support.timings import FAST
from jobsync import CoordinationConfig, Job

SETTINGS = {**FAST, 'heartbeat_timeout_sec': 100.0}
with Job('a', coordination_config=CoordinationConfig(backend=sys.argv[1], **SETTINGS)) as job:
    assert job.add_task(1)
    for _ in range(3):
        if not (pid := os.fork()):
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        child = multiprocessing.get_context('fork').Process(target=job.am_i_healthy)
        child.start()
        child.join()
        assert child.exitcode == 0
    beat = job._last_heartbeat_sent
    while job._last_heartbeat_sent == beat or not job.am_i_healthy() or len(job.my_tokens) < FAST['total_tokens']:
        time.sleep(0.01)
    job.write_audit()
"""


def test_a_fork_that_ends_as_programs_do(shared_store: Store) -> None:
    """A child that leaves the block and the program, with all that Python tidies up there, closes nothing of the parent's."""
    command = [sys.executable, '-W', 'error', '-W', 'ignore::DeprecationWarning', '-c', FORKING, shared_store.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    told = [line for line in done.stderr.splitlines() if 'a heartbeat took' not in line]  # as on a starved machine
    assert (done.returncode, told) == (0, [])
    assert shared_store.audits == ['1']


def test_a_fork_that_leaves_the_block(store: Store) -> None:
    """The child's end of the block takes nothing from the parent."""
    with store.job('a') as job:
        assert in_fork(lambda: job.__exit__(None, None, None)) is None
        assert job.am_i_healthy()
        assert len(job.my_tokens) == TOKENS
        assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.JOINED]


def test_a_fork_with_a_job_of_its_own(shared_store: Store) -> None:
    """A job made before the fork, or in the child, is entered there under another name."""
    made_before = shared_store.job('made-before')
    with shared_store.job('a') as job:

        def work() -> list[int]:
            found = []
            for own in (made_before, shared_store.job('made-here')):
                with own:
                    found.append(len(own.my_tokens))
                    own.add_task(owned_tasks(own)[0])
            return found

        assert in_fork(work) == [TOKENS // 2, TOKENS // 2]
        wait_until(lambda: len(job.my_tokens) == TOKENS, 'all is back')
    assert len(shared_store.claims) == 2
