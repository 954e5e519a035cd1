"""``job._cn``: when it connects, what leaving does to it, and from where it may be used."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.exc
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.servers import PostgresServer, free_port
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import CoordinationConfig, Job, JobsyncError
from jobsync.errors import BackendUnavailable

COUNT = 'SELECT count(*) FROM notes'


def test_from_any_thread(store: Store) -> None:
    """It is one object, and each thread's statements are its own."""
    with store.job('a') as job:
        db.execute(job._cn, 'CREATE TABLE notes (note TEXT)')
        threads = [threading.Thread(target=lambda: db.execute(job._cn, "INSERT INTO notes VALUES ('x')")) for _ in range(5)]
        with job._cn.transaction():
            assert db.select_scalar(job._cn, COUNT) == 0
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert db.select_scalar(job._cn, COUNT) == 5


def test_two_threads_use_it_for_the_first_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the one that leaving closes."""
    found, make = list[db.Connection](), db.Connection

    def and_use(*given: Any, **options: Any) -> db.Connection:
        monkeypatch.setattr(db, 'Connection', make)
        found.append(job._cn)
        return make(*given, **options)

    monkeypatch.setattr(db, 'Connection', and_use)
    with store.job('a') as job:
        assert [job._cn] == found
    assert found[0].closed


def test_leaving_commits_nothing(store: Store) -> None:
    """A transaction that is under way when the job leaves is undone, in this thread and in another, and says so."""
    job, begun, left, errors = store.job('a'), threading.Event(), threading.Event(), list[Exception]()

    def work() -> None:
        try:
            with job._cn.transaction():
                begun.set()
                left.wait(120)
                db.execute(job._cn, "INSERT INTO notes VALUES ('late')")
        except JobsyncError as error:
            errors.append(error)

    with store.job('b') as b:
        db.execute(b._cn, 'CREATE TABLE notes (note TEXT)')
        with pytest.raises(JobsyncError, match='outside its with block'), job:
            other = threading.Thread(target=work)
            other.start()
            begun.wait(120)
            with job._cn.transaction():
                db.execute(job._cn, "INSERT INTO notes VALUES ('early')")
                job.__exit__(None, None, None)
        left.set()
        other.join()
        assert len(errors) == 1
        assert db.select_scalar(b._cn, COUNT) == 0
        assert db.execute(b._cn, 'UPDATE notes SET note = note') == 0


def test_a_statement_is_an_edit_by_hand(store: Store) -> None:
    """What it changes in jobsync's own tables is noticed, within a transaction once that is committed."""
    with store.job('a') as a, store.job('b') as b:
        with a._cn.transaction():
            db.execute(a._cn, 'DELETE FROM sync_node WHERE name = %s', 'b')
        wait_until(lambda: len(a.my_tokens | b.my_tokens) == TOKENS and b.am_i_healthy(), 'b is back')


