"""PostgreSQL: an operator's open transaction holds the lock of a table, and what waits for it ends on the server too."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import psycopg
import pytest
from click.testing import CliRunner
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer

from jobsync import Cluster
from jobsync.backend import INITIAL
from jobsync.cli import blockers
from jobsync.cli.blockers import examine_blockers
from jobsync.cli.commands import cli
from jobsync.cli.doctor import examine
from jobsync.cli.folders import DoctorFinding
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


def test_a_wait_for_a_revision_leaves_no_session_behind(harness: PostgresqlHarness) -> None:
    """While a lock keeps the revision from being read, no session of a wait that is over goes on to wait for the lock."""
    Namespace(harness.connect())
    listening = harness.connect(op_timeout_sec=0.5)
    table = f'{harness.schema}.sync_state'
    waits = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    with psycopg.connect(harness.server.url(socket_only=True)) as operator:
        operator.execute(f'LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE')
        listening.wait(0, 5)
        listening.close()
        wait_until(lambda: harness.server.psql(waits) == ['0'], 'no session waits')


def test_a_session_whose_process_is_stopped(harness: PostgresqlHarness) -> None:
    """It keeps its locks through ``pg_terminate_backend``, and ends once its process goes on, as the page of messages says."""
    ref = Namespace(harness.connect()).join('a')
    hasty = harness.connect(op_timeout_sec=1)

    def heartbeat() -> bool:
        try:
            hasty.heartbeat(ref, INITIAL, frozenset())
        except BackendUnavailable:
            return False
        return True

    wait_until(heartbeat, 'a first heartbeat')
    with closing(psycopg.connect(harness.server.url(socket_only=True))) as operator:
        operator.execute(f'SELECT 1 FROM {harness.schema}.sync_node FOR UPDATE')
        os.kill(operator.info.backend_pid, signal.SIGSTOP)
        try:
            assert harness.server.psql(f'SELECT pg_terminate_backend({operator.info.backend_pid})') == ['t']
            wait_until(lambda: not heartbeat(), 'a heartbeat waits for the lock')
        finally:
            os.kill(operator.info.backend_pid, signal.SIGCONT)
        wait_until(heartbeat, 'the session has ended')


class Preparing(PostgresServer):
    """A server on which transactions may be prepared, and rows replicated."""

    settings = ('max_prepared_transactions=1', 'wal_level=logical')


@pytest.fixture(scope='module')
def preparing() -> Iterator[Preparing]:
    with closing(Preparing()) as server:
        yield server


def test_doctor_names_what_keeps_nodes_waiting(preparing: Preparing) -> None:
    """It names the session that holds the rows of the nodes, and a prepared transaction, and how either ends."""
    with closing(PostgresqlHarness(preparing)) as harness, Cluster(harness.connect()) as cluster:
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        assert list(examine_blockers(cluster)) == []
        for ending, words in (
            ('', 'process {pid} of the server (postgres, operator, idle in transaction, whose transaction began '),
            ("PREPARE TRANSACTION 'forgotten'", "a prepared transaction keeps calls of nodes waiting; there are 'forgotten': "),
        ):
            with (
                ThreadPoolExecutor(1) as pool,
                closing(
                    psycopg.connect(preparing.url(socket_only=True), application_name='operator', autocommit=True)
                ) as operator,
            ):
                operator.execute('BEGIN')
                operator.execute(f'SELECT 1 FROM {harness.schema}.sync_node FOR UPDATE')
                operator.execute(ending)
                heartbeat = pool.submit(namespace.beat, ref)
                found: list[DoctorFinding] = []
                while not found:
                    found = list(examine_blockers(cluster, is_silent=True))
                assert found[0].words.startswith(words.format(pid=operator.info.backend_pid)), found
                assert 'keeps calls of nodes waiting' in CliRunner().invoke(cli, ['doctor', '--backend', harness.url]).stdout
                operator.execute("ROLLBACK PREPARED 'forgotten'" if ending else 'ROLLBACK')
                heartbeat.result()
            assert list(examine_blockers(cluster)) == []


def test_doctor_names_first_what_keeps_silent_nodes_waiting(harness: PostgresqlHarness) -> None:
    """Before it tries a write of its own, which the same keeps waiting for a minute."""
    with (
        Cluster(harness.connect(bulk_timeout_sec=1.0)) as cluster,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(harness.server.url(socket_only=True)) as operator,
    ):
        namespace = Namespace(harness.connect(op_timeout_sec=600.0))
        ref = namespace.join('a', timeout_sec=0.001)
        operator.execute(f'SELECT 1 FROM {harness.schema}.sync_node, {harness.schema}.sync_state FOR UPDATE')
        heartbeat = pool.submit(namespace.beat, ref)
        blocked = f'SELECT count(*) FROM pg_stat_activity WHERE {operator.info.backend_pid} = ANY (pg_blocking_pids(pid))'
        wait_until(lambda: harness.server.psql(blocked) == ['1'], 'the heartbeat waits')
        subjects = [found.subject for found in itertools.takewhile(lambda found: found.subject != 'rights', examine(cluster))]
        assert subjects[-1] == 'waiting'
        operator.rollback()
        heartbeat.result()


def test_doctor_names_what_keeps_it_from_reading(harness: PostgresqlHarness) -> None:
    """As an ALTER TABLE in a transaction that is left open."""
    Namespace(harness.connect())
    with (
        Cluster(harness.connect(op_timeout_sec=1.0, bulk_timeout_sec=1.0)) as cluster,
        psycopg.connect(harness.server.url(socket_only=True)) as operator,
    ):
        operator.execute(f'LOCK TABLE {harness.schema}.sync_state IN ACCESS EXCLUSIVE MODE')
        found = {each.subject: each.words for each in examine(cluster)}
        assert 'reach' in found
        assert f'process {operator.info.backend_pid} of the server' in found['waiting']


def test_doctor_names_a_session_that_no_call_waits_for_just_now(harness: PostgresqlHarness) -> None:
    """A session that holds the state is in the way of every change, while heartbeats go on without it."""
    with Cluster(harness.connect()) as cluster, psycopg.connect(harness.server.url(socket_only=True)) as operator:
        Namespace(harness.connect())
        operator.execute(f'SELECT 1 FROM {harness.schema}.sync_state FOR UPDATE')
        (found,) = examine_blockers(cluster, is_refused=True)
        assert f'process {operator.info.backend_pid} of the server' in found.words


def test_doctor_passes_over_transactions_that_follow_each_other(
    harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is in the way for a moment, time and again, is a node's, and is not to be ended."""
    with Cluster(harness.connect()) as cluster, psycopg.connect(harness.server.url(socket_only=True)) as node:
        Namespace(harness.connect())
        looks, seconds = itertools.count(), itertools.count()

        def next_transaction(_: object) -> None:
            next(looks)
            node.rollback()
            node.execute(f'SELECT 1 FROM {harness.schema}.sync_state FOR UPDATE')

        next_transaction(None)
        monkeypatch.setattr(blockers, 'time', SimpleNamespace(monotonic=lambda: float(next(seconds)), sleep=next_transaction))
        assert list(examine_blockers(cluster, is_refused=True)) == []
        assert next(looks) > 2


