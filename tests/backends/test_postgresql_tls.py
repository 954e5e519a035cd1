"""PostgreSQL over TLS, by the settings that the page on security prints; through a front, as not every server speaks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from tests.backends.tls import TlsFront
from tests.support.servers import PostgresServer

import jobsync.database as db
from jobsync.backends.sql.postgresql.url import server_of
from jobsync.errors import BackendUnavailable

pytestmark = pytest.mark.postgres


@pytest.fixture
def front(certificates: Path, newest_postgres: PostgresServer) -> Iterator[TlsFront]:
    """Before a server."""
    with closing(TlsFront(certificates, newest_postgres.port, knows_clients=False, is_asked_first=True)) as front:
        yield front


def answer(front: TlsFront, host: str, **options: object) -> object:
    """What a statement gives over the front."""
    query = '&'.join(f'{name}={value}' for name, value in options.items())
    with closing(
        db.connect(f'postgresql://postgres:{quote(PostgresServer.password, safe="")}@{host}:{front.port}/postgres?{query}')
    ) as cn:
        return db.select_scalar(cn, 'SELECT 1')


def test_what_is_checked(front: TlsFront, certificates: Path) -> None:
    """``verify-full`` wants the right authority and the right name; by default a stranger's certificate will do."""
    assert answer(front, '127.0.0.1', sslmode='verify-full', sslrootcert=certificates / 'ca.pem') == 1
    assert answer(front, '127.0.0.1') == 1
    assert front.served == 2
    for host, authority in (('127.0.0.1', 'other'), ('localhost', 'ca')):
        with pytest.raises(BackendUnavailable, match='certificate'):
            answer(front, host, sslmode='verify-full', sslrootcert=certificates / f'{authority}.pem')


def test_another_working_directory(front: TlsFront, certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative paths are those of the directory in which the backend was made: each connection reads the files anew."""
    monkeypatch.chdir(certificates)
    login = f'postgres:{quote(PostgresServer.password, safe="")}'
    address = f'postgresql://{login}@127.0.0.1:{front.port}/postgres?sslmode=verify-full&sslrootcert=ca.pem'
    server = server_of(address, 5.0)
    monkeypatch.chdir(tmp_path)
    psycopg.connect(**server.parameters).close()


def test_what_is_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The authorities of the system, and a key in a device, are taken by libpq as they are."""
    address = 'postgresql://h/d?sslrootcert=system&sslkey=engine:key&sslcert=c.pem&sslcrl=/a/b.pem'
    (tmp_path / 'a:b').mkdir()
    monkeypatch.chdir(tmp_path)
    found = server_of(address, 5.0).parameters
    assert [found[name] for name in ('sslrootcert', 'sslkey', 'sslcert', 'sslcrl')] == [
        'system',
        'engine:key',
        str(tmp_path / 'c.pem'),
        '/a/b.pem',
    ]
    monkeypatch.chdir(tmp_path / 'a:b')
    assert server_of('postgresql://h/d?sslkey=k.pem', 5.0).parameters['sslkey'] == 'k.pem'
