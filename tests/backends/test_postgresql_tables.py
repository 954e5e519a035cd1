"""Tables that are not what they were made as: without a log, or in the shadow of others."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import quote

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer

from jobsync.backend import INITIAL, Eviction, TokenGroup
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.history import append_claims
from jobsync.backends.sql.postgresql.store import PostgresqlStore
from jobsync.backends.sql.store import Busy, Mode, SqlTransaction
from jobsync.errors import BackendUnavailable, ConfigError, Evicted, SchemaMismatch
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


@pytest.mark.parametrize('table', ['state', 'node', 'token', 'unowned', 'change', 'lock', 'claim'])
def test_a_table_without_a_log(harness: PostgresqlHarness, table: str) -> None:
    """A crash empties it, past every trigger: whoever connects then is refused, as a node that works is until it is mended."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    harness.execute(f'ALTER TABLE sync_{table} SET UNLOGGED')
    harness.end_sessions()
    with pytest.raises(ConfigError, match=f'sync_{table} is UNLOGGED.*SET LOGGED'):
        namespace.beat(ref)
    with pytest.raises(ConfigError, match='stop all nodes'):
        harness.connect().open(SETTINGS, create=True)
    harness.execute(f'ALTER TABLE sync_{table} SET LOGGED')
    assert namespace.beat(ref).heartbeat == 1


@pytest.mark.parametrize('table', ['state', 'node', 'token', 'lock'])
def test_triggers_that_are_disabled(harness: PostgresqlHarness, table: str) -> None:
    """Manual changes would go unnoticed: whoever connects then is refused, until the error is followed. Others' may be off."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    function = "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    other = f'CREATE TRIGGER other AFTER DELETE ON sync_{table} EXECUTE FUNCTION other()'
    harness.execute(function, other, f'ALTER TABLE sync_{table} DISABLE TRIGGER USER')
    harness.end_sessions()
    with pytest.raises(ConfigError, match=f'triggers of sync_{table} are disabled') as caught:
        namespace.beat(ref)
    statements = str(caught.value).partition('unnoticed: ')[2].partition('; if ')[0].replace('…', f'sync_{table}')
    harness.execute(*statements.split('; '), f'ALTER TABLE sync_{table} DISABLE TRIGGER other')
    revised = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'sync_revised' AND tgrelid = 'sync_state'::regclass"
    assert harness.query(revised) == [('A',)]
    harness.end_sessions()
    assert namespace.beat(ref).heartbeat == 1


def test_triggers_that_are_gone(harness: PostgresqlHarness) -> None:
    """Whoever opens the namespace is refused, as a reader is; what the error says to do makes them anew."""
    Namespace(harness.connect()).join('a')
    harness.execute('DROP FUNCTION sync_by_hand CASCADE')
    for settings in (SETTINGS, None):
        with pytest.raises(SchemaMismatch, match=r"lost 7 of jobsync's 17 triggers.* set schema_version in sync_state to 3"):
            harness.connect().open(settings, create=True)
    harness.execute('UPDATE sync_state SET schema_version = 3')
    assert harness.connect().open(SETTINGS, create=True).settings == SETTINGS


def test_a_trigger_for_replicas_alone(harness: PostgresqlHarness) -> None:
    """It does not fire for an operator either."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    harness.execute('ALTER TABLE sync_token ENABLE REPLICA TRIGGER sync_token_by_hand')
    harness.end_sessions()
    with pytest.raises(ConfigError, match='triggers of sync_token are disabled'):
        namespace.beat(ref)
    harness.execute('ALTER TABLE sync_token ENABLE ALWAYS TRIGGER sync_token_by_hand')
    assert namespace.beat(ref).heartbeat == 1


