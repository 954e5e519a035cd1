"""PostgreSQL's triggers: they notice manual edits, and announce each new revision.

Our own transactions that change nodes, tokens, locks or items set ``jobsync.writer`` for their duration. A heartbeat does not: it
writes none of the columns that the trigger on nodes watches. A manual edit raises the revision once for each transaction and
table, not once for each row, because every raise leaves a dead version of the one row of ``state`` behind.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobsync.backends.sql.schema import Tables

__all__ = ['CHANNEL', 'CONCERNED', 'FUNCTIONS', 'WRITER', 'drops_of_triggers', 'functions_and_triggers']

WRITER = 'jobsync.writer'
CONCERNED = 'jobsync.concerned'
CHANNEL = 'jobsync_'
"""Followed by the oid of the table ``state``: namespaces of one name in two schemas do not wake each other."""

FULLEST = 0.9
"""How full the server's queue of announcements may be for another one: what is left is for those under way at this moment."""

FUNCTIONS = ('take_turn', 'by_hand', 'announce', 'keep_pins', 'keep_out')

NODE_COLUMNS = 'name, created_on, state, incarnation, replaces, weight, timeout_sec'

HERE = "PERFORM set_config('search_path', format('%I, pg_temp', TG_TABLE_SCHEMA), true);"
"""The tables are those beside the one that is changed, until the function ends (its own ``SET search_path`` sees to that)."""

# t=0  an operator, who has stopped all workers, renames the schema jobs, or moves the tables to another one (SET SCHEMA)
# t=1  a statement of the operator's deletes rows: with jobs in the functions, it would be refused, or change a new jobs' state
TAKE_TURN = """
CREATE OR REPLACE FUNCTION {schema}.{prefix}take_turn() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
BEGIN
    {here}
    -- Our own transactions lock the state first, and rows after it: in another order each would wait for the other.
    PERFORM 1 FROM {prefix}state FOR UPDATE;
    RETURN NULL;
END
$body$"""

BY_HAND = """
CREATE OR REPLACE FUNCTION {schema}.{prefix}by_hand() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    here CONSTANT text := TG_RELID || ':' || txid_current();
BEGIN
    {here}
    IF kind = 'token' AND TG_OP IN ('UPDATE', 'DELETE') THEN
        -- Without its pin's row a task would follow its hash, while the pin's holder may still be busy with it.
        IF OLD.task_id IS NOT NULL AND TG_OP = 'DELETE' THEN
            RETURN NULL;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            IF OLD.task_id IS NOT NULL AND (NEW.token_id, NEW.task_id) IS DISTINCT FROM (OLD.token_id, OLD.task_id) THEN
                RETURN NULL;
            END IF;
        END IF;
    END IF;
    -- The token would be in both tables. With its row here deleted later, it would pass for unowned while a node may hold it.
    IF kind = 'token' AND TG_OP IN ('INSERT', 'UPDATE') THEN
        IF EXISTS (SELECT FROM {prefix}unowned WHERE token_id = NEW.token_id) THEN
            RAISE EXCEPTION 'token % has no owner, and only the leader may give it to a node', NEW.token_id;
        END IF;
    END IF;
    IF coalesce(current_setting('jobsync.noted_' || kind, true), '') <> here THEN
        UPDATE {prefix}state SET revision = revision + 1, stamp = floor(random() * 4611686018427387000)::bigint + 1;
        IF kind = 'token' THEN
            UPDATE {prefix}state SET version = revision, version_stamp = stamp, builds_on = '[]';
        ELSIF kind IN ('lock', 'item') THEN
            UPDATE {prefix}state SET locks_revision = revision;
        END IF;
        PERFORM set_config('jobsync.noted_' || kind, here, true);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RETURN NULL;
    END IF;
    IF kind = 'token' THEN
        IF TG_OP = 'INSERT' THEN
            NEW.version := (SELECT revision FROM {prefix}state);
        ELSIF NEW.node IS DISTINCT FROM OLD.node THEN
            NEW.version := (SELECT revision FROM {prefix}state);
        END IF;
    ELSIF kind IN ('lock', 'item') THEN
        IF TG_OP = 'INSERT' THEN
            UPDATE {prefix}state SET last_lock = greatest(last_lock + 1, NEW.id) RETURNING last_lock INTO NEW.id;
        END IF;
        NEW.token_id := NEW.id + (SELECT total_tokens FROM {prefix}state);
        NEW.created_at := coalesce(NEW.created_at, clock_timestamp());
        IF TG_OP = 'INSERT' THEN
            NEW.patterns := coalesce(NEW.patterns, json_build_array(NEW.node_pattern)::text);
        ELSIF NEW.patterns IS NOT DISTINCT FROM OLD.patterns AND NEW.node_pattern <> OLD.node_pattern THEN
            NEW.patterns := json_build_array(NEW.node_pattern)::text;
        END IF;
    END IF;
    RETURN NEW;
END
$body$"""

