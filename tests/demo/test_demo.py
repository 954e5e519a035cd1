"""The demo as its user runs it: real processes, a real kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import eventually

from jobsync.testing.worker_log import LoggedEvent, LogTail

_JOBSYNC = [sys.executable, '-m', 'jobsync.cli.main', 'demo']


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with 60 small files."""
    return _make_files(tmp_path, 60)


@pytest.fixture
def few_files(tmp_path: Path) -> Path:
    """A directory with 16 small files."""
    return _make_files(tmp_path, 16)


def _make_files(tmp_path: Path, count: int) -> Path:
    root = tmp_path / 'files'
    for number in range(count):
        path = root / f'{number % 7}' / f'{number}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'line of {number}\n' * (number + 1))
    return root


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        state = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[0]
        return state != 'Z'
    return False


def events(keep: Path, what: str) -> list[LoggedEvent]:
    return [event for log in keep.glob('*.log') for event in LogTail(log).read() if event['what'] == what]


def figures_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout.startswith('{'), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*_JOBSYNC, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_every_file_is_done_though_a_worker_is_killed(files: Path, tmp_path: Path) -> None:
    """With a kill midway every file is done, none is had by two at once, and the table of results says the same."""
    keep = tmp_path / 'keep'
    arguments = ['--path', str(files), '--workers', '3', '--seed', '7', '--keep', str(keep), '--json']
    done = subprocess.run([*_JOBSYNC, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = figures_of(done)
    assert found['ok']
    assert (found['files'], found['done'], found['missed'], found['wrong']) == (60, 60, [], [])
    assert found['worked_at_once'] == found['owned_at_once'] == found['faults'] == []
    assert [worker['node'] for worker in found['workers']] == [f'worker-{n}' for n in range(1, 5)]
    assert sum(worker['killed'] for worker in found['workers']) == 1
    assert sum(worker['files'] for worker in found['workers']) == 60 + found['done_twice']
    assert found['done_twice'] == found['done_twice_after_kill']
    assert found['tokens_moved'] >= 1000
    assert 0 < found['longest_unowned_sec'] < 60
    with contextlib.closing(sqlite3.connect(keep / 'results.db')) as results:
        rows = dict(results.execute('select file, lines from result').fetchall())
    assert rows == {str(path.relative_to(files)): int(path.stem) + 1 for path in files.rglob('*.txt')}


_EVERY_WORKER_ALONE = """
import os, pathlib, random, sys, time
import attrs

if 'jobsync_demo.worker' in sys.orig_argv:
    from jobsync_demo import files, orders

    config, digest = orders.Orders.config, files.digest
    random.Random.shuffle = lambda self, items: None
    orders.Orders.config = lambda self, nodes: attrs.evolve(config(self, 1), appname=f'alone_{os.getpid()}_')

    def both_at_the_first(path):
        files.digest = digest
        logs, deadline = pathlib.Path(sys.argv[1]).parent, time.monotonic() + 90
        while time.monotonic() < deadline and sum('"begin"' in log.read_text() for log in logs.glob('*.log')) < 2:
            time.sleep(0.01)
        return digest(path)

    files.digest = both_at_the_first
"""


@pytest.mark.full
def test_a_broken_promise_is_found(few_files: Path, tmp_path: Path) -> None:
    """Where each worker is a cluster of its own and owns everything, the demo says so and fails: its verdict is measured."""
    (tmp_path / 'sitecustomize.py').write_text(_EVERY_WORKER_ALONE)
    arguments = ['--path', str(few_files), '--workers', '2', '--no-kill', '--json', '--keep', str(tmp_path / 'keep')]
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run([*_JOBSYNC, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    found = figures_of(done)
    assert found['worked_at_once']
    assert len(found['owned_at_once']) == 1000


@pytest.mark.parametrize('number', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_an_interrupted_demo_leaves_no_process_behind(files: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end all workers before the command ends."""
    keep = tmp_path / 'keep'
    with started('--path', str(files), '--workers', '2', '--keep', str(keep)) as process:
        eventually(lambda: len({event['t'] for event in events(keep, 'begin')}) > 4)
        pids = [event['pid'] for event in events(keep, 'start')]
        assert len(pids) == 2
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    assert not any(is_alive(pid) for pid in pids)
    assert 'Traceback' not in output


@pytest.mark.full
def test_workers_leave_when_the_demo_itself_is_killed(files: Path, tmp_path: Path) -> None:
    """Even SIGKILL to the command leaves no worker behind for longer than it takes to finish a file."""
    keep = tmp_path / 'keep'
    with started('--path', str(files), '--workers', '2', '--keep', str(keep)) as process:
        eventually(lambda: len({event['t'] for event in events(keep, 'begin')}) > 4)
        pids = [event['pid'] for event in events(keep, 'start')]
        process.kill()
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert len(events(keep, 'left')) == 2


@pytest.mark.full
def test_a_worker_that_fails_by_itself_is_a_fault(few_files: Path, tmp_path: Path) -> None:
    """A worker's unexpected end is told with its last words, and fails the demo though the others did all files."""
    (tmp_path / 'sitecustomize.py').write_text(
        'import sys\n'
        'from jobsync import Job\n'
        'write_audit = Job.write_audit\n'
        'def fail(self):\n'
        '    if self.node_name == "worker-1": raise RuntimeError("out of ink")\n'
        '    write_audit(self)\n'
        'Job.write_audit = fail\n'
    )
    arguments = ['--path', str(few_files), '--workers', '2', '--no-kill', '--json', '--keep', str(tmp_path / 'keep')]
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run([*_JOBSYNC, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    found = figures_of(done)
    assert found['done'] == 16
    (fault,) = found['faults']
    assert fault.startswith('worker-1')
    assert fault.endswith('RuntimeError: out of ink')
