"""The servers that tests share: started when the first of them asks, one of each for each process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobsync.testing.servers import EtcdServer, PostgresServer, find_postgres


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs PostgreSQL once for each major version that is installed."""
    if 'postgres_server' in metafunc.fixturenames:
        metafunc.parametrize('postgres_server', sorted(find_postgres()), ids='postgres{}'.format, scope='session', indirect=True)


@pytest.fixture(scope='session')
def postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A PostgreSQL server of one version."""
    server = PostgresServer(find_postgres()[request.param])
    yield server
    server.close()


@pytest.fixture(scope='session')
def etcd_server() -> Iterator[EtcdServer]:
    """An etcd server."""
    server = EtcdServer()
    yield server
    server.close()