def test_doctor_passes_over_a_copy_of_the_database(preparing: Preparing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a database that was made as a copy have the oids of this one's."""
    seconds = itertools.count()
    monkeypatch.setattr(blockers, 'time', SimpleNamespace(monotonic=lambda: float(next(seconds)), sleep=lambda _: None))
    preparing.psql('CREATE DATABASE original')
    with closing(connect_to(preparing.url('original'), 'sync_')) as backend:
        Namespace(backend)
    preparing.psql('CREATE DATABASE twin TEMPLATE original')
    with (
        closing(connect_to(preparing.url('original'), 'sync_')) as backend,
        Cluster(backend) as cluster,
        psycopg.connect(preparing.url('twin', socket_only=True)) as operator,
    ):
        operator.execute('SELECT 1 FROM sync_state FOR UPDATE')
        assert list(examine_blockers(cluster, is_refused=True)) == []


def test_doctor_says_that_commits_wait_for_a_standby(preparing: Preparing) -> None:
    """It names no session of a node as the one to end."""
    with closing(PostgresqlHarness(preparing)) as harness, Cluster(harness.connect()) as cluster, ThreadPoolExecutor(1) as pool:
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        preparing.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", 'SELECT pg_reload_conf()')
        try:
            heartbeat = pool.submit(namespace.beat, ref)
            found: list[DoctorFinding] = []
            while not found:
                if heartbeat.done():  # before the server had read the setting
                    heartbeat = pool.submit(namespace.beat, ref)
                found = list(examine_blockers(cluster, is_refused=True))
        finally:
            preparing.psql('ALTER SYSTEM RESET synchronous_standby_names', 'SELECT pg_reload_conf()')
        heartbeat.result()
    assert ['commits wait for a synchronous standby' in each.words for each in found] == [True]


def test_doctor_names_a_subscription_that_writes_into_the_tables(preparing: Preparing) -> None:
    """Its rows come past the triggers, and those of the state are of another cluster."""
    preparing.psql('CREATE DATABASE publisher', 'CREATE DATABASE subscriber')
    for database in ('publisher', 'subscriber'):
        with closing(connect_to(preparing.url(database), 'sync_')) as backend:
            Namespace(backend)
    preparing.psql(
        'CREATE PUBLICATION of_all FOR ALL TABLES',
        "SELECT pg_create_logical_replication_slot('slot', 'pgoutput')",
        database='publisher',
    )
    source = f'host={preparing.folder} port={preparing.port} user=postgres dbname=publisher'
    options = "create_slot = false, slot_name = 'slot', copy_data = false"
    with closing(connect_to(preparing.url('subscriber'), 'sync_')) as backend, Cluster(backend) as cluster:
        assert list(examine_blockers(cluster)) == []
        preparing.psql(
            f'CREATE SUBSCRIPTION "Copy" CONNECTION \'{source}\' PUBLICATION of_all WITH ({options})', database='subscriber'
        )
        (found,) = examine_blockers(cluster)
        assert found.words.startswith('the subscription "Copy" writes')
        assert 'sync_state' in found.words
        preparing.psql('ALTER SUBSCRIPTION "Copy" DISABLE', database='subscriber')
        assert list(examine_blockers(cluster)) == []
        preparing.psql('DROP SUBSCRIPTION "Copy"', database='subscriber')
