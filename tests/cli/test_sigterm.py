"""SIGTERM, as timeout(1) and a supervisor send it, amid a command that changes something."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.cli.commands import cli
from jobsync.cli.common import steering_command
from jobsync.testing import Namespace

TERMINATED = """
import signal, sys
from jobsync.backends.sql.backend import SqlBackend
from jobsync.cli.main import main

edit_locks, left = SqlBackend.edit_locks, int(sys.argv.pop(1))

def edit_and_end(self, edit):
    global left
    removed = edit_locks(self, edit)
    left -= 1
    if not left:
        signal.raise_signal(signal.SIGTERM)
    return removed

SqlBackend.edit_locks = edit_and_end
main()
"""


@pytest.mark.parametrize(('number', 'said'), [(1, 'drain may have been carried out'), (2, 'drain was carried out')])
def test_sigterm_amid_a_change(tmp_path: Path, number: int, said: str) -> None:
    """The line says what was done, or may have been, as that of Ctrl-C does. The status is that of an ended process."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        namespace = Namespace(backend)
        for name in 'ab':  # which are alive still when the command has been imported, on a starved machine too
            namespace.join(name, timeout_sec=3600.0)
        arguments = [sys.executable, '-c', TERMINATED, str(number), 'drain', 'a', '--backend', url]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
        assert 'a' in namespace.locks()
    assert (done.returncode, done.stdout) == (143, '')
    assert done.stderr.startswith(f'\nAborted! {said}')


@pytest.mark.parametrize('handler', [signal.SIG_IGN, print])
def test_sigterm_that_is_ignored_or_handled(tmp_path: Path, handler: Any) -> None:
    """What a shell ignores (``trap '' TERM``), or a program that runs the command handles, does not interrupt it."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend:
        Namespace(backend).leader('a')
        before, found = signal.signal(signal.SIGTERM, handler), []

        @click.command()
        @steering_command
        def command(_cluster: object, **_: object) -> None:
            found.append(signal.getsignal(signal.SIGTERM))

        try:
            assert CliRunner().invoke(command, ['--backend', url]).exit_code == 0
            assert [*found, signal.getsignal(signal.SIGTERM)] == [handler, handler]
        finally:
            signal.signal(signal.SIGTERM, before)


def test_a_command_in_a_thread_of_a_program(tmp_path: Path) -> None:
    """Python lets the main thread alone have handlers: the command does without."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with closing(plugins.connect(url, BackendOptions())) as backend, ThreadPoolExecutor(1) as threads:
        namespace = Namespace(backend)
        namespace.leader('a')
        done = threads.submit(CliRunner().invoke, cli, ['locks', 'add', 'x', 'a', '--backend', url]).result()
        assert (done.exit_code, done.exception, 'x' in namespace.locks()) == (0, None, True)