ANNOUNCE = """
CREATE OR REPLACE FUNCTION {schema}.{prefix}announce() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    -- All databases of a server share one queue. While it is full (a session of any program that listens may keep it so, by a
    -- transaction that it leaves open), NOTIFY fails, and with it our transaction: no node could join, leave or be replaced.
    -- Without the announcement nodes read the revision with their next heartbeat.
    IF pg_notification_queue_usage() < {fullest} THEN
        PERFORM pg_notify('{channel}' || TG_RELID, NEW.revision::text || coalesce(current_setting('{concerned}', true), ''));
    END IF;
    RETURN NULL;
END
$body$"""

KEEP_PINS = """
CREATE OR REPLACE FUNCTION {schema}.{prefix}keep_pins() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'the rows of pins must stay: use DELETE FROM %, which leaves them', TG_TABLE_NAME;
END
$body$"""

KEEP_OUT = """
CREATE OR REPLACE FUNCTION {schema}.{prefix}keep_out() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '% is for jobsync alone to write, unlike {prefix}token, {prefix}lock, {prefix}item and {prefix}node',
        TG_TABLE_NAME;
END
$body$"""

ROWS = """
CREATE TRIGGER {prefix}{name} BEFORE {event} ON {schema}.{prefix}{kind} FOR EACH ROW
WHEN (coalesce(current_setting('{writer}', true), '') <> '{prefix}') EXECUTE FUNCTION {schema}.{prefix}{function}"""
STATEMENT = """
CREATE TRIGGER {prefix}{kind}_turn BEFORE {event} ON {schema}.{prefix}{kind} FOR EACH STATEMENT
WHEN (coalesce(current_setting('{writer}', true), '') <> '{prefix}') EXECUTE FUNCTION {schema}.{prefix}take_turn()"""
ALL_ROWS = """
CREATE TRIGGER {prefix}{kind}_truncated BEFORE TRUNCATE ON {schema}.{prefix}{kind} FOR EACH STATEMENT
EXECUTE FUNCTION {schema}.{prefix}{function}"""
REVISION = """
CREATE TRIGGER {prefix}revised AFTER UPDATE OF revision ON {schema}.{prefix}state FOR EACH ROW
WHEN (OLD.revision <> NEW.revision) EXECUTE FUNCTION {schema}.{prefix}announce()"""
ALWAYS = 'ALTER TABLE {schema}.{prefix}state ENABLE ALWAYS TRIGGER {prefix}revised'
"""A role or a database with session_replication_role = replica, which switches triggers off, announces its changes too."""

TRIGGERS = """
SELECT 'DROP TRIGGER ' || quote_ident(tgname) || ' ON ' || tgrelid::regclass
FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_class ON pg_class.oid = tgrelid JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
WHERE relname IN ({tables}) AND pg_catalog.pg_table_is_visible(tgrelid) AND proname IN ({functions})
"""


def drops_of_triggers(tables: Tables) -> str:
    """Return the query for the statements that drop the triggers of tables."""
    functions = [tables.namespace + name for name in FUNCTIONS]
    return TRIGGERS.format(tables=', '.join(map(repr, tables.names().values())), functions=', '.join(map(repr, functions)))


def functions_and_triggers(tables: Tables, schema: str) -> Iterator[str]:
    """Yield the statements that create the functions and triggers. ``schema`` is quoted already; the prefix needs no quotes."""
    fixed = {
        'schema': schema,
        'prefix': tables.namespace,
        'writer': WRITER,
        'channel': CHANNEL,
        'concerned': CONCERNED,
        'fullest': FULLEST,
        'here': HERE,
    }
    for template in (TAKE_TURN, BY_HAND, ANNOUNCE, KEEP_PINS, KEEP_OUT, REVISION, ALWAYS):
        yield template.format(**fixed)
    for kind, columns in (('node', f' OF {NODE_COLUMNS}'), ('token', ''), ('lock', ''), ('item', '')):
        event = f'INSERT OR DELETE OR UPDATE{columns}'
        by_hand = f"by_hand('{kind}')"
        yield STATEMENT.format(**fixed, kind=kind, event=event)
        yield ROWS.format(**fixed, name=f'{kind}_by_hand', kind=kind, event=event, function=by_hand)
        yield ALL_ROWS.format(**fixed, kind=kind, function='keep_pins()' if kind == 'token' else by_hand)
    for kind in ('unowned', 'change'):
        event = 'INSERT OR DELETE OR UPDATE'
        yield ROWS.format(**fixed, name=f'{kind}_kept', kind=kind, event=event, function='keep_out()')
        yield ALL_ROWS.format(**fixed, kind=kind, function='keep_out()')
