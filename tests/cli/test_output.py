"""What is printed where there is little room, or no place to print to."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import attrs
import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.cli.conftest import invoke

from jobsync import Cluster, plugins
from jobsync._cluster.reading import ClusterReader, ClusterReading
from jobsync.backend import BackendOptions
from jobsync.cli import output
from jobsync.cli.commands import cli
from jobsync.cli.main import main
from jobsync.cli.output import print_json, table_of
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY


def at_width(url: str, monkeypatch: pytest.MonkeyPatch, width: int, *command: str) -> str:
    """Return what a command prints at a terminal of so many characters."""
    monkeypatch.setattr(output, '_WIDE', width)
    return invoke(url, *command).stdout


@pytest.mark.parametrize('command', ['nodes', 'status'])
def test_a_narrow_terminal(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """No word is cut: first the columns go in which nothing is unusual, then the rows are printed one below the other."""
    namespace.join('worker-17', host='db-host-17', pid=4711)
    wide, usual, narrow = (at_width(url, monkeypatch, width, command) for width in (200, 80, 40))
    assert all(word in wide for word in ('weight', 'drained', 'holding', 'worker-17', 'db-host-17', '4711', 'joined'))
    for shown, width in ((usual, 80), (narrow, 40)):
        assert all(word in shown for word in ('worker-17', 'db-host-17', '4711', 'joined', 'heartbeat'))
        assert all(len(line.rstrip()) <= width for line in shown.splitlines())
    assert 'holding' not in usual
    assert 'tokens     12' in narrow
    namespace.lock('b', group='#drained')
    assert 'drained' in at_width(url, monkeypatch, 80, command)


def test_a_terminal_that_does_not_know_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked, or has 80: lines are not left out, and ``status --watch`` fills none with a million blanks."""
    monkeypatch.setattr(sys, 'stdout', terminal := io.StringIO())
    monkeypatch.setattr(terminal, 'isatty', lambda: True)
    monkeypatch.setenv('COLUMNS', '0')
    output.console().print('all is well')
    assert 'all is well' in terminal.getvalue()
    assert output.console().width < 1000


@pytest.mark.parametrize('width', [None, '40'])
def test_no_example_url_is_cut(monkeypatch: pytest.MonkeyPatch, width: str | None) -> None:
    """``backends`` shows URLs to copy: whole where there is no terminal, and on several lines at a narrow one."""
    if width is not None:
        monkeypatch.setattr(output, '_WIDE', int(width))
    shown = CliRunner().invoke(cli, 'backends').stdout
    assert '…' not in shown
    assert ('redis://localhost/0?durable=yes' in shown) is (width is None)


def test_no_line_is_folded_where_there_is_no_terminal(url: str, namespace: Namespace) -> None:
    """A program finds a task by its id, however long that is."""
    task = 'https://files.example/' + 1500 * 'x'
    namespace.backend.append_claims(namespace.node('a').ref, [task], DAY)
    namespace.lock(task, reason='large')
    assert task in invoke(url, 'claims').stdout
    assert task in invoke(url, 'locks', 'list').stdout


@pytest.mark.parametrize('target', ['&-', '/dev/full'])
@pytest.mark.parametrize('command', ['status', *(pytest.param(each, marks=pytest.mark.full) for each in ('nodes', 'dump'))])
def test_no_place_to_print_to(tmp_path: Path, target: str, command: str) -> None:
    """A closed standard output, or a full disk under it, ends the command without a traceback."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        Namespace(backend).leader('a')
    line = f'{sys.executable} -m jobsync.cli.main {command} --backend {url} >{target}'
    done = subprocess.run(['sh', '-c', line], stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    expected = (1, 'Error: [Errno 28] No space left on device\n') if target == '/dev/full' else (0, '')
    if command == 'status' and target == '&-':
        expected = (3, '')  # tokens have no owner
    assert (done.returncode, done.stderr) == expected


@pytest.mark.parametrize('options', ['', '--json'])
def test_no_place_to_print_to_what_was_done(tmp_path: Path, options: str) -> None:
    """A command that has changed something says so on standard error where standard output takes nothing: it has not failed."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        namespace = Namespace(backend)
        namespace.leader('a')
        line = f'{sys.executable} -m jobsync.cli.main locks add x a {options} --backend {url} >/dev/full'
        done = subprocess.run(['sh', '-c', line], stderr=subprocess.PIPE, text=True, timeout=240, check=False)
        assert 'x' in namespace.locks()
    assert (done.returncode, done.stderr) == (1, "'x' is locked to 'a'\nError: [Errno 28] No space left on device\n")


