"""A database that an older jobsync made: as it was dumped then, brought to the present schema, and in use again."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.servers import PostgresServer

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import HistoryKind, NodeRef, Pin, Rebalance, Settings
from jobsync.backend import BackendOptions
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace

SCHEMAS = Path(__file__).parent / 'schemas'
SETTINGS = Settings(24, 'xxh3', 1)
DAY = dt.date(2026, 3, 2)
SHAPE = {
    'sqlite': 'SELECT m.name, c.name, c.type, "notnull", dflt_value, pk FROM sqlite_master m, pragma_table_info(m.name) c '
    "WHERE m.type = 'table' ORDER BY 1, 2",
    'postgresql': 'SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns '
    'WHERE table_schema = current_schema() ORDER BY 1, 2',
}
CHECKS = {
    'sqlite': "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT IN ('sync_state', 'sqlite_sequence')",
    'postgresql': 'SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint '
    "WHERE conname LIKE '%_is_sound' AND connamespace = current_schema()::regnamespace",
}
INDEXES = {
    'sqlite': "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY 1",
    'postgresql': "SELECT indexname, replace(indexdef, current_schema(), '') FROM pg_indexes WHERE schemaname = current_schema() "
    "UNION ALL SELECT tgname, replace(pg_get_triggerdef(oid), current_schema(), '') FROM pg_trigger "
    'WHERE NOT tgisinternal AND tgrelid::regclass::text IN '
    '(SELECT tablename FROM pg_tables WHERE schemaname = current_schema()) '
    "UNION ALL SELECT relname, array_to_string(reloptions, ', ') FROM pg_class "
    'WHERE reloptions IS NOT NULL AND relnamespace = current_schema()::regnamespace ORDER BY 1',
}


def sqlite(tmp_path: Path, number: int) -> SqliteHarness:
    """A file made from a dump."""
    harness = SqliteHarness(tmp_path)
    if number:
        with closing(sqlite3.connect(harness.path)) as connection:
            connection.executescript((SCHEMAS / f'version-{number}-sqlite.sql').read_text())
    return harness


def postgresql(server: PostgresServer, number: int) -> PostgresqlHarness:
    """A schema made from a dump."""
    harness = PostgresqlHarness(server)
    if number:
        dump = (SCHEMAS / f'version-{number}-postgresql.sql').read_text()
        server.psql(dump.replace('the_schema', harness.schema))
    return harness


Made = Callable[[int], SqliteHarness | PostgresqlHarness]


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.postgres)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """Makes a store of one of the two kinds, as a version of the schema left it; 0: an empty one."""
    made: list[SqliteHarness | PostgresqlHarness] = []

    def make(number: int) -> SqliteHarness | PostgresqlHarness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        kind = request.param
        new = sqlite(folder, number) if kind == 'sqlite' else postgresql(request.getfixturevalue('newest_postgres'), number)
        made.append(new)
        return new

    make.kind = request.param  # type: ignore[attr-defined]
    yield make
    for harness in made:
        harness.close()


@pytest.fixture(params=[3])
def number(request: pytest.FixtureRequest) -> int:
    """The version of a schema that has been published."""
    found: int = request.param
    return found


@pytest.fixture
def old(make: Made, number: int) -> SqliteHarness | PostgresqlHarness:
    return make(number)


def test_everything_is_still_there(old: SqliteHarness | PostgresqlHarness) -> None:
    """Nodes, tokens with and without an owner, pins with and without one, locks and trails."""
    backend = old.connect()
    opened = backend.open(SETTINGS, create=True)
    assert opened.settings == SETTINGS
    namespace = Namespace(backend)
    assert list(namespace.nodes()) == ['a', 'b']
    assignment = namespace.assignment()
    assert [len(assignment.owned_by(name)) for name in 'ab'] == [10, 10]
    assert assignment.row(0).target == 'b'
    assert [(row.owner, row.home, row.absent) for row in map(assignment.row, (20, 21, 22))] == [
        (None, 'b', False),
        (None, 'b', False),
        (None, None, True),
    ]
    fence = assignment.row(0).version
    assert list(namespace.pins().values()) == [
        Pin(25, 'p', 'a', None, fence, 'a'),
        Pin(26, 'q', None, None, fence, None),
        Pin(27, 'r', None, 'b', fence, None),
    ]
    assert {task: lock.id for task, lock in namespace.locks().items()} == {'p': 1, 'q': 2, 'r': 3}
    for kind, items in ((HistoryKind.CLAIM, {'p', 'x'}), (HistoryKind.AUDIT, {'p'})):
        assert {row.item for row in backend.history(kind, date=DAY) if not isinstance(row, Rebalance)} == items
    shown = old.query('SELECT node, count(*) FROM sync_token GROUP BY node ORDER BY node')
    assert [(name, int(count)) for name, count in shown] == [('a', 11), ('b', 10)]  # type: ignore[call-overload]


def test_it_goes_on_from_there(old: SqliteHarness | PostgresqlHarness) -> None:
    """Differences build on what is read after it; ids of locks rise from where they were; edits by hand are noticed."""
    backend = old.connect()
    timeline = backend.open(SETTINGS, create=True).timeline
    backend.renew_timeline(timeline, 0)
    namespace = Namespace(backend)
    namespace.timeline = backend.snapshot().timeline
    assert namespace.assignment().is_unowned
    leader = namespace.leader()
    version = namespace.commit(leader, TokenGroup(range(10), 'leader'), pins=(Pin(26, 'q', None),))
    before = namespace.assignment()
    namespace.commit(leader, TokenGroup([0, 1], 'b'), pins=(Pin(26, 'q', 'b'),))
    changes = backend.read_assignment(version)
    assert changes.base == version
    assert list(before.apply(changes).owned_by('b')) == [0, 1]
    namespace.lock('new')
    assert namespace.locks()['new'].id == 5
    with namespace.raises_revision():
        old.execute("INSERT INTO sync_lock (task_id, node_pattern) VALUES ('by hand', 'a%')")
    assert (namespace.locks()['by hand'].id, namespace.locks()['by hand'].patterns) == (6, ('a%',))
    with namespace.raises_revision():
        old.delete_token_rows('sync_', [3])
    assert namespace.row(3).absent
    backend.append_claims(NodeRef(leader.name, leader.incarnation), ['y'], DAY)


def test_the_schema_is_that_of_a_new_one(make: Made, number: int) -> None:
    """Columns, conditions, indexes, triggers and the room in pages are those of a new namespace."""
    shapes = []
    for version in (number, 0):
        harness = make(version)
        harness.connect().open(SETTINGS, create=True)
        kind = make.kind  # type: ignore[attr-defined]
        columns = [row for row in harness.query(SHAPE[kind]) if row[0] != 'sqlite_sequence']
        # Old rows of the history were not checked; and a name in quotes is the same name.
        told = (' '.join(map(str, row)).replace(' NOT VALID', '') for row in harness.query(CHECKS[kind]))
        texts = sorted(re.sub(r'[\s"]', '', text).removesuffix(')') for text in told)
        # In whatever order a table has them: what is added to one comes last.
        checks = [sorted(re.split(r',|(?<!,)(?=CONSTRAINT)', text)) for text in texts]
        shapes.append((columns, harness.query(INDEXES[kind]), checks))
    assert shapes[0] == shapes[1]


def test_an_older_one_is_not_touched_without_leave(old: SqliteHarness | PostgresqlHarness, number: int) -> None:
    """With ``skip_db_init`` it is refused, and says who migrates."""
    with pytest.raises(SchemaMismatch, match=rf'schema version {number}.*needs version \d.*skip_db_init'):
        old.connect().open(SETTINGS, create=False)
    assert [int(row[0]) for row in old.query('SELECT schema_version FROM sync_state')] == [number]  # type: ignore[call-overload]


@pytest.mark.postgres
def test_rights_follow(newest_postgres: PostgresServer) -> None:
    """On PostgreSQL a role that could work with task locks can work with items, and one that could read locks reads items."""
    harness = postgresql(newest_postgres, 3)
    try:
        newest_postgres.psql('CREATE ROLE old_worker', 'CREATE ROLE old_reader')
        harness.execute(
            f'GRANT USAGE ON SCHEMA {harness.schema} TO old_worker, old_reader',
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {harness.schema} TO old_worker',
            f'GRANT SELECT ON ALL TABLES IN SCHEMA {harness.schema} TO old_reader',
        )
        harness.connect().open(SETTINGS, create=True)
        rights = [('old_worker', 'DELETE'), ('old_worker', 'INSERT'), ('old_reader', 'SELECT'), ('old_reader', 'UPDATE')]
        found = [harness.query(f"SELECT has_table_privilege('{role}', 'sync_item', '{right}')") for role, right in rights]
        assert found == [[('t',)], [('t',)], [('t',)], [('f',)]]
    finally:
        harness.close()
        newest_postgres.psql('DROP ROLE old_worker', 'DROP ROLE old_reader')


@pytest.mark.postgres
def test_rights_of_an_owner_follow(newest_postgres: PostgresServer) -> None:
    """The role that owns the tables can work with items, though another one, as a superuser, has migrated them."""
    with closing(postgresql(newest_postgres, 3)) as harness:
        newest_postgres.psql('CREATE ROLE old_owner')
        tables = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        harness.execute(*(f'ALTER TABLE {table} OWNER TO old_owner' for (table,) in harness.query(tables)))
        harness.connect().open(SETTINGS, create=True)
        found = harness.query("SELECT has_table_privilege('old_owner', 'sync_item', 'SELECT, INSERT, UPDATE, DELETE')")
    newest_postgres.psql('DROP ROLE old_owner')
    assert found == [('t',)]


def test_views_of_ones_own(old: SqliteHarness | PostgresqlHarness) -> None:
    """They do not stand in the way, and read the tables as they are now."""
    for table in ('node', 'claim'):
        old.execute(f'CREATE VIEW my_{table} AS SELECT * FROM sync_{table}')
    old.connect().open(SETTINGS, create=True)
    assert old.query('SELECT name FROM my_node ORDER BY 1') == [('a',), ('b',)]
    assert sorted(old.query('SELECT item FROM my_claim')) == sorted(old.query('SELECT item FROM sync_claim'))


def test_triggers_and_indexes_of_ones_own(old: SqliteHarness | PostgresqlHarness) -> None:
    """They are there afterwards, and have not run for the rows that were there before."""
    old.execute('CREATE TABLE mine (item text)')
    if isinstance(old, PostgresqlHarness):
        body = 'LANGUAGE plpgsql AS $body$ BEGIN INSERT INTO mine VALUES (NEW.item); RETURN NULL; END $body$'
        old.execute(f'CREATE FUNCTION mine() RETURNS trigger {body}')
    for table in ('claim', 'audit'):
        each = 'FOR EACH ROW EXECUTE FUNCTION mine()'
        if isinstance(old, SqliteHarness):
            each = 'BEGIN INSERT INTO mine VALUES (NEW.item); END'
        old.execute(
            f'CREATE TRIGGER my_{table} AFTER INSERT ON sync_{table} {each}',
            f'CREATE INDEX my_{table}_nodes ON sync_{table} (node)',
        )
    backend = old.connect()
    backend.open(SETTINGS, create=True)
    for table in ('claim', 'audit'):
        old.execute(
            f"INSERT INTO sync_{table} (item, node, date, created_on) VALUES ('{table}', 'a', '2026-03-02', '2026-03-02 10:00')"
        )
    assert old.query('SELECT item FROM mine ORDER BY 1') == [('audit',), ('claim',)]
    if isinstance(old, SqliteHarness):
        indexes = old.query("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'my\\_%' ESCAPE '\\' ORDER BY 1")
        assert indexes == [('my_audit_nodes',), ('my_claim_nodes',)]


def test_columns_of_ones_own(old: SqliteHarness | PostgresqlHarness) -> None:
    """They are there afterwards, with their values, in tables that get new columns too; their indexes do not stand in the way."""
    for table, key, row in (('node', 'name', 'a'), ('claim', 'item', 'p')):
        old.execute(
            f"ALTER TABLE sync_{table} ADD COLUMN mine text DEFAULT 'x'",
            f"UPDATE sync_{table} SET mine = 'y' WHERE {key} = '{row}'",
            f'CREATE INDEX my_{table} ON sync_{table} (mine)',
        )
    old.connect().open(SETTINGS, create=True)
    assert old.query('SELECT name, mine FROM sync_node ORDER BY 1') == [('a', 'y'), ('b', 'x')]
    assert old.query('SELECT item, mine FROM sync_claim ORDER BY 1') == [('p', 'y'), ('x', 'x')]


@pytest.mark.postgres
def test_tables_that_are_not_in_the_first_schema(newest_postgres: PostgresServer) -> None:
    """A new table is made beside the others, though the search_path begins with another schema, such as the user's own."""
    with closing(postgresql(newest_postgres, 3)) as harness:
        own = f'{harness.schema}_own'
        harness.execute(f'CREATE SCHEMA {own}')
        with closing(connect(harness.url.replace(harness.schema, f'{own},{harness.schema}'), BackendOptions())) as backend:
            assert backend.open(SETTINGS, create=True) == harness.connect().open(SETTINGS, create=False)
        harness.execute(f'DROP SCHEMA {own}')


