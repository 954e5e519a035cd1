"""Passwords: whatever is wrong with a URL, no message, log line, repr or argument of a process shows its password."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsync import CoordinationConfig, Job, JobsyncError, plugins
from jobsync.backend import BackendOptions
from jobsync.cli.commands import cli
from jobsync_bench.churn import ChurnCluster
from jobsync_bench.processes.child import ChildProcess

SECRET = 'zqhunterzq'
"""No message has it by itself, and no parser changes it: it is in lower case, as hosts are made."""
SCHEMES = (
    'postgresql', 'postgresql+psycopg', 'redis', 'rediss', 'unix', 'redis+sentinel', 'rediss+sentinel', 'etcd', 'etcds', 'sqlite',
    'memory', 'files', 'nosuch', 'NO SUCH', '',
)  # fmt: skip
UNDOUBTED = ('{s}://u:{p}@h/db', '{s}://:{p}@h/0', '{s}://u:{p}@h1:1,h2:2/x/0?durable=yes', 'u:{p}@h', 'host=h password={p}')
"""Here it is the password, whatever it consists of."""
DOUBTED = (
    '{s}://u:{p}',
    '{s}:///u:{p}',
    '{s}://{p}',
    '{s}://h/db?password={p}',
    '{s}://h?{p}',
    '{s}://h/db?connect_timeout={p}',
    '{p}',
)
"""Here it may look like a port, a host, a path; so if the URL can be read, it is shown as that."""
NOISE = st.text(st.sampled_from('a1:@/?#%[]&=;, \\\'"\t{}é.-+') | st.characters(exclude_categories=['Cs']), max_size=6)
PASSWORDS = st.tuples(NOISE, NOISE).map(SECRET.join)


@pytest.fixture(scope='module')
def log() -> Iterator[io.StringIO]:
    """All that is logged."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@settings(max_examples=40)
@given(form=st.sampled_from(UNDOUBTED + DOUBTED), password=PASSWORDS)
@pytest.mark.parametrize('scheme', SCHEMES)
def test_a_password_is_never_told(scheme: str, log: io.StringIO, form: str, password: str) -> None:
    """Whatever the password consists of and wherever it stands."""
    url, told = form.format(s=scheme, p=password), ''
    try:
        told += repr(CoordinationConfig(backend=url)) if form in UNDOUBTED else ''
        with contextlib.closing(plugins.connect(url, BackendOptions())) as backend:
            told += repr(backend)
    except JobsyncError as error:
        told += ''.join(traceback.format_exception(error))
        assert SECRET not in told
    if form in UNDOUBTED:
        assert SECRET not in told
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize(
    'url',
    [
        f'postgresql://u:pw/{SECRET}@host/db',
        f'postgresql://u:12/{SECRET}@host/db',
        f'postgresql://u:{SECRET}',
        f'postgresql://u:p@{SECRET}@host/db',
        f'host=h user=u password={SECRET}',
        f'etcds://u:p?ca={SECRET}@host',
        f'redis://u:1?{SECRET}=x',
        f'redis://h?durable={SECRET}',
        f'unix:///u:p/{SECRET}@h',
        f'redis+sentinel://u:12/{SECRET}@h/service/0',
    ],
)
@pytest.mark.parametrize('command', [['bench', '--backend'], ['demo', '--backend'], ['conformance']])
def test_commands_do_not_tell_it(url: str, command: list[str]) -> None:
    """A mistake in a URL is told without it, on the command line too, and where it comes by standard input."""
    for arguments, given_in in (([*command, url], ''), ([*command, '-'], f'{url}\n')):
        done = CliRunner().invoke(cli, arguments, input=given_in)
        assert done.exit_code != 0
        assert done.output.startswith('Error: ')
        assert SECRET not in done.output


def test_a_job_does_not_tell_it() -> None:
    """Nor does a job that is made with such a URL, or with libpq's other form."""
    for url in (f'postgresql://u:pw/{SECRET}@host/db', f'host=h user=u password={SECRET}'):
        with pytest.raises(JobsyncError) as caught, Job('a', coordination_config=CoordinationConfig(backend=url)):
            pass
        assert SECRET not in ''.join(traceback.format_exception(caught.value))


# --- processes --------------------------------------------------------------------------------------------------------------


def test_no_process_has_the_url_as_an_argument(tmp_path: Path) -> None:
    """Of the processes that measure, whose arguments all users of a machine can read."""
    url = f'sqlite:///{tmp_path}/{SECRET}.db'
    order = {'node': 'n', 'url': url, 'namespace': 'crew_', 'tokens': 20, 'nodes': 1}
    with ChildProcess('claimer', order) as member, ChurnCluster({'backend': url, 'minimum_nodes': 1}, ['fast']) as cluster:
        member.receive()
        cluster.form(1)
        children = psutil.Process().children(recursive=True)
        assert len(children) >= 2
        assert [child.cmdline() for child in children if any(SECRET in word for word in child.cmdline())] == []
    assert (tmp_path / f'{SECRET}.db').exists()


PLANTED = 'import pathlib\npathlib.Path(__file__).with_name("RAN").touch()\nraise RuntimeError("planted")\n'


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path) -> None:
    """A file called like something that jobsync uses does not run, in the workers of the demo or in those that measure."""
    for module in ('attrs', 'attr', 'jobsync', 'json'):
        (tmp_path / f'{module}.py').write_text(PLANTED)
    (tmp_path / 'files').mkdir()
    (tmp_path / 'files' / 'one.txt').write_text('one\n')
    demo = [sys.executable, '-P', '-m', 'jobsync.cli.main', 'demo', '--workers', '1', '--no-kill', '--path', 'files', '--json']
    done = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    order = {'node': 'n', 'url': f'sqlite:///{tmp_path}/jobs.db', 'namespace': 'crew_', 'tokens': 20, 'nodes': 1}
    with (
        contextlib.chdir(tmp_path),
        ChildProcess('claimer', order) as member,
        ChurnCluster({'backend': order['url']}, ['fast']) as cluster,
    ):
        member.receive()
        cluster.form(1)
    assert not (tmp_path / 'RAN').exists()
