"""The servers that tests share: started when the first of them asks, one of each for each process of the tests."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.support import forks
from tests.support.compiling import share_statements
from tests.support.servers import EtcdServer, PostgresServer, RedisServer, find_postgres, find_redis
from tests.support.stores import many_databases

from jobsync.testing import Harness

MODULES = (
    'tests.support.harnesses.etcd',
    'tests.support.harnesses.postgresql',
    'tests.support.harnesses.redis',
    'tests.support.harnesses.sqlite',
    'jobsync.backends.etcd.backend',
    'jobsync.backends.redis.backend',
    'jobsync.backends.sql.postgresql.store',
    'jobsync.backends.sql.sqlite.store',
)
"""What the processes of the conformance suite need, on any store."""

# The same examples in each run, and no example that fails because the machine has too much to do.
settings.register_profile('tests', derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('tests')


def pytest_configure(config: pytest.Config) -> None:
    """Set up servers and the conformance suite, with fewer sequences and rounds unless ``--full`` is given; restore SIGINT.

    A shell starts what it runs in the background with SIGINT ignored, which processes of the tests would inherit.
    """
    if not config.getoption('full'):
        Harness.examples, Harness.rounds = 5, 6
        share_statements()
        forks.prefer(True)
    Harness.modules = MODULES
    # A simulation makes millions of objects that live on for a while: searching them all for cycles takes an eighth of its time.
    gc.set_threshold(5_000, 20, 100)
    # Schemas come and go with the tests, so a vacuum of them is lost. etcd computes almost half as much on one thread and with
    # fewer of Go's collections.
    PostgresServer.settings = ('autovacuum=off',)
    EtcdServer.environment = {'GOMAXPROCS': '1', 'GOGC': '400'}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a server on the server of the test dependencies; with ``--full`` also on each version installed here."""
    count = None if metafunc.config.getoption('full') else 1
    if 'postgres_server' in metafunc.fixturenames:
        versions = list(find_postgres())[:count]
        metafunc.parametrize('postgres_server', versions, ids='postgres{}'.format, scope='session', indirect=True)
    if 'redis_server' in metafunc.fixturenames:
        metafunc.parametrize('redis_server', list(find_redis())[:count], scope='session', indirect=True)


@pytest.fixture(scope='session')
def postgres_of() -> Iterator[Callable[[int], PostgresServer]]:
    """A PostgreSQL server of a version, started when it is first asked for."""
    running: dict[int, PostgresServer] = {}

    def of(version: int) -> PostgresServer:
        if version not in running:
            running[version] = PostgresServer(find_postgres()[version])
        return running[version]

    yield of
    for server in running.values():
        server.close()


@pytest.fixture(scope='session')
def postgres_server(request: pytest.FixtureRequest, postgres_of: Callable[[int], PostgresServer]) -> PostgresServer:
    """A PostgreSQL server of each version."""
    return postgres_of(request.param)


@pytest.fixture(scope='session')
def newest_postgres(postgres_of: Callable[[int], PostgresServer]) -> PostgresServer:
    """The PostgreSQL server of the test dependencies."""
    return postgres_of(next(iter(find_postgres())))


@pytest.fixture(scope='session')
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of one kind and version that keeps what it acknowledges."""
    server = RedisServer(find_redis()[request.param])
    yield server
    server.close()


@pytest.fixture(scope='session')
def redis_of_many() -> Iterator[RedisServer]:
    """A server with a database for each test."""
    server = many_databases()
    yield server
    server.close()


@pytest.fixture(scope='session')
def forgetful_redis_server() -> Iterator[RedisServer]:
    """A server that writes nothing to its disk."""
    server = RedisServer(next(iter(find_redis().values())), durable=False)
    yield server
    server.close()


@pytest.fixture(scope='session')
def etcd_server() -> Iterator[EtcdServer]:
    """An etcd server."""
    server = EtcdServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """A test ends every thread of jobsync that it started: one that goes on would disturb whichever comes next."""
    before = set(threading.enumerate())
    yield
    started = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith('jobsync')]
    for thread in started:
        while not thread.is_alive() and thread in threading.enumerate():  # being started: it cannot be joined yet
            time.sleep(0.01)
        thread.join(120)
    left = [thread for thread in started if thread.is_alive()]
    frames = sys._current_frames()
    stacks = {thread.name: ''.join(traceback.format_stack(frames.get(thread.ident or 0))) for thread in left}
    assert not stacks, '\n'.join(f'{name} goes on:\n{stack}' for name, stack in stacks.items())
