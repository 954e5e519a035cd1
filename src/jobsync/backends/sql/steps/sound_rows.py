"""Version 2 to 3: nodes say whether they may lead, and ``state`` keeps the longest timeout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobsync.backends.sql.steps import run
from jobsync.backends.sql.store import Transaction

__all__ = ['sound_rows']

POSTGRESQL = """
ALTER TABLE {p}node ADD COLUMN candidate BOOLEAN NOT NULL DEFAULT true;
ALTER TABLE {p}node ALTER candidate DROP DEFAULT;
ALTER TABLE {p}state ADD COLUMN longest_timeout_sec DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE {p}state ALTER longest_timeout_sec DROP DEFAULT;
UPDATE {p}state SET longest_timeout_sec = coalesce((SELECT max(timeout_sec) FROM {p}node), 0);
ALTER TABLE {p}change DROP COLUMN size;
"""

SQLITE = """
ALTER TABLE {p}node ADD COLUMN candidate BOOLEAN NOT NULL DEFAULT 1;
ALTER TABLE {p}state ADD COLUMN longest_timeout_sec FLOAT NOT NULL DEFAULT 0;
UPDATE {p}state SET builds_on = '[]', longest_timeout_sec = coalesce((SELECT max(timeout_sec) FROM {p}node), 0);
DROP TABLE {p}change;
CREATE TABLE {p}change (revision BIGINT NOT NULL, owner VARCHAR, target VARCHAR, home VARCHAR, version BIGINT NOT NULL,
    numbers TEXT NOT NULL, members TEXT);
"""

STATEMENTS: Mapping[str, Sequence[str]] = {'postgresql': POSTGRESQL.split(';\n'), 'sqlite': SQLITE.split(';\n')}


def sound_rows(tx: Transaction) -> None:
    """The step."""
    run(tx, STATEMENTS)
