"""Version 2 to 3: what cannot be read is refused, nodes say whether they may lead, and ``state`` keeps the longest timeout.

Rows that cannot be read are put right first, or taken away where they say nothing: with them no node could work.
"""

# ruff: noqa: S608 - the names are our own

from __future__ import annotations

from jobsync.backends.sql.steps import run
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['sound_rows']

NUMBERS = r'^\[((0|[1-9][0-9]*)(, ?(0|[1-9][0-9]*))*)?\]$'
TEXT = r'"([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
TEXTS = rf'^\s*\[\s*({TEXT}(\s*,\s*{TEXT})*)?\s*\]\s*$'


def between(column: str) -> str:
    """Return the condition of PostgreSQL that a column holds a moment."""
    return f"{column} BETWEEN '0001-01-02 00:00:00+00' AND '9999-12-31 00:00:00+00'"


POSTGRESQL = f"""
ALTER TABLE {{p}}node ADD COLUMN candidate BOOLEAN NOT NULL DEFAULT true;
ALTER TABLE {{p}}node ALTER candidate DROP DEFAULT;
DELETE FROM {{p}}node WHERE holding !~ '{NUMBERS}' OR replaces !~ '{TEXTS}';
UPDATE {{p}}node SET weight = 1 WHERE NOT (weight >= 0 AND weight <= 1000000);
UPDATE {{p}}node SET timeout_sec = 15 WHERE NOT (timeout_sec > 0 AND timeout_sec <= 604800);
UPDATE {{p}}node SET created_on = clock_timestamp() WHERE NOT {between('created_on')};
UPDATE {{p}}node SET last_heartbeat = NULL WHERE NOT {between('last_heartbeat')};
ALTER TABLE {{p}}node
    ADD CONSTRAINT created_on_is_sound CHECK ({between('created_on')}),
    ADD CONSTRAINT last_heartbeat_is_sound CHECK ({between('last_heartbeat')}),
    ADD CONSTRAINT holding_is_sound CHECK (holding ~ '{NUMBERS}'),
    ADD CONSTRAINT replaces_is_sound CHECK (replaces ~ '{TEXTS}'),
    ADD CONSTRAINT weight_is_sound CHECK (weight >= 0 AND weight <= 1000000),
    ADD CONSTRAINT timeout_sec_is_sound CHECK (timeout_sec > 0 AND timeout_sec <= 604800);
UPDATE {{p}}lock SET created_at = NULL WHERE NOT {between('created_at')};
UPDATE {{p}}lock SET expires_at = CASE WHEN expires_at > now() THEN timestamptz 'infinity' ELSE '0001-01-02 00:00:00+00' END
    WHERE NOT ({between('expires_at')} OR expires_at = 'infinity');
UPDATE {{p}}lock SET patterns = json_build_array(node_pattern)::text
    WHERE NOT (patterns ~ '{TEXTS}' AND strpos(patterns, '"') > 0);
ALTER TABLE {{p}}lock
    ADD CONSTRAINT created_at_is_sound CHECK ({between('created_at')}),
    ADD CONSTRAINT expires_at_is_sound CHECK (({between('expires_at')} OR expires_at = 'infinity')),
    ADD CONSTRAINT patterns_is_sound CHECK (patterns ~ '{TEXTS}' AND strpos(patterns, '"') > 0);
ALTER TABLE {{p}}rebalance ADD CONSTRAINT triggered_at_is_sound CHECK ({between('triggered_at')}) NOT VALID;
ALTER TABLE {{p}}claim
    ADD CONSTRAINT date_is_sound CHECK (date BETWEEN '0001-01-01' AND '9999-12-31') NOT VALID,
    ADD CONSTRAINT created_on_is_sound CHECK ({between('created_on')}) NOT VALID;
ALTER TABLE {{p}}audit
    ADD CONSTRAINT date_is_sound CHECK (date BETWEEN '0001-01-01' AND '9999-12-31') NOT VALID,
    ADD CONSTRAINT created_on_is_sound CHECK ({between('created_on')}) NOT VALID;
ALTER TABLE {{p}}state ADD COLUMN longest_timeout_sec DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE {{p}}state ALTER longest_timeout_sec DROP DEFAULT;
UPDATE {{p}}state SET longest_timeout_sec = coalesce((SELECT max(timeout_sec) FROM {{p}}node), 0);
ALTER TABLE {{p}}change DROP COLUMN size
"""
"""Old rows of the trails are not looked at, for there may be very many: readings leave out those that cannot be read."""


