"""A pooler that serves no call; several poolers in a URL, each before its own server, which let clients in without that."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing

import attrs
import psycopg
import pytest
from tests.backends.crash import crash
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import connect_to
from tests.support.servers import PgbouncerServer, PostgresServer

from jobsync.backend import BackendOptions, NodeRef
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = [pytest.mark.postgres, pytest.mark.full]


@attrs.frozen
class Pair:
    """A former primary behind a pooler, and a node that has a namespace there and is to turn to another one."""

    former: PostgresServer
    pooler: PgbouncerServer
    promoted: PgbouncerServer
    url: str
    """In it the promoted one comes first."""
    namespace: Namespace
    ref: NodeRef

    def demote(self) -> None:
        """Make the former primary a standby."""
        self.former.arrange('CHECKPOINT')
        self.former.kill()
        (self.former.folder / 'data' / 'standby.signal').touch()
        self.former.start()
        wait_until(self.pooler.answers, 'the pooler has connected to its server again')

    def turns(self) -> bool:
        """Whether a call of the node is served by the other server, which has no tables."""
        try:
            self.namespace.beat(self.ref)
        except BackendUnavailable:
            return False
        except JobsyncError as error:
            assert isinstance(error, SchemaMismatch), error  # noqa: PT017 - any other refusal stays
            return True
        return False


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair, of which the pooler of the other server, which comes first in the URL, is not started yet."""
    with (
        closing(PostgresServer()) as former,
        closing(PostgresServer()) as other,
        closing(PgbouncerServer(former)) as pooler,
        closing(PgbouncerServer(other)) as promoted,
    ):
        promoted.kill()
        here = f'127.0.0.1:{pooler.port}'
        url = pooler.url().replace(here, f'127.0.0.1:{promoted.port},{here}')
        with closing(connect_to(url, 'sync_')) as backend:
            namespace = Namespace(backend)
            yield Pair(former, pooler, promoted, url, namespace, namespace.join('a'))


def test_a_pooler_whose_server_is_away(pair: Pair) -> None:
    """A node is served at the other one, once the pooler says that its server is away."""
    pair.former.kill()
    pair.promoted.start()
    wait_until(pair.turns, 'the other server is called')


def test_a_pooler_whose_server_accepts_writes_no_more(pair: Pair) -> None:
    """A node is served at the other one. The pooler says of its server what was so as it first connected there."""
    pair.demote()
    pair.promoted.start()
    wait_until(pair.turns, 'the other server is called')


def test_a_pooler_whose_server_refuses_its_logins(pair: Pair) -> None:
    """A new node is not let in at the other one: such a refusal ends no session there, as of another pooler's."""
    pair.former.arrange('ALTER ROLE postgres NOLOGIN')
    pair.former.arrange(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )

    def is_said() -> bool:
        try:
            with closing(psycopg.connect(pair.pooler.url(), autocommit=True)) as connection:
                connection.execute('SELECT 1')
        except psycopg.OperationalError as error:
            return 'server login has been failing' in str(error)
        return False

    wait_until(is_said, 'the pooler says that its server is away')
    pair.promoted.start()
    with (
        closing(connect_to(pair.url, 'sync_')) as backend,
        pytest.raises(BackendUnavailable, match=r'not known yet .*not permitted'),
    ):
        backend.open(SETTINGS, create=False)


def test_a_pooler_whose_server_is_started_again(pair: Pair) -> None:
    """A node makes no call while others turn to the other server. The pooler has kept its session, by which it writes no more."""
    pair.former.kill()
    pair.former.start()
    wait_until(pair.pooler.answers, 'the pooler has connected to its server again')
    assert pair.namespace.beat(pair.ref).heartbeat == 1
    pair.former.kill()
    pair.promoted.start()
    pair.former.start()
    wait_until(pair.pooler.answers, 'the pooler has connected to its server again')
    with pytest.raises(ConfigError, match='both accept writes'):
        pair.namespace.beat(pair.ref)


def test_a_pooler_whose_server_crashes(pair: Pair) -> None:
    """It reads its log, and serves again: it was not started since. The pooler has kept the session of a node, as above."""
    started = 'SELECT pg_postmaster_start_time()'
    before = pair.former.psql(started)
    crash(pair.former, "backend_type = 'background writer'")
    wait_until(pair.pooler.answers, 'the pooler has connected to its server again')
    pair.promoted.start()
    with pytest.raises(ConfigError, match='both accept writes'):
        pair.namespace.beat(pair.ref)
    assert pair.former.psql(started) == before


def test_a_newcomer_at_a_pooler_whose_server_is_a_standby(pair: Pair) -> None:
    """The error names the pooler as the cause: the URL is in order, and says what libpq is to look for."""
    pair.demote()
    pair.promoted.start()
    here, there = (f'127.0.0.1:{each.port}' for each in (pair.pooler, pair.promoted))
    url = pair.pooler.url().replace(here, f'{here},{there}')
    with (
        closing(connect_to(url, 'sync_')) as backend,
        pytest.raises(ConfigError, match=f'{here} accepts no writes, .* {there} does: .* RECONNECT on the console of pgbouncer'),
    ):
        backend.open(SETTINGS, create=False)


def test_a_pooler_that_is_paused(newest_postgres: PostgresServer) -> None:
    """The error of a call that is kept waiting by the pooler says what the pooler may be at."""
    options = BackendOptions('paused_', op_timeout_sec=1.0)
    with closing(PgbouncerServer(newest_postgres)) as pooler, closing(connect(pooler.url(), options)) as backend:
        backend.open(SETTINGS, create=True)
        os.kill(pooler.pid, signal.SIGUSR1)  # PAUSE
        try:
            while not (said := refusal(backend.snapshot)):
                pass  # the pooler has the signal, and has not seen it yet
        finally:
            os.kill(pooler.pid, signal.SIGUSR2)  # RESUME
    assert 'it may be paused' in said


def test_a_pooler_in_statement_mode(newest_postgres: PostgresServer) -> None:
    """The error names the server, and says what the pooler has said."""
    options = BackendOptions('statement_', op_timeout_sec=1.0)
    with (
        closing(PgbouncerServer(newest_postgres, 'statement')) as pooler,
        closing(connect(pooler.url(), options)) as backend,
    ):
        said = refusal(lambda: backend.open(SETTINGS, create=True))
        assert said.startswith(f'postgresql host=127.0.0.1 port={pooler.port} ')
    assert said.endswith('the connection was lost: transaction blocks not allowed in statement pooling mode')


def refusal(call: Callable[[], object]) -> str:
    """Return what a call is refused with, nothing if it succeeds."""
    try:
        call()
    except BackendUnavailable as error:
        return str(error)
    return ''
