"""Values that users and accidents pass: text that looks like SQL, like a path or like nothing, and objects of every kind."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import pathlib
import random
import uuid
from typing import Any

from hypothesis import strategies as st

__all__ = ['NASTY', 'anything', 'mostly', 'texts']

LONG = 10**5
NASTY = (
    '', ' ', '\t', '\n', 'two\nlines', '\0', 'a\0b', '\ud800', 'a\udcffb', '\u202eשלום', '\u200b', '\ufeff',
    '👩‍👧🏽', 'e\u0301', 'İ', 'ß', "'", '"', '`', ';', '--', "x'; DROP TABLE sync_node; --", '"; DROP TABLE "mine_node',
    "' OR '1'='1", '/*', '*/', '$$', '%', '%%', '_', '%s', '%(name)s', '{}', '{0}', '$1', ':name', '?', '\\', '\\\\', '\\%',
    'C:\\x\\', '..', '../..', '/etc/passwd', '/', '//', '#drained', '#', 'NULL', 'None', 'true', '0', '-1', '1e309', 'nan', '[1]',
    '{"a": 1}', '\x1f', '\x7f', '\x85', '\u2028', '\r\n', 'sync_', 'mine_', 'sync_node', '<lambda>', 'singleton:x', 'every:x@1',
    '*', 'gpu-*', 'x' * 200, 'x' * 201,
)  # fmt: skip
"""Text that has broken some program before."""
INCOMPRESSIBLE = ''.join(random.Random(1).choices('0123456789abcdef', k=LONG))
"""Long text that is not short to a store either, however it packs it."""

texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=20),
    st.text(st.characters(categories=['Cs', 'Cc', 'Cf', 'Po', 'Zs']), max_size=8),
    st.text('\'";%_\\-\0\n()x', max_size=12),
    st.sampled_from("é%_('\\").map(lambda character: character * LONG),
    st.sampled_from([1000, 1800, 3000, LONG]).map(lambda length: INCOMPRESSIBLE[:length]),
)
"""Text of every sort, with lone surrogates, too."""


class Unspeakable:
    """An object whose every text is an error."""

    def __str__(self) -> str:
        raise RuntimeError('no text')

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """Write what hypothesis shows of the object."""
        printer.text(f'{type(self).__name__}()')


class Unhashable(Unspeakable):
    """An object that has no hash either, nor a length, nor a truth."""

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        raise RuntimeError('no length')

    def __bool__(self) -> bool:
        raise RuntimeError('neither true nor false')


class Lines(str):
    """A text that says another text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "x'\n; --"


class Colour(enum.Enum):
    """An enumeration."""

    RED = 'red'


class Word(enum.StrEnum):
    """An enumeration of text."""

    RED = "re'd"


numbers: st.SearchStrategy[Any] = st.one_of(
    st.integers(),
    st.floats(),
    st.just(5000).map(lambda digits: 10**digits),
    st.sampled_from(
        [0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**400), 1e-300, 1e300, 0.1, decimal.Decimal('NaN'),
         decimal.Decimal('1e500'), fractions.Fraction(1, 3), 1j, True, False]
    ),
)  # fmt: skip
times = st.sampled_from(
    [dt.date.min, dt.date.max, dt.date(2026, 3, 2), dt.datetime.min, dt.datetime.max, dt.datetime(2026, 3, 2, 12),
     dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC),
     dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14))),
     dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-12))), dt.timedelta(0), dt.timedelta.min, dt.timedelta.max,
     dt.timedelta(days=-1), dt.timedelta(microseconds=1), dt.time(3), dt.UTC]
)  # fmt: skip
objects = st.sampled_from(
    [None, ..., NotImplemented, object(), object, Lines('x'), Colour.RED, Word.RED, b'', b'\0\xff',
     bytearray(b'x'), memoryview(b'x'), (), [], {}, set(), frozenset(), range(3), [None], [[1]], {'a': {}}, {1: 2}, len, print,
     lambda: 1, lambda x: x, lambda x, y: x, Exception('x'), pathlib.Path('x/y'), uuid.UUID(int=7), slice(1), type]
)  # fmt: skip
scalars = st.one_of(texts, numbers, times, objects, st.builds(Unspeakable), st.builds(Unhashable))
anything: st.SearchStrategy[Any] = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.tuples(scalars, scalars),
    st.tuples(scalars, scalars, scalars, scalars),
    st.dictionaries(texts, scalars, max_size=3),
    st.builds(iter, st.lists(scalars, max_size=2)),
)
"""A value of any kind."""


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values that are of the right kind in half of the cases."""
    return st.one_of(likely, anything)