@pytest.mark.parametrize('command', ['doctor', 'status --watch'])
def test_what_is_printed_bit_by_bit_has_no_place(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """With standard output closed, a command that prints while it works goes on to its end, and one without an end has ended."""
    assert namespace
    waits: list[float] = []
    this, sleep = threading.get_ident(), time.sleep

    def wait(seconds: float) -> None:
        if threading.get_ident() != this:
            sleep(seconds)
            return
        waits.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(time, 'sleep', wait)
    monkeypatch.setattr(sys, 'stdout', None)
    with suppress(SystemExit):
        cli([*command.split(), '--backend', url], standalone_mode=False)
    assert waits == []


@pytest.mark.parametrize(
    ('command', 'lines'),
    [('status --watch --every 0.5', 1), ('nodes --json', 0), pytest.param('nodes nodes', 0, marks=pytest.mark.full)],
)
def test_a_reader_that_has_gone(tmp_path: Path, command: str, lines: int) -> None:
    """A command whose output goes into ``head`` ends as other programs do, by SIGPIPE, and prints nothing more."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        namespace = Namespace(backend)
        namespace.lead(namespace.join('a', timeout_sec=3600))  # no process sends its heartbeats
    errors = subprocess.STDOUT if command == 'nodes nodes' else subprocess.PIPE  # wrong arguments, whose message has no reader
    arguments = [sys.executable, '-m', 'jobsync', *command.split(), '--backend', url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().startswith('1 node, leader a') for _ in range(lines)] == [True] * lines
        process.stdout.close()
        assert process.wait(240) == -signal.SIGPIPE
        assert process.stderr is None or process.stderr.read() == ''


def test_a_text_that_a_terminal_would_act_on(url: str, namespace: Namespace) -> None:
    """A reason that erases the screen, ends the line or turns the direction is printed as codes, and a name as it is."""
    namespace.join('工人 3', host='\u202ehost')
    namespace.lock('x', patterns=('gpu-%',), reason='needs\x1b[2J\na gpu')
    for command in ('locks list', 'why x', 'nodes'):
        shown = invoke(url, *command.split()).stdout
        assert all(sign.isprintable() for line in shown.split('\n') for sign in line)
        assert ('工人 3' if command == 'nodes' else r'needs\x1b[2J\na gpu') in shown


def test_json_that_a_terminal_would_act_on(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON's own escapes leave what it may hold as it is: a control sequence of one character, and what reverses a line."""
    value = {'tâsk': 'x\x9b2J\u202e\x7f\U000e0001'}
    print_json(value)
    printed = capsys.readouterr().out
    assert (json.loads(printed), printed.replace('\n', '').isprintable(), 'tâsk' in printed) == (value, True, True)


def test_an_error_that_a_terminal_would_act_on(url: str, namespace: Namespace) -> None:
    """A name in the store that an error lists is shown with codes too, on the error's one line."""
    namespace.join('\x1b[2Jx\ny')
    result = invoke(url, 'evict', 'z', '--yes')
    assert result.stderr == "Error: node is 'z': must be a registered node: \\x1b[2Jx\\ny, a, b\n"


@pytest.mark.parametrize('width', range(20, 130))
def test_no_width_cuts_a_short_word(width: int) -> None:
    """Headings and short values are whole, in a table or one below the other, and no line is wider than the terminal."""
    nodes = ('name', 'state', 'leads', 'tokens', 'pins', 'holding', 'weight', 'drained', 'heartbeat', 'timeout', 'host', 'pid')
    row = ('w1', 'joined', True, 333, 1, 2, 1.0, True, '0.2 s', '6.0 s', 'vm', 2146)
    place = Console(width=width, file=io.StringIO(), color_system=None)
    place.print(table_of(nodes, [row, row], width))
    shown = place.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in shown.split() for word in (*nodes, 'joined', '333', '2146'))
    assert max(map(len, shown.splitlines())) <= width


def test_a_table_of_very_many_rows(url: str, namespace: Namespace) -> None:
    """Each is one line with all that a short table has."""
    namespace.lock(*(f'工{number}' for number in range(1200)), patterns=('gpu-%',), reason='needs a gpu')
    lines = invoke(url, 'locks', 'list').stdout.splitlines()
    assert lines[0].split() == ['task', 'id', 'node', 'pattern', 'patterns', 'created', 'by', 'expires', 'at', 'reason']
    assert lines[-1].split() == ['工1199', 'gpu-%', 'gpu-%', 'me', '-', 'needs', 'a', 'gpu']
    assert len(lines) == 1201


