"""The command line: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from jobsync.cli.commands import cli
from jobsync.cli.group import GROUP


def invoke(*arguments: str) -> Result:
    return CliRunner(env={'COLUMNS': '300'}).invoke(cli, arguments)


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


def test_the_package_is_the_command_too() -> None:
    """``python -m jobsync`` works where the script is not on the path, as in a container's probe."""
    done = subprocess.run([sys.executable, '-m', 'jobsync', 'backends'], capture_output=True, text=True, check=True)
    assert 'sqlite:///' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'shown'),
    [
        (('status', 'postgresql://me:SECRET@host/x'), 'unexpected extra argument (postgresql://me:***@host/x)'),
        (('redis://:SECRET@host/0', 'status'), "No such command 'redis://:***@host/0'"),
        (('purge', '--older-than=etcd://me:SEC/RET@host'), "Invalid value for '--older-than': 'etcd://***'"),
    ],
    ids=['extra', 'command', 'value'],
)
def test_a_misplaced_url_is_quoted_without_its_password(arguments: tuple[str, ...], shown: str) -> None:
    """What is printed of a mistake may end in a log."""
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert shown in result.output
    assert 'SEC' not in result.output


def test_an_option_before_its_command_is_told_from_a_mistake() -> None:
    result = invoke('--backend', 'memory://', 'status')
    assert result.exit_code == 2
    assert '--backend is no option of cli: options follow the command, as in jobsync status --backend URL' in result.output
    assert '--version' in invoke('--verison').output


COMMAND_LINE = 'from jobsync.cli.main import main; main()'


def run_without_metadata(folder: Path, *arguments: str, code: str = COMMAND_LINE) -> subprocess.CompletedProcess[str]:
    """Run a program, the command line if none is given, where everything but the metadata of jobsync is on the path."""
    for place in filter(Path.is_dir, map(Path, sys.path)):
        for each in place.iterdir():
            link = folder / each.name
            is_metadata = each.suffix in ('.dist-info', '.egg-info') and each.name.startswith('jobsync')  # of a plugin, too
            if not is_metadata and each.name != '__pycache__' and each.suffix != '.pth' and not link.exists():
                link.symlink_to(each)
    command = [sys.executable, '-I', '-S', '-c', f'import sys; sys.path.insert(0, {str(folder)!r})\n{code}', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env={'COLUMNS': '300'})


def test_a_package_without_metadata(tmp_path: Path) -> None:
    """Where only the package was copied, as in a zip or a packed program, the command says what is missing."""
    shown = run_without_metadata(tmp_path, '--version')
    unknown = 'jobsync, version unknown, since the folder jobsync-….dist-info is not beside the package\n'
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, unknown, '')
    missing = "Error: jobsync's own backends are not found, since the folder jobsync-….dist-info is not beside the package"
    for arguments, printed in (('backends',), ''), (('backends', '--json'), '[]\n'):
        shown = run_without_metadata(tmp_path, *arguments)
        assert (shown.returncode, shown.stdout) == (1, printed)
        assert shown.stderr.startswith(missing)


def test_metrics_and_page_without_metadata(tmp_path: Path) -> None:
    """A worker that needs no store counts its work there as well, and its version is unknown."""
    code = """
from jobsync import CoordinationConfig, Job
from jobsync.metrics import JobMetrics
from jobsync.web.app import _about
from prometheus_client import generate_latest
job = Job('a', coordination_config=CoordinationConfig(enabled=False))
JobMetrics(job)
with job:
    print('jobsync_build_info{version="unknown"} 1.0' in generate_latest().decode(), _about(steering=False)['version'])
"""
    shown = run_without_metadata(tmp_path, code=code)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, 'True unknown\n', '')


def test_the_version() -> None:
    assert re.fullmatch(r'jobsync, version 2\.\S+\n', invoke('--version').output)


PLUGIN = """
import jobsync.hookspecs as jobsync

def connect(url, options):
    import no_such_driver

@jobsync.hookimpl
def jobsync_backend():
    return jobsync.BackendPlugin(name='driverless', schemes=('driverless',), connect=connect, drivers=('no-such-driver',))
"""


def install(folder: Path, group: str = 'jobsync', value: str = '', metadata: str = '', **plugins: str) -> None:
    """Write a distribution for each plugin, given by name and source."""
    for name, source in plugins.items():
        (folder / f'{name}_plugin.py').write_text(source)
        info = folder / f'{name}-1.5.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{metadata}')
        (info / 'entry_points.txt').write_text(f'[{group}]\n{name} = {name}_plugin{value}\n')


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


COMMAND = """
import click

@click.command()
@click.option('--loud', is_flag=True)
def command(loud):
    "Greet."
    click.echo('HELLO' if loud else 'hello')
"""


def install_command(folder: Path, metadata: str = '', **commands: str) -> None:
    """Write a distribution with a command of each name, given by the source of a module with ``command``."""
    install(folder, 'jobsync.commands', ':command', metadata, **commands)