@pytest.mark.parametrize('has_tables', [False, True])
def test_a_search_path_that_changes_meanwhile(harness: PostgresqlHarness, has_tables: bool) -> None:
    """A process that connects anew does not go on in another schema, whether there are tables in it or not."""
    role, other = f'worker_{uuid.uuid4().hex[:8]}', f'{harness.schema}_other'
    url = re.sub(r'//[^@]*@', f'//{role}:secret@', harness.url.partition('?')[0])
    harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f'GRANT ALL ON SCHEMA {harness.schema} TO {role}')
    harness.execute(f'CREATE SCHEMA {other} AUTHORIZATION {role}', f'ALTER ROLE {role} SET search_path = {harness.schema}')
    with ExitStack() as closing:
        closing.callback(harness.execute, f'DROP OWNED BY {role} CASCADE', f'DROP ROLE {role}')
        if has_tables:
            elsewhere = url + f'?options=-csearch_path%3D{other}'
            other_backend = connect_to(elsewhere, 'sync_')
            closing.callback(other_backend.close)
            other_backend.open(SETTINGS, create=True)
        backend = connect_to(url, 'sync_')
        closing.callback(backend.close)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        harness.execute(f'ALTER ROLE {role} SET search_path = {other}')
        harness.end_sessions()
        with pytest.raises(ConfigError, match=rf'no longer leads to {harness.schema}\.sync_state'):
            namespace.beat(ref)
        with pytest.raises(ConfigError, match='stop all workers'):
            backend.open(SETTINGS, create=True)
        harness.execute(f'ALTER ROLE {role} SET search_path = {harness.schema}')
        assert namespace.beat(ref).heartbeat == 1
        # Behind a proxy a connection stays, and the session behind it is a new one.
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        engine = backend.store._engine
        with engine.connect() as connection:
            connection.exec_driver_sql(f'SET search_path = {other}')
        with pytest.raises((SchemaMismatch, Evicted)):
            namespace.beat(ref)
        with engine.connect() as connection:
            connection.exec_driver_sql(f'SET search_path = {other}')
        with pytest.raises(ConfigError, match='no longer leads to'):
            backend.open(SETTINGS, create=True)
        assert has_tables or not harness.query(f"SELECT relname FROM pg_class WHERE relnamespace = '{other}'::regnamespace")


def test_a_schema_that_is_renamed_meanwhile(harness: PostgresqlHarness) -> None:
    """A node that runs finds its tables again once the search_path of its role has the new name, which no session before has."""
    role, renamed = f'worker_{uuid.uuid4().hex[:8]}', f'{harness.schema}_renamed'
    url = re.sub(r'//[^@]*@', f'//{role}:secret@', harness.url.partition('?')[0])
    harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f'GRANT ALL ON SCHEMA {harness.schema} TO {role}')
    harness.execute(f'ALTER ROLE {role} SET search_path = {harness.schema}')
    with ExitStack() as closing:
        closing.callback(harness.execute, f'DROP OWNED BY {role} CASCADE', f'DROP ROLE {role}')
        backend = connect_to(url, 'sync_')
        closing.callback(backend.close)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        harness.execute(f'ALTER SCHEMA {harness.schema} RENAME TO {renamed}')
        closing.callback(harness.execute, f'ALTER SCHEMA {renamed} RENAME TO {harness.schema}')
        with pytest.raises(SchemaMismatch, match='does not exist'):
            namespace.beat(ref)
        harness.execute(f'ALTER ROLE {role} SET search_path = {renamed}')
        assert namespace.beat(ref).heartbeat == 1


def test_a_schema_that_a_role_may_not_use(harness: PostgresqlHarness) -> None:
    """Its tables are invisible to the role. A node makes no others in the next schema of the search path, where it may."""
    role, other = f'worker_{uuid.uuid4().hex[:8]}', f'{harness.schema}_other'
    Namespace(harness.connect())
    url = re.sub(r'//[^@]*@', f'//{role}:secret@', harness.url.partition('?')[0])
    harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f'CREATE SCHEMA {other} AUTHORIZATION {role}')
    harness.execute(f'ALTER ROLE {role} SET search_path = {harness.schema}, {other}')
    with ExitStack() as closing:
        closing.callback(harness.execute, f'DROP OWNED BY {role} CASCADE', f'DROP ROLE {role}')
        backend = connect_to(url, 'sync_')
        closing.callback(backend.close)
        grant = f'GRANT USAGE ON SCHEMA {harness.schema} TO {role}'
        with pytest.raises(ConfigError, match=grant):
            backend.open(SETTINGS, create=True)
        with pytest.raises(ConfigError, match=grant):
            backend.open(None, create=False)
        harness.execute(grant)
        with pytest.raises(ConfigError, match='GRANT SELECT ON sync_node'):
            backend.open(None, create=False)


