"""pgbouncer in front of a PostgreSQL server: a program of Debian, which the tests start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import psycopg
from tests.support.servers.postgres import PostgresServer, not_root
from tests.support.servers.program import ServerNotFound, ServerProcess

__all__ = ['CONNECTIONS', 'PgbouncerServer']

CONNECTIONS = 3
"""How many it has to the server at most, for any number of clients."""


class PgbouncerServer(ServerProcess):
    """A pooler that lends a connection to the server for one transaction at a time, or for as long as another mode says."""

    name = 'pgbouncer'

    def __init__(self, behind: PostgresServer, mode: str = 'transaction') -> None:
        program = shutil.which('pgbouncer', path='/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin')
        if program is None:
            raise ServerNotFound('pgbouncer is not installed')
        self._program, self._behind, self._mode = program, behind, mode
        super().__init__()

    def prepare(self) -> None:
        """See ``ServerProcess``."""
        place = f'host={self._behind.folder} port={self._behind.port} user=postgres'
        (self.folder / 'pgbouncer.ini').write_text(
            f'[databases]\n* = {place}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n'
            f'auth_type = any\npool_mode = {self._mode}\ndefault_pool_size = {CONNECTIONS}\n'
        )
        for path in (self.folder, self.folder / 'pgbouncer.ini'):
            path.chmod(0o755)

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        return [*not_root(), self._program, str(self.folder / 'pgbouncer.ini')]

    def answers(self) -> bool:
        """See ``ServerProcess``."""
        try:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute('SELECT 1')
        except psycopg.Error:
            return False
        return True

    def url(self) -> str:
        """The URL of the database behind it."""
        return f'postgresql://pooled@127.0.0.1:{self.port}/postgres'
