"""Processes that take part in a scenario."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jobsync_bench.interrupts import Interrupted
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all


def orders(folder: Path, nodes: int) -> list[dict[str, object]]:
    place = {'url': f'sqlite:///{folder}/jobs.db', 'namespace': 'crew_', 'tokens': 20, 'nodes': nodes}
    return [{'node': f'n{number}', **place} for number in range(nodes)]


def test_they_are_asked_and_leave_in_good_order(tmp_path: Path) -> None:
    with child_processes('claimer', orders(tmp_path, 2)) as members:
        pids = [member.pid for member in members]
        assert sum(request_all(members, 'tokens')) == 20
        answers = request_all(members, 'work', 'claim', 0, 10)
        assert sorted(task for answer in answers for task in answer['done']) == list(range(10))
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize('error', [RuntimeError('no'), pytest.param(Interrupted(15), marks=pytest.mark.full)])
def test_none_outlives_a_failure(error: BaseException, tmp_path: Path) -> None:
    pids: list[int] = []
    with suppress(RuntimeError, Interrupted), child_processes('claimer', orders(tmp_path, 2)) as members:
        pids += [member.pid for member in members]
        raise error
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.full
def test_one_that_ends_is_missed_and_says_why(tmp_path: Path) -> None:
    order = {**orders(tmp_path, 1)[0], 'url': 'paper://'}
    with (
        pytest.raises(RuntimeError, match=r'a process of claimer ended with status 1: .*no backend answers to paper://'),
        child_processes('claimer', [order]),
    ):
        pass


@pytest.mark.full
def test_one_that_has_been_killed_is_missed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match='ended with status -9'), child_processes('claimer', orders(tmp_path, 1)) as (member,):
        psutil.Process(member.pid).kill()
        while True:
            member.request('tokens')


@pytest.mark.full
def test_its_end_is_waited_for_even_if_nobody_asked_it_anything(tmp_path: Path) -> None:
    with ChildProcess('claimer', orders(tmp_path, 1)[0]) as member:
        pid = member.pid
    assert not psutil.pid_exists(pid)