def test_a_search_path_in_one_pair_of_quotes(harness: PostgresqlHarness) -> None:
    """``SET search_path = 'a,b,c'`` names one schema, which is not there. No right on another one is what is missing."""
    path = f'"own,{harness.schema},other"'
    with (
        closing(connect_to(harness.url.replace(harness.schema, quote(path)), 'sync_')) as backend,
        pytest.raises(SchemaMismatch, match=re.escape(f'no schema of the search_path ({path}) exists')),
    ):
        backend.open(SETTINGS, create=True)


def test_the_tables_of_other_schemas_are_not_read(harness: PostgresqlHarness) -> None:
    """Of hundreds of schemas, each with a namespace of this name, every new connection would read all tables."""
    other = PostgresqlHarness(harness.server)
    namespaces = [Namespace(each.connect()) for each in (harness, other)]
    backend, rows = namespaces[0].backend, list[tuple[str, ...]]()
    assert isinstance(backend, SqlBackend)
    assert isinstance(backend.store, PostgresqlStore)
    check = backend.store._schema_check

    def look(tx: SqlTransaction) -> set[str]:
        def read(statement: str) -> list[tuple[str, ...]]:
            rows.extend(tuple(row) for row in tx.execute_text(statement))
            return rows

        return check.existing(read)

    assert backend.store.run(Mode.READ, 60, look) == set(backend.store.tables.names().values())
    assert {schema for _, _, schema, *_ in rows} == {harness.schema}
    other.close()


def test_a_table_in_the_shadow_of_another(harness: PostgresqlHarness) -> None:
    """A copy of one table, earlier in the search path, is not read beside the other tables."""
    Namespace(harness.connect())
    shade = f'{harness.schema}_shade'
    harness.execute(f'CREATE SCHEMA {shade}', f'CREATE TABLE {shade}.sync_token AS SELECT * FROM sync_token')
    try:
        url = harness.url.replace(harness.schema, f'{shade},{harness.schema}')
        with pytest.raises(ConfigError, match=rf'several schemas: .*{harness.schema}\.sync_state, {shade}\.sync_token'):
            connect_to(url, 'sync_').open(SETTINGS, create=True)
    finally:
        harness.execute(f'DROP SCHEMA {shade} CASCADE')


def test_a_view_in_the_way_of_a_table(harness: PostgresqlHarness) -> None:
    """A node at work does not read an old copy by a view that is earlier in the search path, which it finds as it connects."""
    shade = f'{harness.schema}_shade'
    harness.execute(f'CREATE SCHEMA {shade}')
    backend = connect_to(harness.url.replace(harness.schema, f'{shade},{harness.schema}'), 'sync_')
    try:
        Namespace(harness.connect())
        backend.open(SETTINGS, create=False)
        leader = Namespace(backend).leader()
        Namespace(backend).commit(leader, TokenGroup([0], 'leader'))
        harness.execute(
            f'CREATE TABLE {shade}.copy AS SELECT * FROM sync_token', f'CREATE VIEW {shade}.sync_token AS TABLE {shade}.copy'
        )
        harness.end_sessions()
        with pytest.raises(ConfigError, match=rf'several schemas: .*{shade}\.sync_token'):
            backend.read_assignment()
        harness.execute(f'DROP VIEW {shade}.sync_token')
        assert backend.read_assignment().groups[0].owner == 'leader'
    finally:
        backend.close()
        harness.execute(f'DROP SCHEMA {shade} CASCADE')


