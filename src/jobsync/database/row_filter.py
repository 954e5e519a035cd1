"""The condition that a row's task is this node's, as text for DB-API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['RowFilter']


@attrs.frozen
class _Form:
    """How a database writes that a value is, or is not, among those of one parameter, and its driver a percent sign."""

    among: str
    not_among: str
    percent: str
    exactly: str
    """The collation in which texts are equal only if all their bytes are."""


_FORMS: Mapping[str, _Form] = {
    'postgresql': _Form('{} = ANY(%s::{}[])', '{} <> ALL(%s::{}[])', '%%', '"C"'),
    'sqlite': _Form('{} IN (SELECT value FROM json_each(?))', '{} NOT IN (SELECT value FROM json_each(?))', '%', 'BINARY'),
}


@attrs.frozen
class RowFilter:
    """The condition that the task of a row is this node's, as it was when ``Job.where`` returned this object.

    Among the values of a statement of ``jobsync.database`` it takes the place of a ``%s``. For other libraries there is ``text``.
    """

    column: str
    token_column: str
    tokens: Sequence[int] | None = attrs.field(repr=lambda tokens: 'every' if tokens is None else f'<{len(tokens)} tokens>')
    """The hash tokens of the rows to read, by an index on the token column; None if every row is this node's."""
    lent_tokens: Sequence[int] = attrs.field(default=(), repr=False)
    """Tokens among ``tokens`` that are other nodes', and are read only for tasks in ``pinned_here``."""
    pinned_here: Sequence[str] = attrs.field(default=(), repr=False)
    """Keys of pinned tasks that are this node's, although their hash tokens are not."""
    pinned_elsewhere: Sequence[str] = attrs.field(default=(), repr=False)
    """Keys of pinned tasks that are not this node's, although their hash tokens are."""

    def text(self, dialect: str) -> tuple[str, list[Any]]:
        """Return the condition, in parentheses, and a value for each of its placeholders.

        Args:
            dialect: ``'postgresql'``, with the placeholders ``%s`` of psycopg, or ``'sqlite'``, with the ``?`` of ``sqlite3``.

        Raises:
            ConfigError: ``dialect`` is another one.
        """
        form = _FORMS.get(dialect)
        if form is None:
            raise ConfigError(f'dialect is {safe_repr(dialect)}: must be one of {", ".join(_FORMS)}')
        if not self.tokens:
            return ('(1 = 1)' if self.tokens is None else '(1 = 0)'), []
        column, token = (name.replace('%', form.percent) for name in (self.column, self.token_column))
        # t=0  the column's own collation takes no account of case. Task a is pinned to node b, and the row A has a token of c
        # t=1  c leaves A out, since it equals a task that is pinned elsewhere, and b reads no row of that token: A is never done
        key = f'CAST({column} AS text) COLLATE {form.exactly}'
        values: list[Sequence[Any]] = [self.tokens]
        parts = [form.among.format(token, 'integer')]
        if self.pinned_here:
            parts.append(f'({form.not_among.format(token, "integer")} OR {form.among.format(key, "text")})')
            values += [self.lent_tokens, self.pinned_here]
        if self.pinned_elsewhere:
            parts.append(form.not_among.format(key, 'text'))
            values.append(self.pinned_elsewhere)
        return f'({" AND ".join(parts)})', [json.dumps(list(v)) if dialect == 'sqlite' else list(v) for v in values]
