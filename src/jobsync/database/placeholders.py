"""From the user's ``%s`` to the placeholders of a driver.

psycopg takes ``%s`` itself, but also inside quotes and comments, and refuses a lone percent sign there; sqlite3 takes ``?``.
Both get the statement rewritten from its parts, so that one statement works on both. Quotes and comments differ: ``a[%s]`` is an
element of an array on PostgreSQL, and ``[%s]`` a name on SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jobsync._core.counting import counted
from jobsync.database.row_filter import RowFilter
from jobsync.errors import ConfigError

__all__ = ['prepared']

_POSTGRESQL = re.compile(
    r"""
    (?<![\w$]) [eE]'(?:[^'\\]|\\.|'')*'     # with escapes
  | '(?:[^']|'')*'
  | "(?:[^"]|"")*"
  | --[^\n\r]*
  | (?<![\w$]) (?P<dollar> \$ (?:[^\W\d]\w*)? \$) .*? (?P=dollar)
  | (?P<nested> /\*)
  | (?P<percent> %.?)
    """,
    re.VERBOSE | re.DOTALL,
)
"""A quoted or commented part, the start of a comment that may have comments in it, or a percent sign."""
_SQLITE = re.compile(
    r"""
    '(?:[^']|'')*'
  | "(?:[^"]|"")*"
  | `(?:[^`]|``)*`                          # as MySQL quotes names
  | \[[^\]]*\]                              # as SQL Server does
  | --[^\n]*
  | /\*.*?(?:\*/|\Z)
  | (?P<nested> (?!))                       # comments hold no others here
  | (?P<percent> %.?)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN = re.compile(r'\b(?P<negated>NOT\s+)?IN\s*\Z', re.IGNORECASE)
_COMMENT_EDGE = re.compile(r'/\*|\*/')


def prepared(sql: str, values: Sequence[Any], paramstyle: str) -> tuple[str, list[Any]]:
    """Return the statement and its values for a driver of this DB-API ``paramstyle``.

    A tuple becomes ``(…)`` with a placeholder for each member, and a ``RowFilter`` becomes its condition.

    Raises ``ConfigError`` if placeholders and values do not match.
    """
    part, mark, percent = (_SQLITE, '?', '%') if paramstyle == 'qmark' else (_POSTGRESQL, '%s', '%%')
    given, out, written, end = list(values), list[Any](), list[str](), 0
    while found := part.search(sql, end):
        written.append(sql[end : found.start()])
        end = _comment_end(sql, found.end()) if found['nested'] else found.end()
        match found['percent']:
            case None:
                written.append(sql[found.start() : end].replace('%%', '%').replace('%', percent))
            case '%%':
                written.append(percent)
            case '%s':
                if not given:
                    raise ConfigError(f'{counted(len(values), "value")} for more placeholders than that{_hint(values)}: {sql}')
                value = given.pop(0)
                if isinstance(value, RowFilter):
                    condition, several = value.text('sqlite' if paramstyle == 'qmark' else 'postgresql')
                    written.append(condition)
                    out.extend(several)
                    continue
                members = value if isinstance(value, tuple) else [value]
                marks = ', '.join([mark] * len(members))
                written.append(f'({marks})' if isinstance(value, tuple) and value else marks or _nothing(written[-1]))
                out.extend(members)
            case other:
                raise ConfigError(f'{other!r} in a statement with values: a placeholder is %s, a percent sign %%: {sql}')
    if given:
        marks = counted(len(values) - len(given), 'placeholder')
        hint = f'{_hint(values)}; a placeholder is %s, outside of quotes'
        raise ConfigError(f'{counted(len(values), "value")} for {marks}{hint}: {sql}')
    return ''.join([*written, sql[end:]]), out


def _nothing(before: str) -> str:
    """Return what stands for an empty tuple, by the text before it, since ``IN ()`` is no SQL.

    By themselves ``IN (NULL)`` and ``NOT IN (NULL)`` are both unknown, so that neither would be true of any row.
    """
    found = _IN.search(before)
    return f'(NULL){"" if found is None else " IS NOT FALSE" if found["negated"] else " IS TRUE"}'


def _hint(values: Sequence[Any]) -> str:
    """Return how values are passed, for a caller that has passed them in one container, as drivers take them."""
    if len(values) != 1 or not isinstance(values[0], (tuple, list, Mapping)):
        return ''
    return ' (values follow the statement one by one, as in select(cn, sql, 1, 2); a tuple is one value, for IN)'


def _comment_end(sql: str, start: int) -> int:
    """Return where the comment ends whose text begins at ``start``, with all comments in it."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == '/*' else -1
        if depth == 0:
            return edge.end()
    return len(sql)