def is_moment(column: str) -> str:
    """Return the condition of SQLite that a column holds a moment."""
    day = f'substr({column}, 1, 10)'
    return (
        f"(typeof({column}) = 'text' AND {day} IS date({day}) AND {column} BETWEEN '0001-01-02' AND '9999-12-31' "
        f"AND datetime({column}) IS NOT NULL AND substr({column}, 12, 2) < '24')"
    )


def is_typed(kind: str, *columns: str) -> str:
    """Return the constraints of SQLite that columns hold values of a type."""
    return ',\n    '.join(f"CONSTRAINT {column}_is_sound CHECK (typeof({column}) = '{kind}')" for column in columns)


def anew(table: str, columns: str, constraints: str, **changed: str) -> str:
    """Return the statements of SQLite that make a table again, with its rows; ``changed`` has other values for columns."""
    names = [line.split()[0] for line in columns.strip().split(',\n')]
    values = [changed.get(name, name) for name in names]
    where = changed.get('where', '1')
    return f"""
ALTER TABLE {{p}}{table} RENAME TO {{p}}{table}_of_2;
CREATE TABLE {{p}}{table} ({columns.strip()},
    {constraints.strip()});
INSERT INTO {{p}}{table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {{p}}{table}_of_2 WHERE {where};
DROP TABLE {{p}}{table}_of_2;"""


NUMBERS_LISTED = "json_valid(holding) AND holding GLOB '[[]*]' AND substr(holding, 2, length(holding) - 2) NOT GLOB '*[^0-9, ]*'"


def listed(column: str) -> str:
    """Return the condition of SQLite that a column holds a list of texts."""
    kind = f"json_type({column}) = 'array' AND coalesce(json_type({column}, '$[0]'), 'text') = 'text'"
    return f'CASE WHEN json_valid({column}) THEN {kind} ELSE 0 END'


PATTERNS_LISTED = f"""{listed('patterns')} AND instr(patterns, '"') > 0"""

TRAIL = """
    item VARCHAR NOT NULL,
    date TEXT NOT NULL,
    node VARCHAR NOT NULL,
    created_on TEXT NOT NULL
"""
TRAIL_CONSTRAINTS = f"""
    PRIMARY KEY (item, date, node),
    CONSTRAINT date_is_sound CHECK ((date IS date(date) AND date >= '0001-01-01')),
    CONSTRAINT created_on_is_sound CHECK ({is_moment('created_on')})
"""


def trail(name: str) -> str:
    """Return the statements of SQLite that make a trail again."""
    sound = f"date IS date(date) AND date >= '0001-01-01' AND {is_moment('created_on')}"
    return f"""
DROP INDEX {{p}}{name}_by_date;
DROP INDEX {{p}}{name}_by_time;{anew(name, TRAIL, TRAIL_CONSTRAINTS, where=sound)}
CREATE INDEX {{p}}{name}_by_date ON {{p}}{name} (date);
CREATE INDEX {{p}}{name}_by_time ON {{p}}{name} (created_on);"""


