"""The conditions that stored values must meet to be readable, in the SQL of each dialect.

The tables refuse a value that does not meet its condition. A condition may have been dropped, or be newer than a row. So readings
test each row again, and leave out what cannot be read: rule R9.
"""

from __future__ import annotations

import functools

from jobsync.backends._common.values import LONGEST_TIMEOUT_SEC, MOST_WEIGHT

__all__ = [
    'NODE_TYPES',
    'is_cost',
    'is_day',
    'is_expiry',
    'is_list_of_numbers',
    'is_list_of_patterns',
    'is_list_of_texts',
    'is_moment',
    'is_readable',
    'is_text',
    'is_timeout',
    'is_weight',
    'text_bytes',
]

FIRST_MOMENT, LAST_MOMENT = '0001-01-02 00:00:00', '9999-12-31 00:00:00'
"""A moment between these is one in Python too, in every timezone."""
UNKNOWN = '\N{REPLACEMENT CHARACTER}'


def is_moment(column: str, dialect: str) -> str:
    """Return the condition that a column holds a moment which Python can have."""
    if dialect == 'postgresql':
        return f"{column} BETWEEN '{FIRST_MOMENT}+00' AND '{LAST_MOMENT}+00'"
    day = f'substr({column}, 1, 10)'
    within = f"BETWEEN '{FIRST_MOMENT[:10]}' AND '{LAST_MOMENT[:10]}'"
    return (
        f"(typeof({column}) = 'text' AND {day} IS date({day}) AND {column} {within} "
        f"AND datetime({column}) IS NOT NULL AND substr({column}, 12, 2) < '24')"
    )


def is_day(column: str, dialect: str) -> str:
    """Return the condition that a column holds a day which Python can have."""
    if dialect == 'postgresql':
        return f"{column} BETWEEN '0001-01-01' AND '9999-12-31'"
    return f"({column} IS date({column}) AND {column} >= '0001-01-01')"


def is_number(column: str, dialect: str, least: str, most: int) -> str:
    """Return the condition that a column holds a number within these bounds, which is neither infinite nor NaN."""
    within = f'{column} {least} AND {column} <= {most}'
    return within if dialect == 'postgresql' else f"(typeof({column}) IN ('real', 'integer') AND {within})"


def is_list_of_numbers(column: str, dialect: str) -> str:
    """Return the condition that a column holds a JSON list of whole numbers, and nothing that only resembles one."""
    if dialect == 'postgresql':
        number = '(0|[1-9][0-9]*)'
        return rf"{column} ~ '^\[({number}(, ?{number})*)?\]$'"
    return f"(json_valid({column}) AND {column} GLOB '[[]*]' AND substr({column}, 2, length({column}) - 2) NOT GLOB '*[^0-9, ]*')"


def is_list_of_texts(column: str, dialect: str) -> str:
    """Return the condition that a column holds a JSON list of texts: on SQLite, that its first element is one, if it has any."""
    if dialect == 'postgresql':
        character = r"""([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))"""
        return rf'''{column} ~ '^\s*\[\s*("{character}*"(\s*,\s*"{character}*")*)?\s*\]\s*$''' + "'"
    kind = f"json_type({column}) = 'array' AND coalesce(json_type({column}, '$[0]'), 'text') = 'text'"
    return f'CASE WHEN json_valid({column}) THEN {kind} ELSE 0 END'


def is_list_of_patterns(column: str, dialect: str) -> str:
    """Return the condition that a column holds a JSON list of one text or more."""
    place = 'strpos' if dialect == 'postgresql' else 'instr'
    return f"""{is_list_of_texts(column, dialect)} AND {place}({column}, '"') > 0"""


def is_expiry(column: str, dialect: str) -> str:
    """Return the condition that a column holds a moment, or 'infinity' where there is one, which means never."""
    moment = is_moment(column, dialect)
    return f"({moment} OR {column} = 'infinity')" if dialect == 'postgresql' else moment


def text_bytes(text: str, dialect: str) -> str:
    """Return what ``is_text`` compares, in SQL: the bytes of a text without U+FFFD; null where every text is in UTF-8."""
    return 'NULL' if dialect == 'postgresql' else f"length(CAST(replace({text}, char({ord(UNKNOWN)}), '') AS BLOB))"


def is_text(found: str, text_bytes: int | None) -> bool:
    """Return whether a text was read as it is stored. One in another encoding has U+FFFD in the place of what is no UTF-8.

    Its row could not be found again by it, and two texts could become one.
    """
    return text_bytes is None or len(found.replace(UNKNOWN, '').encode()) == text_bytes


is_weight = functools.partial(is_number, least='>= 0', most=MOST_WEIGHT)
is_cost = functools.partial(is_number, least='> 0', most=MOST_WEIGHT)
is_timeout = functools.partial(is_number, least='> 0', most=LONGEST_TIMEOUT_SEC)

NODE_TYPES = {
    'text': ('name', 'incarnation', 'host'),
    'integer': ('heartbeat', 'seen', 'seen_stamp', 'pid', 'candidate', 'stalled'),
}


def is_readable(node: str, dialect: str) -> str:
    """Return the condition that a row of nodes makes sense, apart from its weight and its times, which may be replaced."""
    numbers = is_list_of_numbers(f'{node}.holding', dialect)
    texts = is_list_of_texts(f'{node}.replaces', dialect)
    state = f"{node}.state IN ('joined', 'left')"
    if dialect == 'postgresql':
        return f'({state} AND {numbers} AND {texts})'
    typed = ' AND '.join(f"typeof({node}.{column}) = '{kind}'" for kind, columns in NODE_TYPES.items() for column in columns)
    others = f"NOT EXISTS (SELECT 1 FROM json_each({node}.replaces) WHERE type <> 'text')"  # noqa: S608 - a name of our own
    return f'({state} AND {typed} AND {numbers} AND CASE WHEN {texts} THEN {others} ELSE 0 END)'
