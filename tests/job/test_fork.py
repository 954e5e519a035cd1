"""A process that is forked inside the block."""

from __future__ import annotations

import json
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import TOKENS, Store, owned_tasks
from tests.job.waiting import wait_until

from jobsync import Job, WrongProcess
from jobsync.core.model import NodeState


def in_fork(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a forked child, as JSON."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        try:
            result = work()
        except BaseException:  # noqa: BLE001  (the parent judges)
            result = traceback.format_exc()
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return result


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


@pytest.mark.parametrize(
    'use',
    [
        lambda job: job.add_task(1),
        lambda job: job.set_claim(1),
        lambda job: job.write_audit(),
        lambda job: job.get_audit(),
        lambda job: job.get_incomplete_tasks(),
        lambda job: job.register_task_lock(1, '%'),
        lambda job: job.list_locks(),
        lambda job: job.clear_all_locks(),
        lambda job: job.nodes,
        lambda job: job._cn,
    ],
)
def test_use_in_a_fork_is_refused(store: Store, use: Callable[[Job], object]) -> None:
    """Whatever needs the store raises ``WrongProcess`` in the child, and names both processes."""
    with store.job('a') as job:
        parent = os.getpid()

        def attempt() -> str:
            try:
                use(job)
            except WrongProcess as error:
                return str(error).replace(str(os.getpid()), 'CHILD')
            return 'not refused'

        message = in_fork(attempt)
        assert message.startswith(f"job 'a' was entered by process {parent}, and this is its fork CHILD")
    assert store.claims == []


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
