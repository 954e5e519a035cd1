"""Helpers of these tests are imported as ``tests.backends.…``, which is also how mypy names them."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.sql import SqlHarness
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.testing import Harness, Namespace

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(scope='session')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, and what it has signed for a server and a client."""
    folder = tmp_path_factory.mktemp('certificates')
    new = ['openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-x509']

    def run(*arguments: str) -> None:
        subprocess.run([*new, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ('ca', 'other'):
        run('-subj', f'/CN={name}', '-keyout', f'{name}.key', '-out', f'{name}.pem',
            '-addext', 'keyUsage=critical,keyCertSign,cRLSign')  # fmt: skip
    for name, names in (('server', 'IP:127.0.0.1,DNS:etcd.example'), ('client', 'DNS:client')):
        run('-subj', f'/CN={name}', '-keyout', f'{name}.key', '-out', f'{name}.pem',
            '-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', f'subjectAltName={names}',
            '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth,clientAuth')  # fmt: skip
    return folder


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No garbage is collected: what an exception refers to stays, and none is raised within a finalizer, where it is lost."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The address, to be replaced by a test, to which the name ``one.example`` leads."""
    find, address = socket.getaddrinfo, ['127.0.0.1']

    def find_one(host: str, *rest: object, **options: object) -> list[object]:
        return list(find(address[0] if host == 'one.example' else host, *rest, **options))  # type: ignore[arg-type]

    monkeypatch.setattr(socket, 'getaddrinfo', find_one)
    return address


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of an SQL database."""
    name: str = request.param
    return name


@pytest.fixture
def harness(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlHarness]:
    """An empty store in each SQL database, for tests whose file has no other harness."""
    harness = SqliteHarness(tmp_path) if kind == 'sqlite' else PostgresqlHarness(request.getfixturevalue('newest_postgres'))
    yield harness
    harness.close()


@pytest.fixture
def namespace(harness: Harness) -> Namespace:
    """A namespace in the store of the harness."""
    return Namespace(harness.connect())