@pytest.mark.postgres
def test_tables_that_were_moved_to_another_schema(newest_postgres: PostgresServer) -> None:
    """Their triggers went with them, and run functions of the schema that they left: those are replaced all the same."""
    with closing(postgresql(newest_postgres, 3)) as harness, closing(PostgresqlHarness(newest_postgres)) as other:
        tables = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        harness.execute(*(f'ALTER TABLE {table} SET SCHEMA {other.schema}' for (table,) in harness.query(tables)))
        Namespace(other.connect()).join('c')
        functions = (
            'SELECT DISTINCT pronamespace::regnamespace::text FROM pg_proc WHERE oid IN (SELECT tgfoid FROM pg_trigger '
            "WHERE tgrelid = 'sync_token'::regclass)"
        )
        assert other.query(functions) == [(other.schema,)]


@pytest.mark.postgres
def test_a_schema_with_a_percent_sign(newest_postgres: PostgresServer) -> None:
    """The driver does not take it for a placeholder."""
    with closing(postgresql(newest_postgres, 3)) as harness:
        made, name = harness.schema, f'{harness.schema} 50%s'
        harness.execute(f'ALTER SCHEMA {made} RENAME TO "{name}"')
        url = harness.url.replace(made, quote(f'"{name}"'.replace(' ', '\\ ')))
        try:
            with closing(connect(url, BackendOptions(op_timeout_sec=120, bulk_timeout_sec=120))) as backend:
                assert backend.open(SETTINGS, create=True).settings == SETTINGS
        finally:
            harness.execute(f'ALTER SCHEMA "{name}" RENAME TO {made}')