@pytest.mark.parametrize('kind', ['partitioned', 'view'])
def test_a_table_that_was_replaced(harness: PostgresqlHarness, kind: str) -> None:
    """The error says what has the name of the table, and does not say that it is lost, or that others are to be dropped."""
    Namespace(harness.connect())
    made = {
        'partitioned': 'TABLE sync_claim (LIKE copy INCLUDING ALL) PARTITION BY HASH (date)',
        'view': 'VIEW sync_claim AS TABLE copy',
    }
    harness.execute('ALTER TABLE sync_claim RENAME TO copy', f'CREATE {made[kind]}')
    with pytest.raises(SchemaMismatch, match='sync_claim is a partitioned table, a view'):
        harness.connect().open(SETTINGS, create=True)


def test_a_sequence_that_is_behind(harness: PostgresqlHarness) -> None:
    """Logical replication copies rows and no sequences. No commit is refused for it, and the rebalances are in their order."""
    backend = harness.connect(bulk_timeout_sec=60.0)
    namespace = Namespace(backend)
    leader = namespace.leader()
    row = "now() - interval '1 day', 'old', 'leader', 1, 1, 1, 1"
    columns = 'triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms'
    harness.execute(
        f'INSERT INTO sync_rebalance ({columns}) SELECT {row} FROM generate_series(1, 50000)',
        'ALTER TABLE sync_rebalance ALTER COLUMN id RESTART WITH 1',
    )
    for token in range(3):
        namespace.commit(leader, TokenGroup([token], 'leader'), reason=f'new {token}', moved=1)
    assert [found.trigger_reason for found in namespace.rebalances(limit=4)] == ['new 2', 'new 1', 'new 0', 'old']


@pytest.mark.parametrize('action', ['NO ACTION', 'CASCADE'])
def test_a_foreign_key_to_the_names_of_nodes(harness: PostgresqlHarness, action: str) -> None:
    """Nodes come back and are evicted as without it, and nobody who reads everything reads less than the others."""
    namespace = Namespace(harness.connect())
    leader, ref = namespace.leader(), namespace.join('b')

    def owners() -> dict[str | None, int]:
        return {group.owner: len(group.tokens) for group in namespace.backend.read_assignment().groups}

    namespace.commit(leader, TokenGroup(range(9), 'b'))
    reference = 'FOREIGN KEY (node) REFERENCES sync_node (name)'
    harness.execute(f'ALTER TABLE sync_token ADD {reference} ON DELETE {action}')
    namespace.backend.deregister(ref)
    back = namespace.join('b')
    assert owners() == {'b': 9}
    eviction = Eviction(back, namespace.node('b').heartbeat)
    namespace.commit(leader, TokenGroup(range(9), 'leader'), evictions=(eviction,))
    assert owners() == {'leader': 9}
    namespace.renew_timeline()
    assert not namespace.snapshot().nodes


def test_an_index_that_allows_one_claim_of_an_item(harness: PostgresqlHarness) -> None:
    """The error names it, and says what to do: a claim of another node is refused for as long as it is there."""
    backend = harness.connect()
    namespace = Namespace(backend)
    first, second = namespace.join('a'), namespace.join('b')
    harness.execute('CREATE UNIQUE INDEX mine ON sync_claim (item, date)')
    namespace.claim(first, 'x')
    assert isinstance(backend, SqlBackend)
    once = backend.store.transaction(Mode.WRITE, time.monotonic() + 600)
    with pytest.raises(Busy, match='"mine"; if this goes on, drop the unique index'), once as tx:
        append_claims(tx, second, ['x'], DAY)


