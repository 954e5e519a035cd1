"""The commands: ``jobsync bench`` and ``python -m benchmarks``."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result
from tests.bench.made_up import made_up_results

from jobsync.cli.commands import cli
from jobsync_bench import play as helpers
from jobsync_bench.results import Results

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ['bench', *arguments])


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-m', 'benchmarks', *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_what_there_is_to_choose_from() -> None:
    told = bench('--list')
    assert told.exit_code == 0
    assert 'ownership  Is this task mine?; on no store\n' in told.output
    assert 'calls      One call of the store; on any store\n' in told.output


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), '--backend is needed'),
        (('--backend', 'paper://x'), 'no backend answers to paper://'),
        (('--backend', 'jobs.db'), 'must be a URL'),
        (('--backend', 'memory://', '--only', 'dance'), "there is no scenario 'dance'; there are floors, ownership, calls"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments: Sequence[str], words: str) -> None:
    told = bench(*arguments)
    assert told.exit_code != 0
    assert words in told.output
    assert 'Traceback' not in told.output


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, '_NEEDED', ('a_library_that_is_not_there', 'psutil'))
    told = bench('--backend', 'memory://')
    assert told.exit_code == 1
    assert "benchmarks need a_library_that_is_not_there: pip install 'jobsync[bench]'" in told.output


@pytest.mark.parametrize('arguments', [['--list'], ['--backend', 'memory://', '--quick']])
def test_what_is_missing_is_said_before_it_is_imported(arguments: list[str]) -> None:
    """Without the extra it is one line, though the scenarios cannot be imported."""
    code = (
        'import importlib.util as u, sys; find = u.find_spec; sys.modules["psutil"] = None\n'
        'u.find_spec = lambda name, package=None: None if name == "psutil" else find(name, package)\n'
        'from jobsync.cli.main import main; main()'
    )
    done = subprocess.run([sys.executable, '-c', code, 'bench', *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: benchmarks need psutil: pip install 'jobsync[bench]'\n")


def test_the_report_is_on_standard_output() -> None:
    told = bench('--backend', 'memory://', '--quick', '--only', 'floors', '--only', 'calls')
    assert told.exit_code == 0
    assert told.stdout.startswith('# Benchmarks\n')
    assert re.search(r'\| heartbeat +\| memory \|', told.stdout)
    assert '2 of 2: One call of the store, memory' in told.stderr


def test_results_report_and_pictures_go_to_a_folder(tmp_path: Path) -> None:
    told = bench('--backend', f'sqlite:///{tmp_path}/jobs.db', '--quick', '--only', 'calls', '--output', str(tmp_path / 'out'))
    assert told.exit_code == 0
    assert sorted(str(each.relative_to(tmp_path / 'out')) for each in (tmp_path / 'out').rglob('*.*')) == [
        'plots/calls.png', 'report.md', 'results.json',
    ]  # fmt: skip
    assert {each.store for each in Results.read(tmp_path / 'out' / 'results.json').series} == {'sqlite'}


def test_a_store_that_is_away_is_a_fault_of_each_scenario_and_the_rest_is_reported() -> None:
    told = bench('--backend', 'postgresql://nobody@127.0.0.1:1/nowhere', '--quick', '--only', 'floors', '--only', 'calls')
    assert told.exit_code == 1
    assert 'The limits of this machine' in told.stdout
    assert '- calls on postgresql was not played to its end: BackendUnavailable' in told.stdout


def test_the_harness_lists_and_refuses_as_well() -> None:
    assert (
        'rolling     Rolling restarts under load; on a store that several processes reach; only by name'
        in harness('--list').stdout
    )
    told = harness('--only', 'dance')
    assert told.returncode == 1
    assert "there is no scenario 'dance'; there are floors, imports, ownership, plan" in told.stderr
    assert "there is no store 'paper'; there are memory, sqlite" in harness('--store', 'paper').stderr


@pytest.mark.full
def test_a_report_is_made_of_earlier_results(tmp_path: Path) -> None:
    """Nothing is measured for it; what the file has of unknown scenarios is left out."""
    made_up_results().write(tmp_path / 'results.json')
    told = harness('--from', str(tmp_path / 'results.json'))
    assert told.returncode == 0, told.stderr
    assert 'Measured on 2026-01-02 03:04 UTC' in (tmp_path / 'report.md').read_text()


def is_node(process: psutil.Process) -> bool:
    """Whether it is one that takes part; one that has just ended is not."""
    with suppress(psutil.Error):
        return 'jobsync_bench.processes.idler' in process.cmdline()
    return False


@pytest.mark.full
@pytest.mark.postgres
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_server_and_no_worker_running_and_keeps_what_was_measured(number: int, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'benchmarks', '--quick', '--no-rivals', '--store', 'postgresql', '--output', str(tmp_path)]
    chosen = ['--only', 'floors', '--only', 'idle']
    with subprocess.Popen([*command, *chosen], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        started = psutil.Process(process.pid)
        deadline = time.monotonic() + 120
        below: list[psutil.Process] = []
        while not below:
            assert time.monotonic() < deadline
            assert process.poll() is None
            children = started.children(recursive=True)
            below = children if sum(is_node(child) for child in children) == 3 else []
            time.sleep(0.1)
        assert any('postgres' in child.name() for child in below)
        time.sleep(1)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert not [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    kept = json.loads((tmp_path / 'results.json').read_text())
    assert kept['stopped_by'] == signal.Signals(number).name
    assert {each['scenario'] for each in kept['series']} == {'floors'}
    assert 'The run was ended early by' in (tmp_path / 'report.md').read_text()
