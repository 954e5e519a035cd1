"""The tutorial does what it says."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, blocks
from tests.job.waiting import wait_until

PAGE = DOCS / 'tutorial.md'
NAMES = ('ann', 'bob', 'cat')


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The page's workers, started as it says, each with its output in a file of its name."""
    (program,) = (block.text for block in blocks(PAGE) if block.is_python)
    (tmp_path / 'worker.py').write_text(program)
    started = {}
    for name in NAMES:
        with (tmp_path / name).open('wb') as output:
            command = [sys.executable, 'worker.py', name]
            started[name] = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def query(folder: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / 'jobs.db')) as connection:
        return connection.execute(statement).fetchall()


def statements() -> list[str]:
    return [found for block in blocks(PAGE) for found in re.findall(r'jobs\.db "(SELECT.*)"', block.text)]


def test_three_workers_share_and_one_is_killed(workers: dict[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Each has its part; what the killed one had is done by the others; the log and the tables show what the page shows."""

    def output(name: str) -> str:
        return (tmp_path / name).read_text()

    wait_until(lambda: all(f'{name} does' in output(name) for name in NAMES), 'all three are at work')
    entered = [int(found) for name in NAMES for found in re.findall(r'entered with (\d+) tokens', output(name))]
    assert sorted(entered) == [3333, 3333, 3334]
    (leader,) = (name for name in NAMES if 'leads in epoch 1' in output(name))
    victim = next(name for name in NAMES if name != leader)
    workers[victim].kill()
    rest = [name for name in NAMES if name != victim]
    wait_until(lambda: all(workers[name].poll() is not None for name in rest), 'the others have ended')
    assert [workers[name].returncode for name in rest] == [0, 0], '\n'.join(map(output, rest))
    assert all('sees that all is done' in output(name) for name in rest)
    assert re.search(rf'node dead: {victim}: 333[34] tokens moved', output(leader))
    assert 'first distribution: 10000 tokens moved, 10000 rows written, 3 nodes' in output(leader)
    assert query(tmp_path, 'SELECT count(DISTINCT item) FROM sync_audit') == [(30,)]
    claims, rebalances = (query(tmp_path, statement) for statement in statements())
    assert {node for node, _ in claims} == set(NAMES)
    assert rebalances[0] == ('first distribution', 10_000, 3)
    again = subprocess.run([sys.executable, 'worker.py', leader], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"node '{leader}': a batch of 30 tasks was complete already" in again.stderr
    assert 'does' not in again.stdout
    for command in re.findall(r'^jobsync (.+)$', PAGE.read_text(encoding='utf-8'), flags=re.MULTILINE):
        environ = {**os.environ, 'JOBSYNC_BACKEND': 'sqlite:///jobs.db'}
        line = [sys.executable, '-m', 'jobsync.cli.main', *shlex.split(command)]
        done = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr
        assert (
            'no node is at work' if command == 'status' else 'completed' if 'history' in command else 'It is complete'
        ) in done.stdout
