"""SIGTERM, as timeout(1) and a supervisor send it, amid a command that changes something."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from jobsync import plugins
from jobsync.backend import BackendOptions
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
        namespace.leader('a')
        namespace.join('b')
        arguments = [sys.executable, '-c', TERMINATED, str(number), 'drain', 'a', '--backend', url]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
        assert 'a' in namespace.locks()
    assert (done.returncode, done.stdout) == (143, '')
    assert done.stderr.startswith(f'\nAborted! {said}')
