"""The command line: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobsync.cli.commands import cli


def invoke(*arguments: str) -> Result:
    return CliRunner(env={'COLUMNS': '300'}).invoke(cli, arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with one file."""
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'file').write_text('one line\n')
    return tmp_path / 'in'


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--workers', '0'], '0 is not in the range 1<=x<=64'),
        (['--workers', '-3'], '-3 is not in the range'),
        (['--workers', '65'], '65 is not in the range'),
        (['--workers', 'many'], "'many' is not a valid integer"),
        (['--path', '/no/such/place'], "'/no/such/place' does not exist"),
        (['--path', __file__], 'is a file'),
        (['--seed', 'x'], "'x' is not a valid integer"),
        (['--backend', 'nonsense'], "backend is '***' (str): must be a URL"),
        (['--backend', 'carrier-pigeon://coop'], 'no backend answers to carrier-pigeon://'),
        (['--backend', 'memory://'], 'backend is memory://: must be one that several processes can reach'),
        (['--backend', 'sqlite:////no/such/place/jobs.db'], '/no/such/place'),
        (['--keep', __file__], 'is a file'),
        (['--nonsense'], 'No such option'),
    ],
)
def test_bad_input_gets_one_clear_error(arguments: list[str], said: str, folder: Path) -> None:
    """The message names the value and what is wrong with it; no traceback, no worker started."""
    result = invoke('demo', '--path', str(folder), *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert 'Traceback' not in result.output
    assert 'processes started' not in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    """There must be something to do."""
    result = invoke('demo', '--path', str(tmp_path))
    assert result.exit_code == 1
    assert f'{tmp_path} holds no files' in result.output


def test_a_folder_in_use_is_not_written_into(folder: Path) -> None:
    """``--keep`` takes a new or empty folder, so that no file of the user is mixed with those of the demo."""
    result = invoke('demo', '--path', str(folder), '--keep', str(folder))
    assert result.exit_code == 1
    assert 'is not empty' in result.output
    assert [path.name for path in folder.iterdir()] == ['file']


def test_backends_lists_what_can_be_chosen() -> None:
    """Each backend with its URLs, the versions of its distribution and its drivers, and what it declares."""
    result = invoke('backends')
    assert result.exit_code == 0
    for text in ('memory://', 'sqlite://', 'jobsync 2', 'etcd3 0.12.0', 'protobuf ', 'psycopg 3'):
        assert text in result.output
    lines = {line.split()[0]: ' '.join(line.split()[1:]) for line in result.output.splitlines() if line.strip()}
    assert lines['memory://'] == 'one process yes yes 10,000,000 no'
    assert lines['redis://localhost/0?durable=yes'] == 'any host yes yes 1,000,000 no'
    assert lines['sqlite:///jobs.db'] == 'one host yes yes 1,000,000 yes'
    assert 'cannot be used' not in result.output


PLUGIN = """
import jobsync.hookspecs as jobsync

def connect(url, options):
    import no_such_driver

@jobsync.hookimpl
def jobsync_backend():
    return jobsync.BackendPlugin(name='driverless', schemes=('driverless',), connect=connect, drivers=('no-such-driver',))
"""


def install(folder: Path, **plugins: str) -> None:
    """Write a distribution for each plugin, given by name and source."""
    for name, source in plugins.items():
        (folder / f'{name}_plugin.py').write_text(source)
        info = folder / f'{name}-1.5.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n')
        (info / 'entry_points.txt').write_text(f'[jobsync]\n{name} = {name}_plugin\n')


def test_backends_says_why_one_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken is in the list with the reason, beside those that work."""
    install(tmp_path, driverless=PLUGIN, broken='raise RuntimeError("bad day")')
    monkeypatch.syspath_prepend(tmp_path)
    result = invoke('backends')
    assert result.exit_code == 0
    assert 'driverless 1.5, no-such-driver (not installed)' in result.output
    assert (
        "cannot be used: driverless:// needs a driver that cannot be imported (No module named 'no_such_driver')" in result.output
    )
    assert "cannot be used: 'broken' of broken 1.5 (broken_plugin) cannot be loaded: RuntimeError: bad day" in result.output
    assert 'sqlite:///jobs.db' in result.output


CARELESS = """
import jobsync.hookspecs as jobsync
from jobsync.backends.memory import MemoryBackend, MemoryStore

class Careless(MemoryBackend):
    def close(self):
        raise OSError('nothing to close')

def refuse(url, options):
    raise ValueError('no such folder')

class Mute(MemoryBackend):
    info = None

@jobsync.hookimpl
def jobsync_backend():
    return jobsync.BackendPlugin(name='{name}', schemes=('{name}',), connect={connect})
"""


def test_backends_is_not_disturbed_by_a_plugin_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin whose ``connect`` or ``close`` raises, or that declares nothing, is in the list with the reason."""
    connects = {'refusing': 'refuse', 'careless': 'lambda *_: Careless(MemoryStore())', 'mute': 'lambda *_: Mute(MemoryStore())'}
    sources = {name: CARELESS.replace('{name}', name).replace('{connect}', connect) for name, connect in connects.items()}
    install(tmp_path, **sources)
    monkeypatch.syspath_prepend(tmp_path)
    result = invoke('backends')
    assert result.exit_code == 0
    output = ' '.join(result.output.split())
    assert 'cannot be used: refusing://: its plugin fails with ValueError: no such folder' in output
    assert 'cannot be used: careless://: its plugin fails with OSError: nothing to close' in output
    assert 'cannot be used: mute://: its plugin declares None (NoneType), which is no BackendInfo' in output
    assert 'sqlite:///jobs.db' in output


@pytest.mark.parametrize('hidden', ['click', 'rich'])
def test_without_the_extra_the_command_says_what_to_install(hidden: str) -> None:
    """Where click or rich is missing, the command names it and the remedy, without a traceback."""
    code = (
        'import importlib.util as u, sys; find = u.find_spec\n'
        f'u.find_spec = lambda name, package=None: None if name == {hidden!r} else find(name, package)\n'
        'from jobsync.cli.main import main; main()'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"The command line needs {hidden}: pip install 'jobsync[cli]'\n"
