"""Processes that are started anew, by ``spawn`` or ``forkserver``: what may be passed to them, and what may not."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import Store, kinds, owned_tasks
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.support.timings import TOKENS

from jobsync import CoordinationConfig, Job, WrongProcess

pytestmark = pytest.mark.any_store

one_store = pytest.mark.parametrize('store', kinds(['sqlite']), indirect=True)
"""The store is not the subject, as long as other processes reach it."""


def work(name: str, config: CoordinationConfig, pipe: Any) -> None:
    """Be a node of the cluster, for as long as it takes to do a task."""
    with Job(name, coordination_config=config) as job:
        task = owned_tasks(job)[0]
        with job.task(task):
            pipe.send((os.getpid(), len(job.my_tokens), task))


@one_store
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_process_started_in_the_block_has_a_job_of_its_own(store: Store, method: str) -> None:
    """The configuration can be passed to it. It is a node like any other, and the parent's is not disturbed."""
    context = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    with store.job('parent') as job:
        child = context.Process(target=work, args=('child', store.config(), sending))  # type: ignore[attr-defined]
        child.start()
        assert receiving.poll(4 * DEADLINE_SEC)
        pid, tokens, task = receiving.recv()
        child.join(DEADLINE_SEC)
        assert (child.exitcode, child.pid, tokens) == (0, pid, TOKENS // 2)
        wait_until(lambda: len(job.my_tokens) == TOKENS, 'all is back')
        assert job.am_i_healthy()
    assert store.audits == [str(task)]


@one_store
@pytest.mark.parametrize('use', [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize('kind', ['job', 'async_job'])
def test_a_job_is_not_copied(store: Store, use: Callable[[object], object], kind: str) -> None:
    """Neither before the block nor in it: the error says what to pass in its place."""
    job = getattr(store, kind)('a')
    with pytest.raises(WrongProcess, match=r"job 'a' cannot be copied or pickled.* the node name and the CoordinationConfig"):
        use(job)


@one_store
def test_a_job_is_not_passed_to_a_process(store: Store) -> None:
    """No process is started for it, and the job goes on."""
    with store.job('a') as job:
        child = multiprocessing.get_context('spawn').Process(target=work, args=(job,))
        with pytest.raises(WrongProcess):
            child.start()
        assert child.pid is None or child.exitcode != 0
        assert job.am_i_healthy()