@pytest.mark.postgres
class TestPostgresql:
    """Connections to a server."""

    @pytest.fixture
    def server(self, newest_postgres: PostgresServer) -> PostgresServer:
        """The server."""
        return newest_postgres

    @pytest.fixture
    def config(self, server: PostgresServer) -> CoordinationConfig:
        """Of a cluster whose connections can be told from others'."""
        url = server.new_schema() + '&application_name=counted'
        return CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=TOKENS)

    def connections(self, server: PostgresServer, *conditions: str) -> int:
        """How many there are."""
        where = ' AND '.join(["application_name = 'counted'", *conditions])
        return int(server.psql(f'SELECT count(*) FROM pg_stat_activity WHERE {where}')[0])

    def cut(self, server: PostgresServer) -> None:
        """Have the server end the user's connections."""
        where = "application_name = 'counted' AND query LIKE 'SELECT 4%'"
        server.psql(f'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}')
        wait_until(lambda: self.connections(server, "query LIKE 'SELECT 4%'") == 0, 'they are gone')

    def test_how_many(self, server: PostgresServer, config: CoordinationConfig) -> None:
        """Two for an idle job, one more once statements are run, none left in a transaction, and none when it has left."""
        with Job('a', coordination_config=config) as job:
            cn = job._cn
            wait_until(lambda: 1 <= self.connections(server) <= 2, 'two at most')
            for _ in range(5):
                assert db.select_scalar(cn, 'SELECT 42') == 42
            wait_until(lambda: self.connections(server) <= 3, 'one more')
            assert self.connections(server, "query LIKE 'SELECT 4%'", "state = 'idle'") == 1
        wait_until(lambda: self.connections(server) == 0, 'none')

    def test_lost_while_idle(self, server: PostgresServer, config: CoordinationConfig) -> None:
        """The next statement connects anew, and so does the next transaction."""
        with Job('a', coordination_config=config) as job:
            assert db.select_scalar(job._cn, 'SELECT 41') == 41
            self.cut(server)
            assert db.select_scalar(job._cn, 'SELECT 42') == 42
            self.cut(server)
            with job._cn.transaction():
                assert db.select_scalar(job._cn, 'SELECT 43') == 43

    def test_lost_in_a_transaction(self, server: PostgresServer, config: CoordinationConfig) -> None:
        """The block ends with an error, nothing of it is done, be it after the loss, and the next statement works."""
        with Job('a', coordination_config=config) as job:
            db.execute(job._cn, 'CREATE TABLE notes (note TEXT)')
            with pytest.raises(sqlalchemy.exc.OperationalError), job._cn.transaction():
                db.execute(job._cn, "INSERT INTO notes VALUES ('before')")
                assert db.select_scalar(job._cn, 'SELECT 41') == 41
                self.cut(server)
                with pytest.raises(sqlalchemy.exc.OperationalError) as lost:
                    db.select(job._cn, 'SELECT 42')
                with pytest.raises(JobsyncError, match='lost'):
                    db.execute(job._cn, "INSERT INTO notes VALUES ('after')")
                raise lost.value
            assert db.select_scalar(job._cn, COUNT) == 0

    def test_lost_in_a_transaction_that_goes_on(self, server: PostgresServer, config: CoordinationConfig) -> None:
        """A block that catches the error of the loss says at its end that nothing of it is done."""
        with Job('a', coordination_config=config) as job:
            with pytest.raises(JobsyncError, match='lost'), job._cn.transaction():
                assert db.select_scalar(job._cn, 'SELECT 41') == 41
                self.cut(server)
                with pytest.raises(sqlalchemy.exc.OperationalError):
                    db.select(job._cn, 'SELECT 42')
            assert db.select_scalar(job._cn, 'SELECT 43') == 43

    def test_a_session_from_a_time_without_writes(self, server: PostgresServer, config: CoordinationConfig) -> None:
        """Once the database accepts writes again, so does the next statement: a session stays as read-only as it began."""
        with Job('a', coordination_config=config) as job:
            assert db.select_scalar(job._cn, 'SELECT 41') == 41
            server.arrange('ALTER DATABASE postgres SET default_transaction_read_only = on')
            try:
                self.cut(server)
                with pytest.raises(sqlalchemy.exc.InternalError, match='read-only'):
                    db.execute(job._cn, 'CREATE TABLE notes (note TEXT)')
            finally:
                server.arrange('ALTER DATABASE postgres RESET default_transaction_read_only')
            with job._cn.transaction():
                db.execute(job._cn, 'CREATE TABLE notes (note TEXT)')
            assert db.select_scalar(job._cn, COUNT) == 0

    def test_errors_tell_no_password(self, server: PostgresServer) -> None:
        """Neither that of a server that is not there, nor that of a statement."""
        with db.connect(f'postgresql://postgres:wrongsecret@127.0.0.1:{free_port()}/postgres') as cn:
            with pytest.raises(BackendUnavailable) as unreachable:
                db.select(cn, 'SELECT 1')
            assert 'wrongsecret' not in f'{unreachable.value!r} {unreachable.value} {unreachable.value.__cause__!r}'
        with db.connect(server.new_schema()) as cn:
            with pytest.raises(sqlalchemy.exc.ProgrammingError) as failed:
                db.select(cn, 'SELECT * FROM absent')
            assert server.password not in f'{failed.value!r} {failed.value} {failed.value.orig!r}'


def stumble(self: sqlalchemy.Connection) -> None:
    """What SQLAlchemy does if the exit of a signal's handler comes while it closes a connection."""
    try:
        close(self)
        raise SystemExit(7)
    finally:
        raise AssertionError


close = sqlalchemy.Connection.close


@pytest.mark.parametrize('in_transaction', [False, True])
def test_an_exit_is_not_replaced(store: Store, monkeypatch: pytest.MonkeyPatch, in_transaction: bool) -> None:
    """By an error that SQLAlchemy raises because the exit has left it in the midst of something."""
    with store.job('a') as job:
        db.execute(job._cn, 'CREATE TABLE notes (note TEXT)')
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
            patch.setattr(sqlalchemy.Connection, 'close', stumble)
            if in_transaction:
                with job._cn.transaction():
                    db.execute(job._cn, "INSERT INTO notes VALUES ('never')")
                    raise SystemExit(7)
            db.execute(job._cn, "INSERT INTO notes VALUES ('once')")
        assert caught.value.code == 7
        assert db.select_scalar(job._cn, COUNT) == (0 if in_transaction else 1)


def test_an_error_after_an_exit_is_an_error(store: Store) -> None:
    """What goes wrong while an exit is being handled is not that exit once more."""
    with store.job('a') as job:
        try:
            raise SystemExit(7)
        except SystemExit:
            with pytest.raises(sqlalchemy.exc.DBAPIError):
                db.execute(job._cn, 'INSERT INTO absent VALUES (1)')