def test_watching_into_a_file(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output is no terminal, each reading is printed as it comes. Ctrl-C is the way to end it, and no error."""
    readings = 0

    def sleep(seconds: float) -> None:
        nonlocal readings
        readings += 1
        if readings == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr('jobsync.cli.readings.time', SimpleNamespace(sleep=sleep))
    runner = CliRunner(env={'JOBSYNC_BACKEND': url})
    result = runner.invoke(cli, ['status', '--watch'])
    assert (result.stdout.count('all is well'), result.exit_code, result.stderr) == (3, 0, '')


@pytest.mark.parametrize('error', [BackendUnavailable, SchemaMismatch, ConfigError])
def test_watching_a_store_that_comes_back(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, error: type[JobsyncError]
) -> None:
    """A store that was read once may be restored meanwhile, or refuse its user: the watch goes on. A wrong URL is an error."""
    read, readings = ClusterReader.read, 0

    def fail(reader: ClusterReader, key: str | None = None) -> ClusterReading:
        nonlocal readings
        readings += 1
        if readings == 2:
            raise error('it is away')
        return read(reader, key)

    def sleep(seconds: float) -> None:
        if readings == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr('jobsync.cli.readings.time', SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(ClusterReader, 'read', fail)
    watched = invoke(url, 'status', '--watch')
    assert (watched.exit_code, watched.stdout.count('all is well'), watched.stdout.count('it is away')) == (0, 2, 1)
    assert invoke(url, 'status', '--watch', '--appname', 'other_').exit_code == 1


def test_watching_a_store_that_goes_back(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch that is lower, as in a store that was emptied, is no change of the leader: those that follow are counted on."""
    read, epochs = ClusterReader.read, [300, 1, 2]

    def read_next(reader: ClusterReader, key: str | None = None) -> ClusterReading:
        reading = read(reader, key)
        leadership = attrs.evolve(reading.snapshot.leadership, epoch=epochs.pop(0))
        return attrs.evolve(reading, snapshot=attrs.evolve(reading.snapshot, leadership=leadership))

    def sleep(seconds: float) -> None:
        if not epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr('jobsync.cli.readings.time', SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(ClusterReader, 'read', read_next)
    assert re.findall(r'the leader has changed (.*) since', invoke(url, 'status', '--watch').stdout) == ['1 time']


def test_each_finding_is_a_line_of_a_file(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output of doctor is no terminal, nothing is broken that a program searches for."""
    monkeypatch.setattr(Cluster, 'incomplete', Mock(side_effect=ConfigError('may not ' * 100)))
    (line,) = [line for line in invoke(url, 'doctor').stdout.splitlines() if 'may not' in line]
    assert line.count('may not') == 100


@pytest.mark.parametrize('encoding', ['latin-1', 'ascii', 'utf-8'])
def test_json_in_an_encoding_that_lacks_a_character(tmp_path: Path, encoding: str) -> None:
    """It is JSON all the same, with the name as it is."""
    url, name = f'sqlite:///{tmp_path}/jobs.db', 'wörker-\N{ROCKET}'
    backend = plugins.connect(url, BackendOptions())
    Namespace(backend).join(name)
    backend.close()
    command = [sys.executable, '-m', 'jobsync', 'nodes', '--backend', url, '--json']
    printed = subprocess.run(command, capture_output=True, check=True, env={**os.environ, 'PYTHONIOENCODING': encoding}).stdout
    assert json.loads(printed.decode('utf-8' if encoding == 'ascii' else encoding))[0]['name'] == name


def test_a_table_in_an_encoding_that_lacks_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a code in the place of the character."""
    with closing(plugins.connect(f'sqlite:///{tmp_path}/jobs.db', BackendOptions())) as backend:
        Namespace(backend).join('wörker')
    monkeypatch.setattr(sys, 'argv', ['jobsync', 'nodes', '--backend', f'sqlite:///{tmp_path}/jobs.db'])
    with (tmp_path / 'out').open('w', encoding='ascii') as out, pytest.raises(SystemExit):
        monkeypatch.setattr(sys, 'stdout', out)
        main()
    assert r'w\xf6rker' in (tmp_path / 'out').read_text(encoding='ascii')
