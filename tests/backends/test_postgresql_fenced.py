"""A former primary that an operator has told to let no client in any more: it serves the sessions that it has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from tests.support.harnesses.postgresql import connect_to
from tests.support.servers import PostgresServer

from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.postgresql.store import PostgresqlStore
from jobsync.errors import BackendUnavailable, ConfigError
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres


class PrimaryOfWorkers(PostgresServer):
    """A server whose workers have a role and a database of their own."""

    def __init__(self, address: str, port: int | None = None) -> None:
        super().__init__()
        self.kill()
        self.port, self.settings = port or self.port, (f'listen_addresses={address}',)
        self.start()
        self.psql("CREATE ROLE worker LOGIN PASSWORD 'secret'", 'CREATE DATABASE jobs OWNER worker')

    def reject(self, rules: str) -> None:
        """Put rules of its own before those of ``pg_hba.conf``, and read the file anew."""
        path = self.folder / 'data' / 'pg_hba.conf'
        path.write_text(rules + path.read_text())
        self.arrange('SELECT pg_reload_conf()')


@pytest.fixture(scope='module')
def primaries() -> Iterator[tuple[PrimaryOfWorkers, PrimaryOfWorkers]]:
    """The primary that all workers use at first, and the one that is promoted, at another address."""
    with closing(PrimaryOfWorkers('127.0.0.1')) as former, closing(PrimaryOfWorkers('127.0.0.2', former.port)) as promoted:
        yield former, promoted


FENCES: dict[str, tuple[Callable[[PrimaryOfWorkers], object], Callable[[PrimaryOfWorkers], object]]] = {
    'is not permitted to log in': (
        lambda server: server.arrange('ALTER ROLE worker NOLOGIN'),
        lambda server: server.arrange('ALTER ROLE worker LOGIN'),
    ),
    'is not currently accepting connections': (
        lambda server: server.arrange('ALTER DATABASE jobs ALLOW_CONNECTIONS false'),
        lambda server: server.arrange('ALTER DATABASE jobs ALLOW_CONNECTIONS true'),
    ),
    'permission denied for database': (
        lambda server: server.arrange('ALTER DATABASE jobs OWNER TO postgres; REVOKE CONNECT ON DATABASE jobs FROM PUBLIC'),
        lambda server: server.arrange('GRANT CONNECT ON DATABASE jobs TO PUBLIC; ALTER DATABASE jobs OWNER TO worker'),
    ),
    'pg_hba.conf rejects connection': (
        lambda server: server.reject('host jobs worker all reject\n'),
        lambda server: server.reject('host jobs worker all scram-sha-256\n'),
    ),
}
"""By what the server says: how an operator has it let no worker in, and how it lets workers in again."""


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
@pytest.mark.parametrize('said', FENCES)
def test_a_former_primary_that_refuses_logins(
    primaries: tuple[PrimaryOfWorkers, PrimaryOfWorkers], leads_to: list[str], said: str
) -> None:
    """A session there serves on, so a node that connects to the promoted server is not let in."""
    (former, _), (fence, open_again) = primaries, FENCES[said]
    url, name = f'postgresql://worker:secret@one.example:{former.port}/jobs', f'n{list(FENCES).index(said)}_'
    with closing(connect_to(url, name)) as backend, closing(connect_to(url, name)) as other:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        namespace, others = Namespace(backend), Namespace(other)
        ref, other_ref = namespace.join('a'), others.join('b')
        fence(former)
        try:
            backend.store._engine.dispose()  # the node connects anew
            leads_to[0] = '127.0.0.2'
            not_known = f'not known yet whether 127.0.0.1:{former.port} accepts writes too.*{said}'
            with pytest.raises(BackendUnavailable, match=not_known):
                namespace.beat(ref)
            others.beat(other_ref)
        finally:
            open_again(former)
        with pytest.raises(ConfigError, match=f'127.0.0.2:{former.port} and 127.0.0.1:{former.port} both accept writes'):
            namespace.beat(ref)
