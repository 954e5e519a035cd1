r"""Patterns over node names: SQL's LIKE, as PostgreSQL means it.

``%`` is any number of characters, ``_`` is exactly one (a newline too), ``\`` takes the next character as it is. Case
counts, and the pattern must cover the whole name. No store evaluates patterns: their LIKEs differ.

A pattern is cut at its ``%`` into pieces of fixed length. The first must stand at the start and the last at the end; each
one between is taken at its leftmost place after the one before. Leftmost is always right, for it leaves the most room, so
no place is ever tried again: the time is at most length of name times length of pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import attrs

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['Matcher', 'choose', 'compile_like']


@attrs.frozen
class _Piece:
    """A run of characters between two ``%``, with or without ``_`` in it."""

    length: int
    literal: str
    """The characters, without the ``_``."""
    shape: re.Pattern[str] | None
    """With any ``_``: the piece as an expression without repetition, which cannot backtrack; else None."""

    def stands_at(self, text: str, position: int) -> bool:
        if self.shape is None:
            return text.startswith(self.literal, position)
        return self.shape.match(text, position) is not None

    def end_of_first(self, text: str, start: int, stop: int) -> int:
        """Return where the first place of the piece within ``text[start:stop]`` ends, or -1."""
        if self.shape is None:
            found = text.find(self.literal, start, stop)
            return found if found < 0 else found + self.length
        place = self.shape.search(text, start, stop)
        return -1 if place is None else place.end()


@attrs.frozen
class Matcher:
    """A compiled pattern."""

    pattern: str
    _first: _Piece
    _middle: tuple[_Piece, ...]
    _last: _Piece | None
    """None if the pattern has no ``%``."""

    def matches(self, text: str) -> bool:
        """Return whether the pattern covers the whole of ``text``."""
        first, last = self._first, self._last
        if last is None:
            return len(text) == first.length and first.stands_at(text, 0)
        start, stop = first.length, len(text) - last.length
        if start > stop or not first.stands_at(text, 0) or not last.stands_at(text, stop):
            return False
        for piece in self._middle:
            start = piece.end_of_first(text, start, stop)
            if start < 0:
                return False
        return True


def compile_like(pattern: object) -> Matcher:
    r"""Return the matcher of a pattern, made once for each pattern in use.

    Raises ``ConfigError`` for what is not a string, and for a pattern that ends in a ``\`` with nothing to escape.
    """
    if not isinstance(pattern, str):
        raise ConfigError(f'node pattern {safe_repr(pattern)}: must be a string')
    return _compile(pattern)


def choose(patterns: Sequence[str], names: Iterable[str]) -> tuple[str | None, frozenset[str]]:
    """Return the first pattern that any of the names matches, and the names that match it; ``(None, frozenset())`` if none does.

    A pattern that ``compile_like`` refuses matches no name: a row written manually must not stop the leader.
    """
    candidates = tuple(names)
    for pattern in patterns:
        try:
            matches = compile_like(pattern).matches
        except ConfigError:
            continue
        chosen = frozenset(name for name in candidates if matches(name))
        if chosen:
            return pattern, chosen
    return None, frozenset()


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> Matcher:
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == '%':
            pieces.append([])
        elif character == '_':
            pieces[-1].append(None)
        elif character == '\\':
            escaped = next(characters, None)
            if escaped is None:
                raise ConfigError(
                    f'node pattern {safe_repr(pattern)}: must not end with an escape character (write \\\\ for one \\)'
                )
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(character)
    first, *rest = (_piece(piece) for piece in pieces)
    middle = tuple(piece for piece in rest[:-1] if piece.length)
    return Matcher(pattern, first, middle, rest[-1] if rest else None)


def _piece(characters: list[str | None]) -> _Piece:
    known = [character for character in characters if character is not None]
    shape = None
    if len(known) < len(characters):
        shape = re.compile(''.join('.' if c is None else re.escape(c) for c in characters), re.DOTALL)
    return _Piece(length=len(characters), literal=''.join(known), shape=shape)
