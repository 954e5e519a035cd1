"""``jobsync conformance``: the suite on any backend by URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobsync.testing.conformance import BackendSuite
from jobsync.testing.conformance.promises import GUARDS, MEANING, guarded_by

TESTS = [(kind.__name__, name) for kind in BackendSuite.__mro__ for name in vars(kind) if name.startswith('test_')]
BROKEN = """
import jobsync.hookspecs as jobsync
from tests.backends.mutants.nodes import HeartbeatRevives
from jobsync.backends.memory import shared_store

@jobsync.hookimpl
def jobsync_backend():
    return jobsync.BackendPlugin('broken', ('broken',), lambda url, options: HeartbeatRevives(shared_store(), options))
"""


def conformance(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = (
        f'import sys; sys.path[:0] = {[str(Path(__file__).parents[2]), str(path)]!r}; from jobsync.cli.main import main; main()'
    )
    return subprocess.run([sys.executable, '-c', code, 'conformance', *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(('kind', 'test'), TESTS)
def test_every_test_says_what_it_guards(kind: str, test: str) -> None:
    """A failure of any test of the suite can be told in terms of the protocol."""
    assert set(guarded_by(kind, test)) <= MEANING.keys()


def test_no_row_is_left_over() -> None:
    """Each row of the table is that of a class or a test there is."""
    assert GUARDS.keys() <= {name for pair in TESTS for name in pair}


def test_a_backend_that_holds() -> None:
    """The status is 0, and what could not be tried is not among what holds."""
    done = conformance('memory://', '--quick', '--select', 'heartbeat or survive or outlive')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'not tried: 2 tests, needs RESTART' in done.stdout
    assert '0 fails, 3 not tried' in done.stdout


def test_a_broken_backend(tmp_path: Path) -> None:
    """The status is 1, and each failure says what it costs."""
    (tmp_path / 'broken_plugin.py').write_text(BROKEN)
    info = tmp_path / 'broken-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[jobsync]\nbroken = broken_plugin\n')
    done = conformance('broken://', '--quick', '--select', 'gone_run', path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'FAILS test_heartbeat_of_a_gone_run_is_refused[left]' in done.stdout
    assert 'costs R1: the lease' in done.stdout


def test_nothing_tried_is_not_success() -> None:
    """A selection that matches no test does not pass."""
    assert conformance('memory://', '--select', 'nosuchtest').returncode == 1


def test_an_unknown_scheme() -> None:
    """One clear error, no traceback."""
    done = conformance('nosuch://')
    assert done.returncode == 1
    assert 'no backend answers to nosuch://' in done.stderr
    assert 'Traceback' not in done.stderr
