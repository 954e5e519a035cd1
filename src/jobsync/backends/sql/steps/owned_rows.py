"""Version 1 to 2: tokens without an owner leave ``token``, ``change`` logs commits, and ``state`` counts the ids of locks."""

from __future__ import annotations

from jobsync.backends.sql.steps import run
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['owned_rows']

BOTH = """
CREATE TABLE {p}unowned (token_id BIGINT NOT NULL PRIMARY KEY, target VARCHAR, home VARCHAR, version BIGINT NOT NULL,
    task_id VARCHAR, pattern VARCHAR);
CREATE TABLE {p}change (revision BIGINT NOT NULL, owner VARCHAR, target VARCHAR, home VARCHAR, version BIGINT NOT NULL,
    size BIGINT NOT NULL, numbers TEXT NOT NULL, members TEXT);
INSERT INTO {p}unowned (token_id, target, home, version, task_id, pattern)
    SELECT token_id, target, nullif(home, ''), version, task_id, pattern FROM {p}token WHERE node IS NULL OR node = '';
DELETE FROM {p}token WHERE node IS NULL OR node = '';
DROP INDEX {p}token_by_changed;
CREATE INDEX {p}token_pins ON {p}token (token_id) WHERE task_id IS NOT NULL;
ALTER TABLE {p}state ADD COLUMN last_lock BIGINT NOT NULL DEFAULT 0;
UPDATE {p}state SET builds_on = '[]';
"""

POSTGRESQL = """
ALTER TABLE {p}token ALTER node SET NOT NULL, ADD CHECK (node <> ''), SET (fillfactor = 85);
UPDATE {p}state SET last_lock = greatest(nextval(pg_get_serial_sequence('{p}lock', 'id')) - 1, (SELECT max(id) FROM {p}lock));
ALTER TABLE {p}lock ALTER id DROP IDENTITY, RESET (fillfactor);
DROP INDEX {p}claim_by_date, {p}claim_by_time, {p}audit_by_date, {p}audit_by_time;
CREATE INDEX {p}claim_by_date ON {p}claim USING brin (date);
CREATE INDEX {p}claim_by_time ON {p}claim USING brin (created_on);
CREATE INDEX {p}audit_by_date ON {p}audit USING brin (date);
CREATE INDEX {p}audit_by_time ON {p}audit USING brin (created_on);
"""

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
"""A role with rights on the table of tokens gets the same rights on the new ones, which are parts of what the table was."""

SQLITE = """
UPDATE {p}state SET last_lock = coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{p}lock'), 0);
"""
"""The next step makes the other tables again."""


def owned_rows(tx: SqlTransaction) -> None:
    """Run the step."""
    run(tx, BOTH)
    if tx.dialect.name == 'sqlite':
        run(tx, SQLITE)
    else:
        run(tx, POSTGRESQL)
        tx.execute_text(GRANT.replace('{p}', tx.tables.namespace).replace('%', '%%'))