def test_a_trigger_that_refuses(harness: PostgresqlHarness) -> None:
    """The error has its words, and names its function."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    harness.execute(
        "CREATE FUNCTION watchman() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'the log of changes is full'; END$$",
        'CREATE TRIGGER mine BEFORE UPDATE ON sync_node FOR EACH ROW EXECUTE FUNCTION watchman()',
    )
    with pytest.raises(SchemaMismatch, match=r'the log of changes is full \(PL/pgSQL function .*watchman\(\)'):
        namespace.beat(ref)
    harness.execute('DROP TRIGGER mine ON sync_node')
    assert namespace.beat(ref).heartbeat == 1


def test_a_trigger_that_takes_long(harness: PostgresqlHarness) -> None:
    """The error of a heartbeat that is cut off names its function, besides what else may keep a call waiting."""
    ref = Namespace(harness.connect()).join('a')
    harness.execute(
        'CREATE FUNCTION watchman() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(600); RETURN NEW; END$$',
        'CREATE TRIGGER mine BEFORE UPDATE ON sync_node FOR EACH ROW EXECUTE FUNCTION watchman()',
    )
    with pytest.raises(BackendUnavailable, match=r'timeout \(PL/pgSQL function .*watchman\(\) line .*: .* drop it\); .* a lock'):
        harness.connect(op_timeout_sec=1).heartbeat(ref, INITIAL, frozenset())


def test_a_statement_timeout_that_lets_nobody_connect(harness: PostgresqlHarness) -> None:
    """The error names the setting, which is in force until a transaction sets its own."""
    Namespace(harness.connect())
    url = f'{harness.url}%20-cstatement_timeout%3D1'

    def reads() -> bool:
        with closing(connect_to(url, 'sync_')) as backend:
            return bool(backend.snapshot().timeline.id)

    with pytest.raises(BackendUnavailable, match='has a statement_timeout that is too short for a new connection'):
        while reads():  # within a millisecond
            pass


@pytest.mark.parametrize('table', ['node', 'state'])
def test_a_table_that_inherits(harness: PostgresqlHarness, table: str) -> None:
    """A copy that an operator has made so adds its rows to each reading: an outage that says so, and ends with it."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    harness.execute(f'CREATE TABLE copy () INHERITS (sync_{table})', f'INSERT INTO copy SELECT * FROM ONLY sync_{table}')
    with pytest.raises(BackendUnavailable, match='pg_inherits'):
        namespace.beat(ref)
    harness.execute(f'ALTER TABLE copy NO INHERIT sync_{table}')
    assert namespace.beat(ref).heartbeat >= 1


@pytest.mark.parametrize('way', ['the schema is renamed', 'the tables are moved'])
def test_manual_edits_of_tables_that_were_moved(harness: PostgresqlHarness, way: str) -> None:
    """They are noticed as before, in the namespace of the tables, and not in another one that has been made where those were."""
    Namespace(harness.connect()).backend.close()
    place, before = f'{harness.schema}_moved', harness.schema
    if way == 'the schema is renamed':
        harness.execute(f'ALTER SCHEMA {before} RENAME TO {place}', f'CREATE SCHEMA {before}')
    else:
        moves = [f'ALTER TABLE {table} SET SCHEMA {place}' for (table,) in harness.query(TABLES)]
        harness.execute(f'CREATE SCHEMA {place}', *moves)
    with ExitStack() as closing:
        closing.callback(harness.execute, f'DROP SCHEMA {place} CASCADE')
        there, here = connect_to(harness.url.replace(before, place), 'sync_'), harness.connect()
        closing.callback(there.close)
        moved, other = Namespace(there), Namespace(here)
        moved.commit(moved.leader(), TokenGroup([1, 2], 'leader'), moved=2)
        for edit in EDITS:
            with moved.raises_revision(), other.unchanged():
                harness.execute(f'SET search_path = {place}', edit)
        assert [lock.task_id for lock in there.read_locks().locks] == ['x']


TABLES = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
EDITS = (
    'DELETE FROM sync_token WHERE token_id = 1',
    "INSERT INTO sync_lock (task_id, node_pattern, created_by) VALUES ('x', '%', 'operator')",
    "DELETE FROM sync_node WHERE name = 'leader'",
)
