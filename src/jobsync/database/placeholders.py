"""From the user's ``%s`` to what a driver wants.

psycopg takes ``%s`` itself, but takes it inside quotes and comments too, and refuses a lone percent sign there; sqlite3 wants
``?``. Both get the statement written anew from its parts, so that it means the same on both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jobsync.errors import ConfigError

__all__ = ['prepared']

_QUOTED = r"""
    (?<![\w$]) [eE]'(?:[^'\\]|\\.|'')*'     # PostgreSQL's, with escapes
  | '(?:[^']|'')*'
  | "(?:[^"]|"")*"
  | --[^\n]*
  | /\*.*?\*/
  | (?<![\w$]) (?P<dollar> \$ (?:[^\W\d]\w*)? \$) .*? (?P=dollar)
"""
_PART = re.compile(rf'(?P<quoted>{_QUOTED})|(?P<percent>%.?)', re.VERBOSE | re.DOTALL)


def prepared(sql: str, values: Sequence[Any], paramstyle: str) -> tuple[str, list[Any]]:
    """The statement and its values for a driver of this DB-API ``paramstyle``. A tuple becomes ``(…)``, each value one more.

    Raises ``ConfigError`` if placeholders and values do not go together.
    """
    mark, percent = ('?', '%') if paramstyle == 'qmark' else ('%s', '%%')
    given, out, written, end = list(values), list[Any](), list[str](), 0

    def plain(text: str) -> str:
        return text.replace('%', percent)

    for part in _PART.finditer(sql):
        written.append(sql[end : part.start()])
        end = part.end()
        match part['quoted'], part['percent']:
            case str(quoted), _:
                written.append(plain(quoted.replace('%%', '%')))
            case _, '%%':
                written.append(percent)
            case _, '%s':
                if not given:
                    raise ConfigError(f'{len(values)} values for more placeholders than that: {sql}')
                value = given.pop(0)
                # An empty one: IN (NULL) is true of nothing, and IN () is no SQL.
                members = value if isinstance(value, tuple) else [value]
                marks = ', '.join([mark] * len(members)) or 'NULL'
                written.append(f'({marks})' if isinstance(value, tuple) else marks)
                out.extend(members)
            case _, other:
                raise ConfigError(f'{other!r} in a statement with values: a placeholder is %s, a percent sign %%: {sql}')
    if given:
        raise ConfigError(f'{len(values)} values for {len(values) - len(given)} placeholders: {sql}')
    return ''.join([*written, sql[end:]]), out
