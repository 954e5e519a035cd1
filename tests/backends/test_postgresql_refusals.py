"""What becomes of running nodes when PostgreSQL refuses them something for a while, and what a first start is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import psycopg
import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.clusters import wait_until_whole
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually

from jobsync import Cluster, Job
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.postgresql import rights
from jobsync.backends.sql.postgresql.rights import grants, needed
from jobsync.backends.sql.postgresql.store import PostgresqlStore
from jobsync.cli.doctor import examine
from jobsync.cli.folders import DoctorFinding
from jobsync.errors import ConfigError, SchemaMismatch
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres


class Worker:
    """A role with a worker's rights, in a schema with tables, and what an operator does to it."""

    def __init__(self, harness: PostgresqlHarness) -> None:
        self.harness, self.role = harness, f'worker_{harness.schema}'
        made = harness.connect()
        made.open(Store(harness.url).config().settings, create=True)
        assert isinstance(made, SqlBackend)
        assert isinstance(made.store, PostgresqlStore)
        self._grants = grants(needed(made.store.tables), self.role)
        usage = f'GRANT USAGE ON SCHEMA {harness.schema} TO {self.role}'
        harness.execute(f"CREATE ROLE {self.role} LOGIN PASSWORD 'x'", usage, self._grants)
        address = f'127.0.0.1:{harness.server.port}/postgres?options=-csearch_path%3D{harness.schema}'
        self.store = Store(f'postgresql://{self.role}:x@{address}')

    def revoke(self) -> None:
        """Take all rights away."""
        self.harness.execute(f'REVOKE ALL ON ALL TABLES IN SCHEMA {self.harness.schema} FROM {self.role}')

    def grant(self) -> None:
        """Give them back."""
        self.harness.execute(self._grants)

    def change_password(self) -> None:
        """Change the password, and end the sessions that were begun with the old one."""
        self._set_password('y')

    def restore_password(self) -> None:
        """Change it back."""
        self._set_password('x')

    def _set_password(self, password: str) -> None:
        self.harness.execute(f"ALTER ROLE {self.role} PASSWORD '{password}'")
        self.end_sessions()

    def end_sessions(self) -> None:
        """End the sessions that there are. One that is being let in is among them a moment later."""
        self.harness.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.role}'")

    def refuse_entry(self, method: str) -> None:
        """Let the server refuse this role by its rules, which name a method of authentication."""
        rules = self.harness.server.folder / 'data' / 'pg_hba.conf'
        rules.write_text(f'host all {self.role} all {method}\n{rules.read_text()}')
        self.harness.execute('SELECT pg_reload_conf()')
        eventually(lambda: not self._is_let_in())

    def _is_let_in(self) -> bool:
        try:
            psycopg.connect(self.store.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def take_tables(self) -> None:
        """Take tables away."""
        self.harness.execute(*(f'ALTER TABLE sync_{table} RENAME TO kept_{table}' for table in ('node', 'lock', 'token')))

    def bring_tables(self) -> None:
        """Bring them back."""
        self.harness.execute(*(f'ALTER TABLE kept_{table} RENAME TO sync_{table}' for table in ('node', 'lock', 'token')))

    def drop(self) -> None:
        """Remove the role."""
        self.store.close()
        self.harness.execute(f'DROP OWNED BY {self.role}', f'DROP ROLE {self.role}')


@pytest.fixture
def worker(newest_postgres: PostgresServer) -> Iterator[Worker]:
    harness = PostgresqlHarness(newest_postgres)
    worker = Worker(harness)
    yield worker
    worker.drop()
    harness.close()


CHANGES: dict[str, tuple[Callable[[Worker], None], Callable[[Worker], None]]] = {
    'rights': (Worker.revoke, Worker.grant),
    'password': (Worker.change_password, Worker.restore_password),
    'tables': (Worker.take_tables, Worker.bring_tables),
}
"""What is taken away, and how it is brought back."""


@pytest.mark.parametrize('what', CHANGES)
def test_running_jobs_outlast_it(worker: Worker, what: str) -> None:
    """They claim nothing once their leases are over, and go on when it is back; none of them fails."""
    take, bring = CHANGES[what]
    with ExitStack() as running:
        jobs = [running.enter_context(worker.store.job(name)) for name in 'ab']
        wait_until_whole(*jobs)
        take(worker)

        def claims_none() -> bool:
            if what == 'password':  # a session that was let in just before it changed would go on
                worker.end_sessions()
            return not any(claims_any(job) for job in jobs)

        wait_until(claims_none, 'no job claims')
        bring(worker)
        wait_until_whole(*jobs)


def claims_any(job: Job) -> bool:
    """Whether the job would claim a task."""
    return any(job.can_claim_task(task) for task in range(100))


FIRST: dict[str, tuple[Callable[[Worker], None], type[Exception], str]] = {
    'rights': (
        Worker.revoke,
        ConfigError,
        'sync_state; .*: GRANT SELECT ON sync_node, .* INSERT, DELETE ON sync_change',
    ),
    'password': (Worker.change_password, ConfigError, 'check user, password and database'),
    'rule': (partial(Worker.refuse_entry, method='reject'), ConfigError, 'check user, password and database'),
    'method': (partial(Worker.refuse_entry, method='ident'), ConfigError, 'check user, password and database'),
    'tables': (Worker.take_tables, SchemaMismatch, 'has lost sync_lock, sync_node, sync_token'),
}


@pytest.mark.parametrize('what', FIRST)
def test_a_first_start_says_what_is_missing(worker: Worker, what: str) -> None:
    """At once: there is nothing that it could wait for."""
    take, error, said = FIRST[what]
    take(worker)
    with pytest.raises(error, match=said), worker.store.job('a', wait_on_enter=1000):
        pass


@pytest.mark.parametrize(
    ('table', 'right'),
    [('node', 'SELECT'), ('node', 'INSERT'), ('node', 'DELETE'), ('change', 'DELETE'), ('lock', 'UPDATE'), ('state', 'UPDATE')],
)
def test_one_right_that_is_missing(worker: Worker, table: str, right: str) -> None:
    """Only that one is named, with the statement that gives it to this role, also if only a leader comes to need it."""
    worker.harness.execute(f'REVOKE {right} ON sync_{table} FROM {worker.role}')
    with pytest.raises(ConfigError, match='permission denied') as caught, worker.store.job('a'):
        pass
    assert f'gives: GRANT {right} ON sync_{table} TO {worker.role} (' in str(caught.value)
    assert str(caught.value).count('GRANT') == 1
    worker.grant()


def doctor_on_rights(worker: Worker) -> DoctorFinding:
    """What ``jobsync doctor`` finds with a worker's URL."""
    with Cluster(worker.store.url) as cluster:
        [found] = [found for found in examine(cluster) if found.subject == 'rights']
    return found


@pytest.mark.parametrize(('table', 'right'), [('claim', 'INSERT'), ('node', 'UPDATE'), ('token', 'UPDATE')])
def test_doctor_names_the_right_that_workers_lack(worker: Worker, table: str, right: str) -> None:
    """The write that it tries needs another right: no task can be claimed, and all would be well."""
    assert doctor_on_rights(worker).verdict == 'ok'
    worker.harness.execute(f'REVOKE {right} ON sync_{table} FROM {worker.role}')
    found = doctor_on_rights(worker)
    assert found.verdict == 'warn'
    assert found.words.endswith(f': GRANT {right} ON sync_{table} TO {worker.role}')
    worker.grant()
    assert doctor_on_rights(worker).verdict == 'ok'


def test_doctor_goes_on_without_an_answer_about_rights(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends the session just then: what else the doctor has found is shown all the same."""

    def lacking(*_: object) -> None:
        raise psycopg.OperationalError('terminating connection due to administrator command')

    monkeypatch.setattr(rights, 'lacking', lacking)
    assert doctor_on_rights(worker).verdict == 'ok'


def test_a_history_that_none_may_delete(worker: Worker) -> None:
    """Without the rights that only a purge needs a node works."""
    worker.harness.execute(f'REVOKE DELETE ON sync_claim, sync_audit, sync_rebalance FROM {worker.role}')
    with worker.store.job('a') as job:
        wait_until_whole(job)


def test_rows_that_a_policy_hides(worker: Worker) -> None:
    """A node that the leader does not see would lose its tokens under its lease: the leader gets an error, not fewer rows."""
    namespace = Namespace(worker.harness.connect())
    namespace.join('seen')
    namespace.join('hidden')
    backend = connect_to(worker.store.url, 'sync_')
    assert len(backend.snapshot().nodes) == 2
    table = f'{worker.harness.schema}.sync_node'
    worker.harness.execute(
        f'ALTER TABLE {table} ENABLE ROW LEVEL SECURITY',
        f"CREATE POLICY one ON {table} USING (name = 'seen')",
    )
    with pytest.raises(ConfigError, match='row-level security'):
        backend.snapshot()
    assert len(namespace.snapshot().nodes) == 2, 'the owner sees all'
    worker.harness.execute(f'ALTER ROLE {worker.role} BYPASSRLS')
    assert len(backend.snapshot().nodes) == 2
    backend.close()
