"""What other processes, users, containers and file systems do to what a host knows of its workers: real processes throughout.

Where nothing may pass on but by what is known, the timeout is one that no test sees the end of.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.job.processes import ROOT, Worker, workers
from tests.job.samples import load, loads, overlaps
from tests.job.stores import STORES, Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync._core.records import NodeState
from jobsync._runtime.host_lock import HostFolder, LockVerdict

CRASH = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 2}
NEVER = {'heartbeat_timeout_sec': 3000}
PROCESSES = 5
MOUNTS = ('unshare', '--user', '--map-root-user', '--mount')
"""A mount namespace of its own, as a container has it."""

READS_ALL = ('--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search')
"""For ``setpriv``: another user may read the programs of this one, whose folder may be closed to others."""


def needs(*command: str) -> None:
    """Skip the test where a command is refused."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    except OSError as error:
        pytest.skip(f'{command[0]}: {error.strerror}')
    if ended.returncode:
        pytest.skip(f'{" ".join(command[:4])}: {ended.stderr.strip()}')


def mounted(folder: Path, options: str, then: str = 'true') -> Sequence[str]:
    """A command that starts another one where ``folder`` is a file system of its own."""
    script = f'mount -t tmpfs -o {options} none "$0" && {then} && exec "$@"'
    return (*MOUNTS, 'sh', '-c', script, str(folder))


def incarnations(store: Store) -> dict[str, str]:
    """Those registered, by name."""
    return {node.name: node.incarnation for node in store.handle.snapshot().nodes if node.state is NodeState.JOINED}


def verdicts(store: Store, base: Path | None = None) -> dict[str, LockVerdict]:
    """What this process finds of each node."""
    folder = HostFolder(None if base is None else str(base))
    return {name: folder.examine(incarnation).verdict for name, incarnation in incarnations(store).items()}


