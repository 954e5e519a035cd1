"""``jobsync conformance``: the suite on any backend by URL."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.servers import free_port

from jobsync.cli.conformance import check
from jobsync.errors import ConfigError
from jobsync.testing import BackendSuite
from jobsync.testing.conformance import runner
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


def command(*arguments: str, path: Path | None = None) -> list[str]:
    code = (
        f'import sys; sys.path[:0] = {[str(Path(__file__).parents[2]), str(path)]!r}; from jobsync.cli.main import main; main()'
    )
    return [sys.executable, '-c', code, 'conformance', *arguments]


def conformance(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, path=path), capture_output=True, text=True, check=False)


def test_every_test_says_what_it_guards() -> None:
    """A failure of any test of the suite can be told in terms of the protocol."""
    assert not [pair for pair in TESTS if not set(guarded_by(*pair)) <= MEANING.keys()]


def test_no_row_is_left_over() -> None:
    """Each row of the table is that of a class or a test there is."""
    assert GUARDS.keys() <= {name for pair in TESTS for name in pair}


def test_a_backend_that_holds() -> None:
    """The status is 0, and what could not be tried is not among what holds."""
    done = conformance('memory://', '--quick', '--select', 'heartbeat or survive or outlive')
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'not tried: \d+ tests?, needs RESTART: the store goes down', done.stdout)
    assert 'holds     R1      the lease' in done.stdout
    assert re.search(r'\d+ holds, 0 fails, [1-9]\d* not tried', done.stdout)


def test_a_broken_backend(tmp_path: Path) -> None:
    """The status is 1, and each failure says what it costs."""
    (tmp_path / 'broken_plugin.py').write_text(BROKEN)
    info = tmp_path / 'broken-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[jobsync]\nbroken = broken_plugin\n')
    done = conformance('broken://', '--quick', '--select', 'gone_run', path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'FAILS test_heartbeat_of_a_gone_run_is_refused: ' in done.stdout
    assert 'case: unknown' in done.stdout
    assert 'costs R1: the lease' in done.stdout


HARNESS = """
import secrets
from jobsync.backend import BackendOptions
from jobsync.plugins import connect
from jobsync.testing import Ability, Harness

class Mine(Harness):
    abilities = frozenset({Ability.CRASH, Ability.RESTART})

    def __init__(self, url):
        self.url = url + secrets.token_hex(8)

    def connect(self, namespace='sync_', **options):
        return connect(self.url, BackendOptions(namespace, **options))

    def restart(self):
        pass

class Broken(Mine):
    abilities = frozenset()

    def __init__(self, url):
        super().__init__(url)
        Broken.made += 1

    made = 0

    def close(self):
        if Broken.made > 1:  # the first is asked what it can do
            raise RuntimeError('the store cannot be removed')

def nothing(url):
    return 3
