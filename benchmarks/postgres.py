"""A PostgreSQL server for the length of a benchmark: own port, temporary folder, gone afterwards. No root needed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['USER', 'postgres']

USER = 'postgres'
"""The database's superuser; no password is asked for."""


def _binary(name: str) -> str:
    """``name`` from $JOBSYNC_POSTGRES_BIN (a folder), the PATH, or where Debian and Homebrew put it; the newest there."""
    folder = os.environ.get('JOBSYNC_POSTGRES_BIN')
    if folder:
        return str(Path(folder) / name)
    places = [
        *Path('/usr/lib/postgresql').glob(f'*/bin/{name}'),
        *Path('/opt/homebrew/opt').glob(f'postgresql@*/bin/{name}'),
    ]
    found = shutil.which(name) or next(map(str, sorted(places, reverse=True)), None)
    if found is None:
        raise SystemExit(f'{name} not found: install PostgreSQL, or name the folder of its programs in JOBSYNC_POSTGRES_BIN')
    return found


def _prefix() -> list[str]:
    """PostgreSQL refuses to run as root; in a user namespace it need not know."""
    if os.getuid() != 0:
        return []
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get('postgres') or names['nobody']
    return ['unshare', '--user', f'--map-user={user.pw_uid}', f'--map-group={user.pw_gid}']


@contextmanager
def postgres() -> Iterator[int]:
    """Start a server on 127.0.0.1 with a database ``jobsync``; gives its port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix='jobsync-bench-') as folder:
        data, log = Path(folder) / 'data', Path(folder) / 'log'
        control = [*_prefix(), _binary('pg_ctl'), '-D', str(data), '-w', '-s']
        options = f'-p {port} -k {folder} -c listen_addresses=127.0.0.1'
        subprocess.run(
            [*_prefix(), _binary('initdb'), '-D', str(data), '-A', 'trust', '-U', USER], check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run([*control, '-o', options, '-l', str(log), 'start'], check=True)
        try:
            create = [_binary('createdb'), '-h', '127.0.0.1', '-p', str(port), '-U', USER, 'jobsync']
            subprocess.run(create, check=True)
            yield port
        finally:
            subprocess.run([*control, '-m', 'immediate', 'stop'], check=True)
