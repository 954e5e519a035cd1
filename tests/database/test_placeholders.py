"""From the user's ``%s`` to the driver's."""

from __future__ import annotations

from typing import Any

import pytest

import jobsync.database as db
from jobsync.database.placeholders import prepared
from jobsync.errors import ConfigError


@pytest.mark.parametrize(
    ('sql', 'values', 'qmark', 'pyformat', 'out'),
    [
        ('SELECT %s', [1], 'SELECT ?', 'SELECT %s', [1]),
        ('a = %s AND b=%s', [1, None], 'a = ? AND b=?', 'a = %s AND b=%s', [1, None]),
        ('5 %% 2 = %s', [1], '5 % 2 = ?', '5 %% 2 = %s', [1]),
        ("n LIKE 'p-%%' AND a = %s", [1], "n LIKE 'p-%' AND a = ?", "n LIKE 'p-%%' AND a = %s", [1]),
        ("n LIKE 'p-%' AND a = %s", [1], "n LIKE 'p-%' AND a = ?", "n LIKE 'p-%%' AND a = %s", [1]),
        ("n = 'it''s %s' AND a = %s", [1], "n = 'it''s %s' AND a = ?", "n = 'it''s %%s' AND a = %s", [1]),
        ('"a%s" = %s', [1], '"a%s" = ?', '"a%%s" = %s', [1]),
        ("a = %s -- that's 5% of %s\n", [1], "a = ? -- that's 5% of %s\n", "a = %s -- that's 5%% of %%s\n", [1]),
        ("/* it's %s\n */ a = %s", [1], "/* it's %s\n */ a = ?", "/* it's %%s\n */ a = %s", [1]),
        (r"'\' || %s || '%s'", [1], r"'\' || ? || '%s'", r"'\' || %s || '%%s'", [1]),
        ('id IN %s AND a = %s', [(1, 2), 3], 'id IN (?, ?) AND a = ?', 'id IN (%s, %s) AND a = %s', [1, 2, 3]),
        ('id IN %s', [()], 'id IN (NULL) IS TRUE', 'id IN (NULL) IS TRUE', []),
        ('id not\nin %s', [()], 'id not\nin (NULL) IS NOT FALSE', 'id not\nin (NULL) IS NOT FALSE', []),
        ('id = ANY(%s)', [[1, 2]], 'id = ANY(?)', 'id = ANY(%s)', [[1, 2]]),
    ],
)
def test_prepared(sql: str, values: list[Any], qmark: str, pyformat: str, out: list[Any]) -> None:
    """A placeholder outside of quotes and comments is a value; a percent sign stays one on either driver."""
    assert prepared(sql, values, 'qmark') == (qmark, out)
    assert prepared(sql, values, 'pyformat') == (pyformat, out)


@pytest.mark.parametrize(
    ('sql', 'pyformat'),
    [
        (r"E'it\'s %s' || %s", r"E'it\'s %%s' || %s"),
        ("$a$ it's %s $b$ $a$ || %s", "$a$ it's %%s $b$ $a$ || %s"),
        ("/* a /* it's %s */ %s */ %s", "/* a /* it's %%s */ %%s */ %s"),
        ('/*/* /**/ %s */*/ %s', '/*/* /**/ %%s */*/ %s'),
        ('/* /* %s */ %s', '/* /* %%s */ %%s'),
        ('numbers[%s]', 'numbers[%s]'),
        ('-- %s\r %s', '-- %%s\r %s'),
    ],
)
def test_quotes_of_postgresql(sql: str, pyformat: str) -> None:
    """Comments may hold comments, strings may have escapes or dollars around them; brackets quote nothing."""
    values = [1] * (pyformat.count('%s') - pyformat.count('%%s'))
    assert prepared(sql, values, 'pyformat') == (pyformat, values)


@pytest.mark.parametrize(
    ('sql', 'qmark'),
    [
        ("[it's %s] = %s", "[it's %s] = ?"),
        ('`it"s %s` = %s', '`it"s %s` = ?'),
        ('`a``%s` = %s', '`a``%s` = ?'),
        ("'[' || %s || ']'", "'[' || ? || ']'"),
        ('/* /* %s */ %s', '/* /* %s */ ?'),
        ('%s /* %s', '? /* %s'),
        ("e'\\' || %s", "e'\\' || ?"),
    ],
)
def test_quotes_of_sqlite(sql: str, qmark: str) -> None:
    """Backticks and brackets quote names; a comment holds no other, and may go on to the end."""
    assert prepared(sql, [1], 'qmark') == (qmark, [1])


BOTH = [
    "SELECT '%s' WHERE %s = 1",
    'SELECT 1 AS "%s" WHERE %s = 1',
    'SELECT 1 /* %s */ WHERE %s = 1',
    'SELECT 1 -- %s\n WHERE %s = 1',
]
SQLITE = ['SELECT 1 AS [%s] WHERE %s = 1', 'SELECT 1 AS `%s` WHERE %s = 1', 'SELECT 1 /* /* %s */ WHERE %s = 1']
POSTGRESQL = [
    'SELECT 1 /* /* %s */ %s */ WHERE %s = 1',
    'SELECT (ARRAY[1, 2])[%s]',
    'SELECT $$%s$$ WHERE %s = 1',
    "SELECT E'\\'%s' WHERE %s = 1",
    'SELECT 1 -- %s\r WHERE %s = 1',
]


@pytest.mark.parametrize(
    ('store', 'sql'),
    [('sqlite', sql) for sql in BOTH + SQLITE]
    + [pytest.param('postgresql', sql, marks=pytest.mark.postgres) for sql in BOTH + POSTGRESQL],
    indirect=['store'],
)
def test_the_database_agrees(cn: db.Connection, sql: str) -> None:
    """The database finds the one placeholder where it is found here."""
    assert len(db.select(cn, sql, 1)) == 1


@pytest.mark.parametrize(
    ('sql', 'values', 'message'),
    [
        ('a = %s', [1, 2], '2 values for 1 placeholder'),
        ('a = %s AND b = %s', [1], '1 value for more placeholders than that: '),
        ('a = %s AND b = %s', [(1, 2)], r'1 value for more placeholders than that \(values follow the statement one by one'),
        ('a = %s AND b = %s', [[1, 2]], r'as in select\(cn, sql, 1, 2\); a tuple is one value, for IN'),
        ('a = 1', [{'a': 1}], r'1 value for 0 placeholders \(values follow'),
        ("a = '%s'", [1], '1 value for 0 placeholders'),
        ('a = ?', [1], '1 value for 0 placeholders; a placeholder is %s, outside of quotes: '),
        ('5 % 2 = %s', [1], "'% ' in a statement with values"),
        ('a = %(name)s', [1], r"'%\(' in a statement"),
        ('a = %s AND b = %', [1], "'%' in a statement"),
    ],
)
def test_what_does_not_go_together(sql: str, values: list[Any], message: str) -> None:
    """Neither a value nor a placeholder is passed over, and a percent sign by itself is refused."""
    with pytest.raises(ConfigError, match=message):
        prepared(sql, values, 'pyformat')