"""


def test_a_harness_of_the_authors_own(tmp_path: Path) -> None:
    """It is called with the URL, and what it can do is tried."""
    (tmp_path / 'my_harness.py').write_text(HARNESS)
    done = conformance(
        'memory://',
        '--harness',
        'my_harness:Mine',
        '--quick',
        '--select',
        'survive or outlive or cannot_be_deleted',
        path=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '5 holds, 0 fails, 1 not tried' in done.stdout


def test_a_url_of_its_own_for_each_harness(tmp_path: Path) -> None:
    """``{unique}`` is other letters for each test, with a harness of the author's too: two tests on one store would fail."""
    (tmp_path / 'my_harness.py').write_text(HARNESS.replace('url + secrets.token_hex(8)', 'url'))
    options = ('--harness', 'my_harness:Mine', '--quick', '--select', 'epoch_rises_by_one or another_epoch_changes_nothing')
    done = conformance(f'sqlite:///{tmp_path}/{{unique}}.db', *options, path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '2 holds, 0 fails, 0 not tried' in done.stdout


WRONG = """
import attrs
from jobsync.backends.memory import MemoryBackend, MemoryStore

class Wrong(MemoryBackend):
    def snapshot(self):
        return attrs.evolve(super().snapshot(), locks_revision=77)

class OnWrong(Mine):
    def connect(self, namespace='sync_', **options):
        return Wrong(MemoryStore())
"""


def test_a_failure_shows_what_was_compared(tmp_path: Path) -> None:
    """The report of the command has the values that differ."""
    (tmp_path / 'my_harness.py').write_text(HARNESS + WRONG)
    done = conformance('memory://', '--harness', 'my_harness:OnWrong', '--select', 'locks_revision_is', path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'readings.py:' in done.stdout
    assert ': assert namespace.snapshot().locks_revision == 0\n' in done.stdout
    assert 'assert 77 == 0' in done.stdout


def test_trouble_around_a_test_that_cannot_be_tried(tmp_path: Path) -> None:
    """What goes wrong before or after a test counts, though the test itself needs what the harness cannot do."""
    (tmp_path / 'my_harness.py').write_text(HARNESS)
    done = conformance('memory://', '--harness', 'my_harness:Broken', '--select', 'under_load', path=tmp_path)
    assert done.returncode == 1
    assert '0 holds, 1 fails, 0 not tried' in done.stdout
    assert 'the store cannot be removed' in done.stdout


@pytest.mark.parametrize(
    ('harness', 'said'),
    [
        ('nosuchmodule:Harness', 'must be module:Class'),
        ('my_harness:Nosuch', 'must be module:Class'),
        ('my_harness', 'must be module:Class'),
        ('my_harness:nothing', 'must give a jobsync.testing.Harness, and gave 3'),
        ('jobsync.testing:BackendSuite', 'must be called with the URL alone'),
        ('my_harness:__doc__', 'must be called with the URL alone'),
    ],
)
def test_a_harness_that_is_none(tmp_path: Path, harness: str, said: str) -> None:
    """One clear error, no traceback."""
    (tmp_path / 'my_harness.py').write_text(HARNESS)
    done = conformance('memory://', '--harness', harness, path=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('scheme', [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ('redis', 'etcd')])
def test_a_store_that_does_not_answer(scheme: str) -> None:
    """One error instead of one for each test: the URL, without its password, and the status is 2."""
    port = free_port()
    done = conformance(f'{scheme}://user:secret@127.0.0.1:{port}')
    assert done.returncode == 2
    assert done.stdout == ''
    assert f'the store at {scheme}://user:***@127.0.0.1:{port} does not answer' in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert 'secret' not in done.stderr


CUT_SHORT = """
import os, signal
import pytest

class CutShort(Mine):
    made = 0

    def close(self):
        CutShort.made += 1
        if CutShort.made == 3:
            {}
"""


@pytest.mark.parametrize(
    ('what', 'code', 'said'),
    [
        ('os.kill(os.getpid(), signal.SIGINT)', 130, 'Aborted!'),
        ('pytest.exit("enough", 0)', 1, 'the suite has ended after 1 of'),
    ],
)
def test_a_run_that_is_cut_short_is_not_success(tmp_path: Path, what: str, code: int, said: str) -> None:
    """By Ctrl-C, say: what was not run does not hold, and no verdict is printed."""
    (tmp_path / 'my_harness.py').write_text(HARNESS + CUT_SHORT.format(what))
    done = conformance('memory://', '--harness', 'my_harness:CutShort', '--quick', '--select', 'heartbeat', path=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert 'holds' not in done.stdout


HANGING = """
import os
import threading
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing.conformance import runner

runner.HANGING_SEC = float(os.environ['HANGING_SEC'])
STANDARD_ERROR = os.dup(2)  # pytest takes the other one for itself

class Hanging(MemoryBackend):
    def heartbeat(self, *arguments):
        os.write(STANDARD_ERROR, b'here it hangs\\n')
        threading.Event().wait()

class OnHanging(Mine):
    def connect(self, namespace='sync_', **options):
        return Hanging(MemoryStore(), BackendOptions(namespace, **options))
"""


def test_a_call_that_never_returns(tmp_path: Path) -> None:
    """It is shown where the test and the backend are, while they are there: no time limit of the call itself is reached."""
    (tmp_path / 'my_harness.py').write_text(HARNESS + HANGING)
    hanging = command('memory://', '--harness', 'my_harness:OnHanging', '--select', 'heartbeat_stores_candidacy', path=tmp_path)
    # It is shown once, a while after the test has begun: too early where what comes before takes longer than that.
    for seconds in ('0.1', '10', '60'):
        with subprocess.Popen(hanging, stderr=subprocess.PIPE, text=True, env={**os.environ, 'HANGING_SEC': seconds}) as process:
            assert process.stderr is not None
            try:
                shown = iter(process.stderr.readline, '')
                if any('most recent call first' in line for line in itertools.takewhile('here it hangs\n'.__ne__, shown)):
                    continue
                assert any(line.endswith('in heartbeat\n') for line in shown)
                assert any(line.endswith('in test_heartbeat_stores_candidacy\n') for line in shown)
                return
            finally:
                process.kill()
    pytest.fail('each time it was shown before the call that hangs')


def test_a_harness_and_commands() -> None:
    """One or the other says what can be done to the store."""
    with pytest.raises(ConfigError, match='leave out the commands'):
        check('memory://', {'stop': 'true'}, harness='my_harness:Mine', quick=True, select='')


def test_nothing_tried_is_not_success(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run none of whose tests could be tried does not pass; nor does a selection that matches no test, which says so."""
    skipped = runner.Result('test_x', runner.Verdict.NOT_TRIED, ('P1',), 'Holds.', 'no way to do that')
    monkeypatch.setattr(runner, 'run', lambda *_: [skipped])
    assert not check('memory://', {}, harness=None, quick=True, select='')
    assert '1 not tried' in capsys.readouterr().out
    done = conformance('memory://', '--select', 'nosuchtest')
    assert (done.returncode, done.stdout) == (1, '')
    assert "--select is 'nosuchtest': no test of the suite matches that" in done.stderr


def test_an_unknown_scheme() -> None:
    """One clear error, no traceback."""
    done = conformance('nosuch://')
    assert done.returncode == 1
    assert 'no backend answers to nosuch://' in done.stderr
    assert 'Traceback' not in done.stderr
