"""From the user's ``%s`` to the driver's."""

from __future__ import annotations

from typing import Any

import pytest

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
        (r"E'it\'s %s' || %s", [1], r"E'it\'s %s' || ?", r"E'it\'s %%s' || %s", [1]),
        (r"'\' || %s || '%s'", [1], r"'\' || ? || '%s'", r"'\' || %s || '%%s'", [1]),
        ("$a$ it's %s $b$ $a$ || %s", [1], "$a$ it's %s $b$ $a$ || ?", "$a$ it's %%s $b$ $a$ || %s", [1]),
        ('id IN %s AND a = %s', [(1, 2), 3], 'id IN (?, ?) AND a = ?', 'id IN (%s, %s) AND a = %s', [1, 2, 3]),
        ('id IN %s', [()], 'id IN (NULL)', 'id IN (NULL)', []),
        ('id = ANY(%s)', [[1, 2]], 'id = ANY(?)', 'id = ANY(%s)', [[1, 2]]),
    ],
)
def test_prepared(sql: str, values: list[Any], qmark: str, pyformat: str, out: list[Any]) -> None:
    """A placeholder outside of quotes and comments is a value; a percent sign stays one on either driver."""
    assert prepared(sql, values, 'qmark') == (qmark, out)
    assert prepared(sql, values, 'pyformat') == (pyformat, out)


@pytest.mark.parametrize(
    ('sql', 'values', 'message'),
    [
        ('a = %s', [1, 2], '2 values for 1 placeholders'),
        ('a = %s AND b = %s', [1], '1 values for more placeholders'),
        ("a = '%s'", [1], '1 values for 0 placeholders'),
        ('5 % 2 = %s', [1], "'% ' in a statement with values"),
        ('a = %(name)s', [1], r"'%\(' in a statement"),
        ('a = %s AND b = %', [1], "'%' in a statement"),
    ],
)
def test_what_does_not_go_together(sql: str, values: list[Any], message: str) -> None:
    """Neither a value nor a placeholder is passed over, and a percent sign by itself is refused."""
    with pytest.raises(ConfigError, match=message):
        prepared(sql, values, 'pyformat')
