r"""Patterns over node names: SQL's LIKE, as PostgreSQL means it.

``%`` is any number of characters, ``_`` is exactly one (a newline too), ``\`` takes the next character as it is. Case
counts, and the pattern must cover the whole name. No store evaluates patterns: their LIKEs differ.

A pattern is cut at its ``%`` into pieces of fixed length. The first must stand at the start and the last at the end; each
one between is taken at its leftmost place after the one before. Leftmost is always right, for it leaves the most room, so
no place is ever tried again: the time is at most length of name times length of pattern.

Most patterns in use begin with characters that must stand at the start of a name, and many are names. So thousands of names are
searched in their order, where those that begin alike are neighbours. Of the others most match no name, as their characters stand
in none.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from operator import itemgetter

import attrs

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['Choice', 'Matcher', 'NodeNames', 'choose', 'compile_like']

Choice = tuple[str | None, frozenset[str]]
"""The first pattern of a list that any name matches, and the names that match it; ``(None, frozenset())`` if none does."""

_SPECIAL = frozenset('%_\\')
_MOST_RANGES = 32
"""Among how many ranges of names the characters at a ``_`` are searched. More of them cost more than matching their names."""


@attrs.frozen
class _Piece:
    """A run of characters between two ``%``, with or without ``_`` in it."""

    characters: tuple[str | None, ...]
    """None for each ``_``."""
    literal: str | None
    """The characters, if there is no ``_`` among them."""

    @property
    def length(self) -> int:
        return len(self.characters)

    @cached_property
    def _shape(self) -> re.Pattern[str]:
        """The piece as an expression without repetition, which cannot backtrack. Made late: few patterns of many are matched."""
        return re.compile(''.join('.' if each is None else re.escape(each) for each in self.characters), re.DOTALL)

    def stands_at(self, text: str, position: int) -> bool:
        if self.literal is not None:
            return text.startswith(self.literal, position)
        return self._shape.match(text, position) is not None

    def end_of_first(self, text: str, start: int, stop: int) -> int:
        """Return where the first place of the piece within ``text[start:stop]`` ends, or -1."""
        if self.literal is not None:
            found = text.find(self.literal, start, stop)
            return found if found < 0 else found + self.length
        place = self._shape.search(text, start, stop)
        return -1 if place is None else place.end()


@attrs.frozen
class Matcher:
    """A compiled pattern."""

    pattern: str
    _first: _Piece
    _middle: tuple[_Piece, ...]
    _last: _Piece | None
    """None if the pattern has no ``%``."""
    start: tuple[str, ...]
    """The characters before the first ``%``, cut at each ``_``."""
    longest: str
    """The longest run of characters between the ``%`` and ``_``, which every name has that matches."""

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


def choose(patterns: Sequence[str], names: Iterable[str]) -> Choice:
    """Return the first pattern that any of the names matches, and the names that match it; ``(None, frozenset())`` if none does.

    A pattern that ``compile_like`` refuses matches no name: a row written manually must not stop the leader.
    """
    return NodeNames(frozenset(names)).choose(patterns)


class NodeNames:
    """Names of nodes, and what lists of patterns choose among them."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._choices: dict[tuple[str, ...], Choice] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        """One object for each set of names that is chosen: a set of thousands is hashed and compared once."""

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.names)

    @cached_property
    def _joined(self) -> str:
        return '\0'.join(self.names)

    def choices(self, lists: Iterable[tuple[str, ...]]) -> Mapping[tuple[str, ...], Choice]:
        """Return what each list of patterns chooses. What the last call has found is not searched for again."""
        known, self._choices, self._sets = self._choices, {}, {}
        for patterns in lists:
            if patterns not in self._choices:
                pattern, names = known.get(patterns) or self.choose(patterns)
                self._choices[patterns] = pattern, self._sets.setdefault(names, names)
        return self._choices

    def choose(self, patterns: Iterable[str]) -> Choice:
        """Return what one list of patterns chooses."""
        for pattern in patterns:
            try:
                chosen = self._matched_by(pattern)
            except ConfigError:
                continue
            if chosen:
                return pattern, chosen
        return None, frozenset()

    def _matched_by(self, pattern: str) -> frozenset[str]:
        if pattern in self.names and _SPECIAL.isdisjoint(pattern):
            return frozenset((pattern,))
        matcher = compile_like(pattern)
        if not matcher.start[0] and matcher.longest not in self._joined:
            return frozenset()
        return frozenset(filter(matcher.matches, self._candidates(matcher.start)))

    def _candidates(self, start: Sequence[str]) -> Iterator[str]:
        """Return names that may match, all that do among them, given the characters between the first ``_`` of the pattern."""
        names, depth = self._sorted, 0
        ranges = [(0, len(names))]
        """Where names have equal characters before ``depth``, which the pattern takes."""
        for nth, literal in enumerate(start):
            if nth:
                if len(ranges) > _MOST_RANGES:
                    break
                ranges = [found for low, high in ranges for found in self._by_character(low, high, depth)]
                depth += 1
            if literal:
                key = _part(depth, depth + len(literal))
                depth += len(literal)
                lows = [(bisect_left(names, literal, low, high, key=key), high) for low, high in ranges]
                ranges = [(low, bisect_right(names, literal, low, high, key=key)) for low, high in lows]
        return chain.from_iterable(names[low:high] for low, high in ranges)

    def _by_character(self, low: int, high: int, depth: int) -> Iterator[tuple[int, int]]:
        """Yield the range of the names with each character at ``depth``."""
        key = _part(depth, depth + 1)
        while low < high:
            start, low = low, bisect_right(self._sorted, key(self._sorted[low]), low, high, key=key)
            yield start, low


def _part(start: int, stop: int) -> Callable[[str], str]:
    return itemgetter(slice(start, stop))


@lru_cache(maxsize=16_384)
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
    runs = [_runs(piece) for piece in pieces]
    first, *rest = (_Piece(tuple(piece), its[0] if len(its) == 1 else None) for piece, its in zip(pieces, runs, strict=True))
    middle = tuple(piece for piece in rest[:-1] if piece.length)
    return Matcher(pattern, first, middle, rest[-1] if rest else None, runs[0], max(chain.from_iterable(runs), key=len))


def _runs(characters: Iterable[str | None]) -> tuple[str, ...]:
    """Return the characters of a piece, cut at each ``_``."""
    runs: list[list[str]] = [[]]
    for known in characters:
        if known is None:
            runs.append([])
        else:
            runs[-1].append(known)
    return tuple(map(''.join, runs))