def test_a_distribution_whose_entry_points_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no command from its work, that of another distribution included."""
    install(tmp_path, other='')
    (tmp_path / 'other-1.5.dist-info' / 'entry_points.txt').write_text('[console_scripts]\nrun\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert 'bench' in invoke('--help').output
    assert invoke('demo', '--help').exit_code == 0


def test_the_tools_come_by_entry_points() -> None:
    """The demo and the benchmarks are commands, and the library has neither of them in its own group."""
    assert not {'bench', 'demo'}.intersection(cli.commands)
    assert {entry.name for entry in entry_points(group=GROUP)} >= {'bench', 'demo'}
    assert all(f'\n  {name} ' in invoke('--help').output for name in ('backends', 'bench', 'conformance', 'demo'))


def test_another_distribution_adds_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of the group is a command like ours, with its options and its line in the help."""
    install_command(tmp_path, greet=COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    assert invoke('greet', '--loud').output == 'HELLO\n'
    assert re.search(r'^  greet +Greet\.$', invoke('--help').output, flags=re.MULTILINE)


def test_a_command_of_the_library_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that is called like a command of the library is not used."""
    install_command(tmp_path, backends=COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    assert 'memory://' in invoke('backends').output


@pytest.mark.parametrize(
    ('source', 'said'),
    [
        ('raise RuntimeError("bad day")', 'broken_plugin:command of broken 1.5 cannot be loaded: RuntimeError: bad day'),
        ('raise SystemExit(3)', 'broken_plugin:command of broken 1.5 cannot be loaded: SystemExit: 3'),
        ('command = 5', 'broken_plugin:command of broken 1.5 is 5 (int): must be a click.Command'),
        ('', "broken_plugin:command of broken 1.5 cannot be loaded: AttributeError: module 'broken_plugin' has no attribute"),
        ('import no_such_module', "No module named 'no_such_module' (needed by broken_plugin:command of broken 1.5)"),
    ],
)
def test_a_broken_command_disturbs_no_other(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed, and fails with the reason whatever it is given; the other commands work."""
    install_command(tmp_path, broken=source, greet=COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'broken_plugin', raising=False)
    for arguments in ([], ['--help'], ['--option', 'value']):
        result = invoke('broken', *arguments)
        assert result.exit_code == 1
        assert f'the command broken cannot be used: {said}' in result.output
    assert '\n  broken ' in invoke('--help').output
    assert invoke('greet').output == 'hello\n'


def test_ctrl_c_amid_the_import_of_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the program as elsewhere, and is no fault of the command."""
    install_command(tmp_path, slow='raise KeyboardInterrupt')
    monkeypatch.syspath_prepend(tmp_path)
    result = invoke('slow')
    assert (result.exit_code, 'cannot be used' in result.output) == (130, False)


def test_a_command_whose_extra_is_missing_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a distribution has an extra of the command's name, a missing module is answered with that extra."""
    install_command(tmp_path, metadata='Provides-Extra: extra\nProvides-Extra: lacking\n', lacking='import no_such_module')
    monkeypatch.syspath_prepend(tmp_path)
    said = "the command lacking cannot be used: No module named 'no_such_module': pip install 'lacking[lacking]'"
    assert said in invoke('lacking').output


def test_the_command_line_imports_a_tool_only_when_it_is_called() -> None:
    """``jobsync backends`` imports neither the demo nor the benchmarks."""
    code = 'import sys; from jobsync.cli.commands import cli; cli(["backends"], standalone_mode=False); print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith(('jobsync_bench', 'jobsync_demo'))]


INTERRUPTED = """
import sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == 'jobsync.cli.commands':
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interruption())
from jobsync.cli.main import main
main()
"""


def test_ctrl_c_at_the_start() -> None:
    """While the command line is imported, Ctrl-C ends it as it does later: one word, no traceback."""
    done = subprocess.run([sys.executable, '-c', INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, '', '\nAborted!\n')


def every_command(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with its names."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        else:
            yield (*path, name), command


@pytest.mark.parametrize('names', [names for names, _ in every_command(cli)], ids=' '.join)
def test_every_command_prints_json_and_explains_itself(names: tuple[str, ...]) -> None:
    """``--help`` names ``--json``, except where nothing is printed for a program to read."""
    result = invoke(*names, '--help')
    assert result.exit_code == 0
    assert ('--json' in result.output) is (names not in (('web',), ('completion',)))


def test_backends_as_json() -> None:
    """The same for programs, with what each declares for each example."""
    found = {row['name']: row for row in json.loads(invoke('backends', '--json').output)}
    assert found.keys() >= {'memory', 'sqlite', 'postgresql', 'redis', 'etcd'}
    assert found['redis']['declares']['redis://localhost/0?durable=yes']['reach'] == 'network'
    assert {row['error'] for row in found.values()} == {None}


def test_scenarios_of_a_benchmark_as_json() -> None:
    """A program can choose from them."""
    assert 'calls' in [row['scenario'] for row in json.loads(invoke('bench', '--list', '--json').output)]