SQLITE = ''.join(
    [
        anew(
            'node',
            """
    name VARCHAR NOT NULL,
    created_on TEXT NOT NULL,
    last_heartbeat TEXT,
    state VARCHAR NOT NULL,
    incarnation VARCHAR NOT NULL,
    heartbeat BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    seen_stamp BIGINT NOT NULL,
    holding TEXT NOT NULL,
    replaces TEXT NOT NULL,
    weight FLOAT NOT NULL,
    timeout_sec FLOAT NOT NULL,
    host VARCHAR NOT NULL,
    pid BIGINT NOT NULL,
    candidate BOOLEAN NOT NULL
""",
            f"""
    PRIMARY KEY (name),
    CHECK (state IN ('joined', 'left')),
    CONSTRAINT created_on_is_sound CHECK ({is_moment('created_on')}),
    CONSTRAINT last_heartbeat_is_sound CHECK (last_heartbeat IS NULL OR {is_moment('last_heartbeat')}),
    CONSTRAINT holding_is_sound CHECK (({NUMBERS_LISTED})),
    CONSTRAINT replaces_is_sound CHECK ({listed('replaces')}),
    CONSTRAINT weight_is_sound CHECK ((typeof(weight) IN ('real', 'integer') AND weight >= 0 AND weight <= 1000000)),
    CONSTRAINT timeout_sec_is_sound
        CHECK ((typeof(timeout_sec) IN ('real', 'integer') AND timeout_sec > 0 AND timeout_sec <= 604800)),
    {is_typed('text', 'name', 'incarnation', 'host')},
    {is_typed('integer', 'heartbeat', 'seen', 'seen_stamp', 'pid', 'candidate')}
""",
            candidate='1',
            created_on=f"CASE WHEN {is_moment('created_on')} THEN created_on ELSE strftime('%Y-%m-%d %H:%M:%f', 'now') END",
            last_heartbeat=f'CASE WHEN {is_moment("last_heartbeat")} THEN last_heartbeat END',
            weight="CASE WHEN typeof(weight) <> 'text' AND weight BETWEEN 0 AND 1000000 THEN weight ELSE 1 END",
            timeout_sec="CASE WHEN typeof(timeout_sec) <> 'text' AND timeout_sec > 0 AND timeout_sec <= 604800 "
            'THEN timeout_sec ELSE 15 END',
            where=f"{NUMBERS_LISTED} AND {listed('replaces')} AND typeof(heartbeat) = 'integer' AND typeof(seen) = 'integer' "
            "AND typeof(seen_stamp) = 'integer' AND typeof(pid) = 'integer' AND typeof(name) = 'text' "
            "AND typeof(incarnation) = 'text' AND typeof(host) = 'text'",
        ),
        '\nDROP INDEX {p}token_pins;',
        anew(
            'token',
            """
    token_id INTEGER NOT NULL,
    node VARCHAR NOT NULL CHECK (node <> ''),
    target VARCHAR,
    home VARCHAR,
    version BIGINT DEFAULT '0' NOT NULL,
    changed BIGINT DEFAULT '0' NOT NULL,
    task_id VARCHAR,
    pattern VARCHAR
""",
            f"""
    PRIMARY KEY (token_id),
    {is_typed('integer', 'version', 'changed')},
    {is_typed('text', 'node')}
""",
            where="typeof(version) = 'integer' AND typeof(changed) = 'integer' AND typeof(node) = 'text'",
        ),
        '\nCREATE INDEX {p}token_pins ON {p}token (token_id) WHERE task_id IS NOT NULL;',
        anew(
            'lock',
            """
    id INTEGER NOT NULL,
    token_id BIGINT,
    task_id VARCHAR NOT NULL,
    node_pattern VARCHAR NOT NULL,
    patterns TEXT,
    reason VARCHAR,
    created_by VARCHAR DEFAULT '' NOT NULL,
    created_at TEXT,
    expires_at TEXT,
    registered BIGINT DEFAULT '0' NOT NULL
""",
            f"""
    PRIMARY KEY (id),
    UNIQUE (task_id),
    CONSTRAINT created_at_is_sound CHECK (created_at IS NULL OR {is_moment('created_at')}),
    CONSTRAINT expires_at_is_sound CHECK (expires_at IS NULL OR {is_moment('expires_at')}),
    CONSTRAINT patterns_is_sound CHECK (patterns IS NULL OR {PATTERNS_LISTED}),
    {is_typed('text', 'task_id', 'node_pattern', 'created_by')},
    {is_typed('integer', 'registered')}
""",
            created_at=f'CASE WHEN {is_moment("created_at")} THEN created_at END',
            expires_at=f'CASE WHEN {is_moment("expires_at")} THEN expires_at END',
            patterns=f'CASE WHEN {PATTERNS_LISTED} THEN patterns ELSE json_array(node_pattern) END',
            where="typeof(task_id) = 'text' AND typeof(node_pattern) = 'text' AND typeof(created_by) = 'text' "
            "AND typeof(registered) = 'integer'",
        ),
        anew(
            'rebalance',
            """
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    triggered_at TEXT NOT NULL,
    trigger_reason VARCHAR NOT NULL,
    leader_node VARCHAR NOT NULL,
    nodes_before BIGINT NOT NULL,
    nodes_after BIGINT NOT NULL,
    tokens_moved BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL
""",
            f'CONSTRAINT triggered_at_is_sound CHECK ({is_moment("triggered_at")})',
            where=is_moment('triggered_at'),
        ),
        trail('claim'),
        trail('audit'),
        """
ALTER TABLE {p}state ADD COLUMN longest_timeout_sec FLOAT NOT NULL DEFAULT 0;
UPDATE {p}state SET builds_on = '[]', longest_timeout_sec = coalesce((SELECT max(timeout_sec) FROM {p}node), 0);
DROP TABLE {p}change;
CREATE TABLE {p}change (
    revision BIGINT NOT NULL,
    owner VARCHAR,
    target VARCHAR,
    home VARCHAR,
    version BIGINT NOT NULL,
    numbers TEXT NOT NULL,
    members TEXT
);
""",
    ]
)
"""Conditions cannot be added to a table: it is made again. Rows of the trails that cannot be read are dropped."""

STATEMENTS = {'postgresql': POSTGRESQL.split(';\n'), 'sqlite': SQLITE.split(';\n')}


def sound_rows(tx: SqlTransaction) -> None:
    """The step."""
    run(tx, STATEMENTS)
