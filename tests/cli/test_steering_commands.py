"""What operators do from the command line beside reading: evict, the history, completion, and where the store is named."""

from __future__ import annotations

import itertools
import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner
from tests.cli.conftest import invoke

from jobsync import Cluster, plugins
from jobsync.backend import BackendOptions, LockEdit
from jobsync.backends.memory import MemoryBackend
from jobsync.cli.commands import cli
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch
from jobsync.rows import ClusterStatus
from jobsync.testing import Namespace

NOT_UNDONE = (('evict', 'b'), ('locks', 'clear', '--all'), ('purge', '--older-than', '0'))
"""Commands whose effect no other command undoes."""


@pytest.mark.parametrize('command', NOT_UNDONE, ids=lambda command: ' '.join(command))
def test_a_person_confirms_what_cannot_be_undone(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Where no person can be asked, the command is refused (2); "no" and no answer change nothing (1); "y" and --yes do."""
    namespace.lock('x', patterns=('b',))
    with namespace.unchanged():
        result = invoke(url, *command)
        assert (result.exit_code, 'give --yes' in result.stderr) == (2, True)
    monkeypatch.setattr('jobsync.cli.common.is_terminal', lambda: True)
    runner = CliRunner(env={'JOBSYNC_BACKEND': url})
    with namespace.unchanged():
        for answer in ('n\n', '\n', ''):
            result = runner.invoke(cli, command, input=answer)
            assert (result.exit_code, result.stdout, 'Aborted!' in result.stderr) == (1, '', True)
    assert runner.invoke(cli, [*command, '--json'], input='y\n').exit_code == 0
    assert runner.invoke(cli, [*command, '--yes']).exit_code == (command[0] == 'evict')  # b is gone


def test_a_question_at_a_terminal(tmp_path: Path) -> None:
    """A real terminal is asked, and its answer counts. What its encoding does not have is printed as codes."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        namespace = Namespace(backend)
        namespace.leader('工')
        for answer, code, printed in ((b'n\n', 1, ''), (b'y\n', 0, r"'\u5de5' is evicted")):
            ours, theirs = pty.openpty()
            os.write(ours, answer)
            command = [sys.executable, '-m', 'jobsync.cli.main', 'evict', '工', '--backend', url]
            environ = {**os.environ, 'PYTHONIOENCODING': 'latin-1'}
            done = subprocess.run(command, env=environ, stdin=theirs, capture_output=True, text=True, timeout=120, check=False)
            os.close(ours)
            os.close(theirs)
            assert (done.returncode, r"Evict '\u5de5' (" in done.stderr, done.stdout[: len(printed)]) == (code, True, printed)
        assert not namespace.nodes()


def test_evict(url: str, namespace: Namespace) -> None:
    """The record goes, and the output says what that means."""
    result = invoke(url, 'evict', 'b', '--yes', '--reason', 'hangs', '--as', 'ann')
    assert "'b' is evicted" in result.stdout
    assert 'after its timeout of 15 s' in result.stdout
    assert list(namespace.nodes()) == ['a']
    result = invoke(url, 'evict', 'b', '-y')
    assert (result.exit_code, result.stderr) == (1, "Error: node is 'b': must be a registered node: a\n")


def test_a_run_that_has_joined_anew_is_not_evicted(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question names a run. If the node has joined anew before the answer, that run is over, and the new one stays."""
    namespace.join('c', host='h\x1b', pid=12)

    def join_anew(question: str, **_: object) -> None:
        assert question.startswith(r"Evict 'c' (h\x1b, pid 12)?")
        with closing(Cluster(url)) as other:
            other.evict('c')
        namespace.join('c')

    monkeypatch.setattr('jobsync.cli.steering.confirm', join_anew)
    result = invoke(url, 'evict', 'c')
    assert (result.exit_code, 'has joined anew' in result.stderr, sorted(namespace.nodes())) == (1, True, ['a', 'b', 'c'])


def test_a_node_that_joins_before_the_answer_is_not_evicted(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question named no run, as none was registered."""
    monkeypatch.setattr('jobsync.cli.steering.confirm', lambda *_, **__: namespace.join('c'))
    result = invoke(url, 'evict', 'c')
    assert (result.exit_code, 'has joined meanwhile' in result.stderr, sorted(namespace.nodes())) == (1, True, ['a', 'b', 'c'])


def test_orphaned_locks(url: str, namespace: Namespace) -> None:
    """Those of a node that is gone are listed, those of a member and of persons are not, by whatever name these go."""
    namespace.lock('x', patterns=('a',), created_by='gone')
    namespace.lock('y', patterns=('a',), created_by='b')
    namespace.lock('v', patterns=('a',), created_by='c')
    namespace.backend.deregister(namespace.join('c'))
    for task, options in (('z', ['--as', 'ann']), ('w', [])):
        invoke(url, 'locks', 'add', task, 'a', *options)
    assert {row['task_id'] for row in json.loads(invoke(url, 'locks', 'list', '--orphaned', '--json').stdout)} == {'v', 'x'}
    told = [task for task in 'wxyz' if 'not registered any more' in invoke(url, 'why', task).stdout]
    assert told == ['x']


def test_history(url: str, namespace: Namespace) -> None:
    """The cluster's has rebalances and what operators did, with who; a task's its claims and what was done with it."""
    invoke(url, 'drain', 'b', '--reason', 'new disk', '--as', 'ann')
    invoke(url, 'locks', 'add', 'x', 'a', '--as', 'bob')
    shown = [line.split()[2:] for line in invoke(url, 'history').stdout.splitlines()[1:]]
    assert [row[:2] for row in shown] == [['lock', 'bob'], ['drain', 'ann'], ['rebalance', 'a']]
    namespace.backend.append_claims(namespace.node('a').ref, ['x'], namespace.snapshot().now.date())
    events = [line.split()[2] for line in invoke(url, 'history', 'x').stdout.splitlines()[1:]]
    assert sorted(events) == ['begun', 'lock', 'owner']


@pytest.mark.parametrize(('error', 'line'), [(ConfigError, 'ok   rights'), (BackendUnavailable, 'bad  rights')])
def test_doctor_tries_a_write(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, error: type[Exception], line: str
) -> None:
    """It changes nothing, and does not say that it may have. A user who may only read is not ill; a store without writes is."""
    with namespace.unchanged():
        assert 'this user may read and steer' in invoke(url, 'doctor').stdout

    def refuse(self: object, edit: object) -> int:
        raise error('no')

    monkeypatch.setattr(MemoryBackend, 'edit_locks', refuse)
    shown = invoke(url, 'doctor')
    assert any(found.startswith(line) for found in shown.stdout.splitlines())
    assert 'carried out' not in shown.stdout
    assert shown.exit_code == (3 if error is BackendUnavailable else 0)


def test_doctor_goes_on_where_the_store_goes_away(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has found by then is shown, as JSON too, and so are the findings that need no store."""
    status, calls = Cluster.status, itertools.count()

    def go_away(cluster: Cluster) -> ClusterStatus:
        if next(calls) == 6:  # five to measure how long one takes, and one for the problems
            raise BackendUnavailable('the store has gone')
        return status(cluster)

    monkeypatch.setattr(Cluster, 'status', go_away)
    found = {row['subject']: row for row in json.loads(invoke(url, 'doctor', '--json').stdout)}
    assert found['clocks'] == {'verdict': 'warn', 'subject': 'clocks', 'words': 'BackendUnavailable: the store has gone'}
    assert found['tasks']['verdict'] == 'ok'


def test_doctor_goes_on_where_it_may_not_read(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it cannot examine is a finding of its own, and every other check is there."""

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError('permission denied')

    subjects = [line.split()[1] for line in invoke(url, 'doctor').stdout.splitlines()]
    for method in ('incomplete', 'history', 'edit_locks'):
        monkeypatch.setattr(MemoryBackend, method, refuse)
    shown = invoke(url, 'doctor')
    lines = [line.split(maxsplit=2) for line in shown.stdout.splitlines()]
    assert shown.exit_code == 3
    assert {*subjects} <= {line[1] for line in lines}
    assert ['warn', 'tasks', 'ConfigError: permission denied'] in lines


def test_a_wrong_namespace_is_named(url: str, namespace: Namespace) -> None:
    """Where there is no such namespace, the line says which was looked for, and what to check."""
    result = invoke(url, 'nodes', '--appname', 'other_')
    assert (result.exit_code, result.stderr.count('\n')) == (1, 1)
    assert "the namespace 'other_' at memory://" in result.stderr
    assert 'are --appname and --backend those of the workers?' in result.stderr
    assert 'Only the process that has made a store in memory sees it' in result.stderr
    assert result.stderr.endswith('. Namespaces in the store: sync_)\n')
    (_, reach) = json.loads(invoke(url, 'doctor', '--appname', 'other_', '--json').stdout)
    assert reach['words'].endswith('. Namespaces in the store: sync_')


def test_very_many_namespaces(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names twenty of them. One that is there and cannot be read is not said to be missing."""
    for number in range(20):
        Namespace(plugins.connect(url, BackendOptions(f'n{number:02}_')))
    named = ', '.join(f'n{number:02}_' for number in range(20))
    assert f'Namespaces in the store: {named} and more)' in invoke(url, 'nodes', '--appname', 'other_').stderr
    monkeypatch.setattr(Cluster, 'nodes', Mock(side_effect=SchemaMismatch('it is damaged')))
    assert 'Namespaces' not in invoke(url, 'nodes').stderr


@pytest.mark.parametrize(
    ('command', 'method', 'action'),
    [
        ('drain b', 'edit_locks', 'drain'),
        ('undrain b', 'edit_locks', 'undrain'),
        ('locks add x b', 'edit_locks', 'lock'),
        ('locks clear x', 'edit_locks', 'clear locks'),
        ('release x', 'forget_attempts', 'release'),
        ('evict b --yes', 'remove_node', 'evict'),
        ('purge --older-than 1 --yes', 'purge', 'a part of the purge'),
    ],
)
def test_a_change_of_which_no_answer_came(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: str, method: str, action: str
) -> None:
    """A store that is slow makes it after the timeout of the call, so the error does not read as if nothing was done."""
    monkeypatch.setattr(MemoryBackend, method, Mock(side_effect=BackendUnavailable('no answer within 5 s')))
    result = invoke(url, *command.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(f'Error: {action} may have been carried out, so see whether it was before you repeat it: no')


@pytest.mark.parametrize(
    ('command', 'action'),
    [
        ('drain b', 'drain'),
        ('undrain b', 'undrain'),
        ('locks add x b', 'lock'),
        ('locks clear x', 'clear locks'),
        ('locks clear --all --yes', 'clear locks'),
        ('release x', 'release'),
        ('quarantine release x', 'release'),
        ('evict b', 'evict'),
        ('evict b --yes', 'evict'),
        ('purge --older-than 1 --yes', 'purge'),
    ],
)
def test_a_store_that_is_away_before_a_change(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: str, action: str
) -> None:
    """Whatever a command reads first, its error says that nothing was done, and says so once."""
    for method in ('snapshot', 'read_locks', 'read_assignment', 'lost_attempts'):
        monkeypatch.setattr(MemoryBackend, method, Mock(side_effect=BackendUnavailable('no answer within 5 s')))
    result = invoke(url, *command.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(f'Error: {action} was not carried out: no answer within 5 s')


def test_doctor_names_the_other_namespaces_of_the_store(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose appname is misspelt makes a cluster of its own, which is well: each of the two owns all tasks."""
    assert 'namespaces' not in invoke(url, 'doctor').stdout
    Namespace(plugins.connect(url, BackendOptions('sinc_')))
    for appname, other in (('sync_', 'sinc_'), ('sinc_', 'sync_')):
        found = {row['subject']: row for row in json.loads(invoke(url, 'doctor', '--appname', appname, '--json').stdout)}
        assert found['namespaces']['verdict'] == 'ok'
        assert found['namespaces']['words'].endswith(f'whose workers share no tasks with those of {appname!r}: {other}')
    monkeypatch.setattr(Cluster, 'namespaces', Mock(side_effect=ConfigError('this user may not list them')))
    assert invoke(url, 'doctor').exit_code == 0


def test_a_text_that_is_no_date(url: str, namespace: Namespace) -> None:
    """The line has the text and a date, not the directives of strftime."""
    result = invoke(url, 'claims', '--date', 'yesterday')
    assert (result.exit_code, "'yesterday' is no date, such as 2026-03-31" in result.stderr) == (2, True)
    assert invoke(url, 'claims', '--date', '2026-03-31').stdout == 'no claim is on record\n'


@pytest.mark.parametrize('command', ['nodes', 'doctor'])
def test_tables_of_an_older_schema(tmp_path: Path, command: str) -> None:
    """The line says how they are migrated, and doubts neither the namespace nor the URL."""
    path = tmp_path / 'jobs.db'
    with closing(plugins.connect(f'sqlite:///{path}', BackendOptions())) as backend:
        Namespace(backend)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('UPDATE sync_state SET schema_version = schema_version - 1')
        connection.commit()
    said = invoke(f'sqlite:///{path}', command).output
    assert 'start one node without skip_db_init, it migrates them' in said
    assert '--appname' not in said


def test_a_large_cluster_at_a_glance(url: str, namespace: Namespace) -> None:
    """The status of very many nodes stays short, and begins with those that need attention."""
    for number in range(60):
        namespace.join(f'w{number:02}')
    namespace.join('z', weight=0.0)
    namespace.beat(namespace.join('zz'), holding=[1], candidate=False)
    shown = invoke(url, 'status').stdout.splitlines()
    assert len(shown) < 60
    assert shown[-1].strip() == 'and 14 more nodes: jobsync nodes'
    assert next(line for line in shown if line.startswith('name')) == shown[shown.index(shown[-52])]
    assert shown[-51].split()[0] == 'zz'
    assert invoke(url, 'status', '--watch', '--json').exit_code == 2


def test_doctor_of_a_large_cluster(url: str, namespace: Namespace) -> None:
    """Where very many nodes need attention, it names some, and where all are; no later finding is lost among them."""
    for number in range(60):
        namespace.beat(namespace.join(f'w{number:02}'), candidate=False)
    found = [row['words'] for row in json.loads(invoke(url, 'doctor', '--json').stdout) if row['subject'] == 'cluster']
    assert found[-1] == 'and 40 more problems: jobsync status --json'
    assert len(found) == 21
    assert invoke(url, 'status', '--watch', '--every', 'nan').exit_code == 2


def test_doctor_names_the_tasks_that_have_been_in_hand_the_longest(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of them, with their nodes: where a task hangs, an operator knows which process to end."""
    rows = [{'item': f't{number}', 'node': f'w{number}'} for number in range(5)]
    monkeypatch.setattr(Cluster, 'incomplete', Mock(return_value=rows))
    found = {row['subject']: row for row in json.loads(invoke(url, 'doctor', '--json').stdout)}
    assert found['tasks']['verdict'] == 'warn'
    assert "5 tasks, the oldest of them 't0' by 'w0', 't1' by 'w1', 't2' by 'w2': jobsync incomplete" in found['tasks']['words']


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion(shell: str) -> None:
    """The script for a shell calls the command back, which then knows its commands."""
    assert '_JOBSYNC_COMPLETE' in CliRunner().invoke(cli, ['completion', shell]).stdout


def test_completion_knows_the_commands() -> None:
    """As a shell asks it: ``jobsync undr`` and a tabulator."""
    environ = {'_JOBSYNC_COMPLETE': 'bash_complete', 'COMP_WORDS': 'jobsync undr', 'COMP_CWORD': '1'}
    command = [sys.executable, '-c', 'import sys; sys.argv[0] = "jobsync"; from jobsync.cli.main import main; main()']
    path = {'PYTHONPATH': ':'.join(entry for entry in sys.path if entry)}
    done = subprocess.run(command, env={**environ, **path}, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ['plain,undrain']


def test_a_configuration_file(url: str, namespace: Namespace, tmp_path: Path) -> None:
    """It says what options and environment do not: they come first, in this order."""
    path = tmp_path / 'jobsync.toml'
    path.write_text(f'backend = "{url}"\nappname = "sync_"\n')
    environ: dict[str, str | None] = {'JOBSYNC_BACKEND': None, 'JOBSYNC_APPNAME': None, 'JOBSYNC_CONFIG': None}

    def run(*arguments: str, **more: str) -> int:
        return CliRunner(env=environ | more).invoke(cli, ['nodes', *arguments]).exit_code

    assert run() == 2
    assert run('--config', str(path)) == run(JOBSYNC_CONFIG=str(path)) == 0
    assert run(JOBSYNC_CONFIG=str(path), JOBSYNC_BACKEND=f'{url}-other') == 1
    assert run('--backend', url, JOBSYNC_CONFIG=str(path), JOBSYNC_BACKEND=f'{url}-other') == 0
    assert run('--appname', 'other_', JOBSYNC_CONFIG=str(path)) == 1
    path.write_text(path.read_text(encoding='utf-8'), encoding='utf-8-sig')
    assert run('--config', str(path)) == 0


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('backend = 7', 'backend is 7 (int): must be text in quotes'),
        ('backends = "x"', 'backends: must have backend'),
        ('backend = redis://h', 'no TOML, in which text is in quotes'),
        ('backend = "jobs.db"', "backend is 'jobs.db' (str): must be a URL"),
        ('backend = "memory://x"\nappname = "my app"', "appname is 'my app' (str): must be an identifier prefix"),
        (None, 'No such file'),
    ],
)
def test_a_wrong_configuration_file(text: str | None, message: str, tmp_path: Path) -> None:
    """It is refused in one line that names it."""
    path = tmp_path / 'jobsync.toml'
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(cli, ['nodes', '--config', str(path)])
    assert (result.exit_code, result.stderr.count('\n')) == (1, 1)
    assert str(path) in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(('name', 'value'), [('backend', 'jobs.db'), ('appname', 'my app')])
def test_a_wrong_variable_is_named(url: str, name: str, value: str) -> None:
    """The error about a value of the environment begins with the variable's name, and one about an option's with the option's."""

    def stderr(environ: dict[str, str], *arguments: str) -> str:
        return CliRunner(env={'JOBSYNC_BACKEND': url, **environ}).invoke(cli, ['nodes', *arguments]).stderr

    variable = f'JOBSYNC_{name.upper()}'
    assert stderr({variable: value}).startswith(f"Error: {variable}: {name} is '{value}' (str): must")
    assert stderr({}, f'--{name}', value).startswith(f"Error: {name} is '{value}' (str): must")


def test_a_url_from_an_empty_pipe() -> None:
    """The variable that was to be written to it is not set."""
    result = CliRunner().invoke(cli, ['nodes', '--backend', '-'], input='')
    assert result.exit_code == 2
    assert 'standard input is empty' in result.stderr


@pytest.mark.parametrize('option', ['--backend', '--appname'])
@pytest.mark.parametrize('command', ['nodes', 'drain b'])
def test_an_option_of_no_text(url: str, namespace: Namespace, tmp_path: Path, option: str, command: str) -> None:
    """An empty option, as of a variable that is not set, is refused, though a file, a variable or a default has a value."""
    path = tmp_path / 'jobsync.toml'
    path.write_text(f'backend = "{url}"\nappname = "sync_"')
    runner = CliRunner(env={'JOBSYNC_CONFIG': str(path), 'JOBSYNC_BACKEND': None, 'JOBSYNC_APPNAME': None})
    with namespace.unchanged():
        result = runner.invoke(cli, [*command.split(), option, ''])
        assert (result.exit_code, result.stdout) == (2, '')
        assert f"Invalid value for '{option}'" in result.stderr
        assert 'is the variable set that it is from?' in result.stderr
    assert runner.invoke(cli, command.split()).exit_code == 0


@pytest.mark.parametrize(('given', 'meant'), [('JOBSYNC_APP_NAME', 'JOBSYNC_APPNAME'), ('JOBSYNC_BACKENDS', 'JOBSYNC_BACKEND')])
@pytest.mark.parametrize('command', ['nodes', 'drain b'])
def test_a_misspelt_variable(url: str, namespace: Namespace, given: str, meant: str, command: str) -> None:
    """A command refuses it as a worker does, in place of a look at another namespace, if nothing else has the value."""
    words = f'the environment has {given!r}, which has no effect: did you mean {meant}?'
    runner = CliRunner(env={'JOBSYNC_BACKEND': None if meant == 'JOBSYNC_BACKEND' else url, 'JOBSYNC_APPNAME': None, given: 'x_'})
    with namespace.unchanged():
        result = runner.invoke(cli, command.split())
        assert (result.exit_code, result.stderr) == (1, f'Error: {words}\n')
    assert runner.invoke(cli, [*command.split(), '--backend', url, '--appname', 'sync_']).exit_code == 0


@pytest.mark.parametrize('redirection', ['<&-', "< <(printf '\\xff')"])
def test_a_url_from_no_text(redirection: str) -> None:
    """Standard input that is closed, or has bytes that are no text, is an error of one line."""
    command = f'{sys.executable} -m jobsync nodes --backend - {redirection}'
    environment = {**os.environ, 'PYTHONIOENCODING': 'utf-8:strict'}
    result = subprocess.run(['bash', '-c', command], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert 'standard input' in result.stderr


def test_a_lock_that_no_node_matches(url: str, namespace: Namespace) -> None:
    """A pattern as for a shell, or a misspelt name, is registered, and the command says what follows from it."""
    assert invoke(url, 'locks', 'add', 'x', 'b', 'zz%').stdout == "'x' is locked to 'b', 'zz%'\n"
    done = invoke(url, 'locks', 'add', 'x', 'b*')
    assert done.exit_code == 0
    assert "'x' is locked to 'b*'; no registered node matches, so no node may do it (% is any" in done.stdout
    namespace.backend.deregister(namespace.node('b').ref)
    assert 'no registered node matches' in invoke(url, 'locks', 'add', 'x', 'b').stdout


@pytest.mark.parametrize('what', [(), ('x', '--all'), ('x', '--creator', 'a'), ('--all', '--creator', 'a')], ids=str)
def test_what_is_to_be_cleared_is_said_once(url: str, namespace: Namespace, what: tuple[str, ...]) -> None:
    """Of two ways to say it one would be passed over, and more or fewer locks would go than was meant."""
    namespace.lock('x', patterns=('b',))
    with namespace.unchanged():
        result = invoke(url, 'locks', 'clear', *what, '--yes')
    assert (result.exit_code, 'give either TASKS, --creator or --all' in result.stderr) == (2, True)


def test_a_lock_that_only_a_drained_node_matches(url: str, namespace: Namespace) -> None:
    """The command says that no node may do the task, and why."""
    invoke(url, 'drain', 'b')
    done = invoke(url, 'locks', 'add', 'x', 'b')
    assert "each registered node that matches is to own nothing, so no node may do it: 'b' is drained" in done.stdout
    assert '"is_matched": false' in invoke(url, 'locks', 'add', 'x', 'b', '--json').stdout


def test_a_lock_that_the_leader_ignores(url: str, namespace: Namespace) -> None:
    """The command says that it has no effect."""
    namespace.lead(namespace.join('c', settings=json.dumps({'locks_enabled': False})))
    assert 'the leader ignores task locks: its locks_enabled is off' in invoke(url, 'locks', 'add', 'x', 'b').stdout


@pytest.mark.parametrize(
    ('command', 'status', 'said'),
    [
        ('drain b', 1, 'drain was carried out, and whether another node is left'),
        ('drain b --force', 0, "'b' is drained"),
        ('locks add x b', 0, "'x' is locked to 'b'"),
    ],
)
def test_a_store_that_goes_away_once_it_has_done_what_was_wanted(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, command: str, status: int, said: str
) -> None:
    """No command fails without a word on what it has done."""
    edit_locks = MemoryBackend.edit_locks

    def the_last(self: MemoryBackend, edit: LockEdit) -> int:
        monkeypatch.setattr(MemoryBackend, 'snapshot', Mock(side_effect=BackendUnavailable('no answer within 5 s')))
        return edit_locks(self, edit)

    monkeypatch.setattr(MemoryBackend, 'edit_locks', the_last)
    result = invoke(url, *command.split())
    assert result.exit_code == status
    assert said in result.output


@pytest.mark.parametrize('number', [1, 2], ids=['amid the change', 'amid its record'])
@pytest.mark.parametrize(
    ('command', 'action', 'is_done'),
    [
        ('drain b', 'drain', lambda namespace: 'b' in namespace.locks()),
        ('undrain a', 'undrain', lambda namespace: 'a' not in namespace.locks()),
        ('evict b --yes', 'evict', lambda namespace: 'b' not in namespace.nodes()),
        ('locks add x b', 'lock', lambda namespace: 'x' in namespace.locks()),
        ('locks clear y', 'clear locks', lambda namespace: 'y' not in namespace.locks()),
        ('release y', 'release', lambda _: True),
    ],
)
def test_ctrl_c_amid_a_change(
    url: str,
    namespace: Namespace,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    action: str,
    is_done: Callable[[Namespace], bool],
    number: int,
) -> None:
    """The line says what was done, or may have been: the store carries out what a command has sent to it that has ended."""
    namespace.lock('y', patterns=('a',))
    assert invoke(url, 'drain', 'a').exit_code == 0
    if command != 'undrain a':
        assert invoke(url, 'undrain', 'a').exit_code == 0
    calls = itertools.count(1)

    def interrupted(name: str) -> None:
        method = getattr(MemoryBackend, name)

        def call(self: MemoryBackend, *args: Any, **kwargs: Any) -> object:
            done = method(self, *args, **kwargs)
            if next(calls) == number:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(MemoryBackend, name, call)

    for name in ('edit_locks', 'remove_node', 'forget_attempts'):
        interrupted(name)
    result = invoke(url, *command.split())
    assert (result.exit_code, result.stdout) == (130, '')
    assert result.stderr.startswith(f'\nAborted! {action}')
    assert ('may have been carried out', 'was carried out')[number - 1] in result.stderr
    assert is_done(namespace)


@pytest.mark.parametrize(
    ('command', 'printed'),
    [
        ('drain b', {'drained': 'b', 'is_registered': True}),
        ('undrain b', {'node': 'b', 'was_drained': False, 'is_registered': True}),
        ('locks add x a b', {'locked': 'x', 'patterns': ['a', 'b'], 'is_matched': True}),
        ('locks add x a*', {'locked': 'x', 'patterns': ['a*'], 'is_matched': False}),
        ('locks clear x', {'removed': 0}),
        ('release x y', {'released': ['x', 'y'], 'without_lost_attempts': ['x', 'y']}),
        ('evict b --yes', {'evicted': 'b', 'timeout_sec': 15.0}),
        ('purge --older-than 1 --yes', {'deleted': {'claim': 0, 'audit': 0, 'rebalance': 0}}),
    ],
)
def test_what_was_done_as_json(url: str, namespace: Namespace, command: str, printed: object) -> None:
    """A program reads what a command has done."""
    result = invoke(url, *command.split(), '--json')
    assert (result.exit_code, json.loads(result.stdout)) == (0, printed)