def enter(*some: Worker) -> None:
    """Wait until all have their share."""
    for worker in some:
        worker.wait_until_said('entered')
    wait_until(lambda: loads(*some) == [TOKENS // len(some)] * len(some), 'all have their share')


def owned_twice(*some: Worker) -> list[object]:
    """What two of them owned at once."""
    return [found for one, two in itertools.combinations(some, 2) for found in overlaps(one, two)]


@pytest.mark.any_store
def test_the_folder_is_wiped_while_five_work(shared_store: Store, tmp_path: Path) -> None:
    """Nobody is taken for dead without the files; they are made again, and then two that are killed are known to be over."""
    started = [
        Worker(shared_store.url, f'w{number}', 'sample', minimum_nodes=PROCESSES, known_death_dir=str(tmp_path), **NEVER)
        for number in range(PROCESSES)
    ]
    with workers(*started):
        enter(*started)
        before = incarnations(shared_store)
        for _ in range(3):
            shutil.rmtree(tmp_path / f'jobsync-{os.geteuid()}')
            wait_until(lambda: set(verdicts(shared_store, tmp_path).values()) == {LockVerdict.HELD}, 'all files are there again')
        assert incarnations(shared_store) == before
        assert loads(*started) == [TOKENS // PROCESSES] * PROCESSES
        killed, living = started[:2], started[2:]
        for worker in killed:
            worker.process.kill()
        wait_until(lambda: sum(loads(*living)) == TOKENS, 'the others own everything')
        assert incarnations(shared_store).items() == {each for each in before.items() if each[0] not in ('w0', 'w1')}
    assert owned_twice(*started) == []


@pytest.mark.postgres
def test_workers_of_two_users(request: pytest.FixtureRequest) -> None:
    """A user's workers know nothing of another user's on the same host: the timeout applies, from either side."""
    nobody = pwd.getpwnam('nobody')
    drop = ('setpriv', f'--reuid={nobody.pw_uid}', f'--regid={nobody.pw_gid}', '--clear-groups', *READS_ALL)
    needs(*drop, sys.executable, '-c', 'import jobsync, tests')
    store = Store(STORES['postgresql'](request))
    request.addfinalizer(store.close)
    mine, theirs = Worker(store.url, 'mine', 'sample', **CRASH), Worker(store.url, 'theirs', 'sample', drop, **CRASH)
    with workers(mine, theirs):
        enter(mine, theirs)
        assert verdicts(store) == {'mine': LockVerdict.HELD, 'theirs': LockVerdict.ABSENT}
        theirs.process.kill()
        wait_until(lambda: load(mine) == TOKENS, 'this one owns everything')
        again = Worker(store.url, 'theirs', 'sample', drop, **CRASH)
        with workers(again):
            enter(mine, again)
            mine.process.kill()
            wait_until(lambda: load(again) == TOKENS, 'the other one owns everything')
    assert owned_twice(mine, theirs, again) == []


@pytest.mark.any_store
@pytest.mark.parametrize('kind', ['full', 'another'])
def test_a_folder_of_a_container(shared_store: Store, tmp_path: Path, kind: str) -> None:
    """Where the folder is full, or is another one under the same path, nothing is known, and the timeout applies."""
    needs(*MOUNTS, 'mount', '-t', 'tmpfs', 'none', str(tmp_path))
    inner = tmp_path / 'inner'
    inner.mkdir()
    wrapper = mounted(inner, 'size=4k', 'head -c 4096 /dev/zero >"$0/full"') if kind == 'full' else mounted(inner, 'size=1m')
    outside = Worker(shared_store.url, 'outside', 'sample', known_death_dir=str(inner), **CRASH)
    inside = Worker(shared_store.url, 'inside', 'sample', wrapper, known_death_dir=str(inner), **CRASH)
    with workers(outside, inside):
        enter(outside, inside)
        assert verdicts(shared_store, inner) == {'outside': LockVerdict.HELD, 'inside': LockVerdict.ABSENT}
        inside.process.kill()
        wait_until(lambda: load(outside) == TOKENS, 'the other one owns everything')
        inside.wait()
        assert any('No space left' in line for line in inside.errors) is (kind == 'full')
    assert owned_twice(outside, inside) == []


@pytest.mark.any_store
def test_a_container_that_shares_the_folder(shared_store: Store, tmp_path: Path) -> None:
    """Where the ids of processes mean others, and the folder is shared, an end is known all the same."""
    wrapper = (*MOUNTS, '--pid', '--fork', '--kill-child')
    needs(*wrapper, 'true')
    outside = Worker(shared_store.url, 'outside', 'sample', known_death_dir=str(tmp_path), **NEVER)
    inside = Worker(shared_store.url, 'inside', 'sample', wrapper, known_death_dir=str(tmp_path), **NEVER)
    with workers(outside, inside):
        enter(outside, inside)
        inside.process.kill()
        wait_until(lambda: load(outside) == TOKENS, 'the other one owns everything')
    assert owned_twice(outside, inside) == []


@pytest.mark.any_store
def test_a_worker_that_becomes_its_own_program_anew(shared_store: Store) -> None:
    """After ``exec`` its name is free at once, and what it had is owned again, by a new incarnation."""
    other, renewed = (Worker(shared_store.url, name, 'sample', **NEVER) for name in ('other', 'renewed'))
    with workers(other, renewed):
        enter(other, renewed)
        before = incarnations(shared_store)
        renewed.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: incarnations(shared_store).get('renewed') not in (before['renewed'], None), 'it has registered again')
        wait_until(lambda: loads(other, renewed) == [TOKENS // 2] * 2, 'both have their share')
    assert owned_twice(other, renewed) == []


@pytest.mark.any_store
def test_two_jobs_in_one_process_of_which_one_leaves(shared_store: Store) -> None:
    """The one that stays is not taken for dead; when the process is killed, it is known to be over."""
    two = Worker(shared_store.url, 'stays', 'sample', second='leaves', **NEVER)
    other = Worker(shared_store.url, 'other', 'sample', **NEVER)
    with workers(two, other):
        for worker in (two, other):
            worker.wait_until_said('entered')
        wait_until(lambda: loads(two, other) == [TOKENS // 3] * 2, 'all three have their share')
        before = incarnations(shared_store)
        two.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: loads(two, other) == [TOKENS // 2] * 2, 'both that stay have their share')
        assert incarnations(shared_store).items() == {each for each in before.items() if each[0] != 'leaves'}
        two.process.kill()
        wait_until(lambda: load(other) == TOKENS, 'the other process owns everything')
    assert owned_twice(two, other) == []
