"""Version 1 to 2: what nobody owns leaves ``token``, commits are told in ``change``, and ``state`` counts the ids of locks."""

# ruff: noqa: S608 - the names are our own

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobsync.backends.sql.steps import run
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['owned_rows']

PART = """
INSERT INTO {p}unowned (token_id, target, home, version, task_id, pattern)
    SELECT token_id, target, nullif(home, ''), version, task_id, pattern FROM {p}token WHERE node IS NULL OR node = '';
DELETE FROM {p}token WHERE node IS NULL OR node = '';
ALTER TABLE {p}state ADD COLUMN last_lock BIGINT NOT NULL DEFAULT 0;
"""

POSTGRESQL = (
    """
CREATE TABLE {p}unowned (token_id BIGINT PRIMARY KEY, target VARCHAR, home VARCHAR, version BIGINT NOT NULL, task_id VARCHAR,
    pattern VARCHAR);
CREATE TABLE {p}change (revision BIGINT NOT NULL, owner VARCHAR, target VARCHAR, home VARCHAR, version BIGINT NOT NULL,
    size BIGINT NOT NULL, numbers TEXT NOT NULL, members TEXT);
"""
    + PART
    + """
ALTER TABLE {p}token ALTER node SET NOT NULL, ADD CHECK (node <> ''), SET (fillfactor = 85);
DROP INDEX {p}token_by_changed;
CREATE INDEX {p}token_pins ON {p}token (token_id) WHERE task_id IS NOT NULL;
UPDATE {p}state SET builds_on = '[]', last_lock =
    greatest(nextval(pg_get_serial_sequence('{p}lock', 'id')) - 1, (SELECT max(id) FROM {p}lock));
ALTER TABLE {p}lock ALTER id DROP IDENTITY, RESET (fillfactor);
DROP INDEX {p}claim_by_date, {p}claim_by_time, {p}audit_by_date, {p}audit_by_time;
CREATE INDEX {p}claim_by_date ON {p}claim USING brin (date);
CREATE INDEX {p}claim_by_time ON {p}claim USING brin (created_on);
CREATE INDEX {p}audit_by_date ON {p}audit USING brin (date);
CREATE INDEX {p}audit_by_time ON {p}audit USING brin (created_on);
"""
).split(';\n')

GRANT = """
DO $body$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT a.privilege_type AS may, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = '{p}token'::regclass AND a.grantee <> c.relowner
        AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON {p}unowned, {p}change TO %s', one.may, one.role);
    END LOOP;
END
$body$"""
"""Whoever may do something with the table of tokens may do it with the new ones: they are parts of what it was."""

SQLITE = (
    """
CREATE TABLE {p}unowned (token_id INTEGER NOT NULL, target VARCHAR, home VARCHAR, version BIGINT NOT NULL, task_id VARCHAR,
    pattern VARCHAR, PRIMARY KEY (token_id));
CREATE TABLE {p}change (revision BIGINT NOT NULL, owner VARCHAR, target VARCHAR, home VARCHAR, version BIGINT NOT NULL,
    size BIGINT NOT NULL, numbers TEXT NOT NULL, members TEXT);
"""
    + PART
    + """
DROP INDEX {p}token_by_changed;
ALTER TABLE {p}token RENAME TO {p}token_of_1;
CREATE TABLE {p}token (token_id INTEGER NOT NULL, node VARCHAR NOT NULL CHECK (node <> ''), target VARCHAR, home VARCHAR,
    version BIGINT DEFAULT '0' NOT NULL, changed BIGINT DEFAULT '0' NOT NULL, task_id VARCHAR, pattern VARCHAR,
    PRIMARY KEY (token_id));
INSERT INTO {p}token (token_id, node, target, home, version, changed, task_id, pattern)
    SELECT token_id, node, target, home, version, changed, task_id, pattern FROM {p}token_of_1;
DROP TABLE {p}token_of_1;
CREATE INDEX {p}token_pins ON {p}token (token_id) WHERE task_id IS NOT NULL;
UPDATE {p}state SET builds_on = '[]', last_lock = coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{p}lock'), 0);
"""
).split(';\n')

STATEMENTS: Mapping[str, Sequence[str]] = {'postgresql': [*POSTGRESQL, GRANT], 'sqlite': SQLITE}


def owned_rows(tx: SqlTransaction) -> None:
    """The step."""
    run(tx, STATEMENTS)
