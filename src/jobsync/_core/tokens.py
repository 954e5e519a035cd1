"""Token numbers in flat arrays and masks: a pool may have a million tokens, and a list or a set of as many takes ten times more.

A *mask* has one byte for each token of the pool, 1 or 0.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, count, islice
from operator import lt

import attrs

__all__ = ['NO_TARGETS', 'Column', 'Targets', 'both', 'is_run', 'mask_of', 'no_tokens', 'rising', 'without']

_FEW = 1000
"""Fewer tokens than these are sorted as a list."""
_PART = 36
"""Fewer than one in this many of all up to the highest are, too: their list is no larger than a mask of all, and sooner made."""
_IS_SET = bytes([1]) * 128 + bytes(128)
"""For each byte that has the sign of a number, whether the number is 0 or more."""
_OPPOSITE = bytes([1, 0]) + bytes(254)
_NONE = -1
_ONE = re.compile(b'\x01')
_RUN = 8
"""Fewer tokens than these are written one by one."""
_MOST_COUNTED = 1 << 20
"""Up to which number a list of all numbers is kept, to compare runs with."""
_SPARSE = 8
"""Where at most one token in so many has a target, these are searched for, and not counted off."""


def no_tokens() -> array[int]:
    """Return an array for token numbers, empty."""
    return array('i')


def rising(tokens: Sequence[int]) -> array[int]:
    """Return different token numbers in rising order. Of a million it takes two megabytes more than the array, a list 40."""
    if len(tokens) < _FEW or _PART * len(tokens) < max(tokens):
        return array('i', sorted(tokens))
    if all(map(lt, tokens, islice(tokens, 1, None))):
        return tokens if isinstance(tokens, array) else array('i', tokens)
    mask = bytearray(max(tokens) + 1)
    for token in tokens:
        mask[token] = 1
    return array('i', compress(count(), mask))


_counted = no_tokens()
"""All numbers from 0 on, up to the highest that a run had so far, and at most as many more."""


def is_run(tokens: Sequence[int]) -> bool:
    """Return whether tokens are the numbers from the first to the last, each once and rising; False for no tokens.

    It reads every number: those of a damaged record, or of another backend, may begin and end as a run does. An ``array`` is
    compared in a hundredth of the time of a loop. For a list or a tuple the answer may be False in any case.
    """
    # t=0  an operator writes the tokens 1, 1, 1, 1, 1, 1, 1, 1, 2 into a row
    # t=1  a node that takes them for a run puts nine owners in the place of two
    # Its table would be longer by seven: it would claim tokens that are another node's.
    global _counted
    size = len(tokens)
    if not size or tokens[0] < 0 or tokens[-1] - tokens[0] != size - 1:
        return False
    if size == 1 or isinstance(tokens, range):
        return True
    first, end = tokens[0], tokens[-1] + 1
    if end > _MOST_COUNTED:
        return array('i', range(first, end)) == tokens
    counted = _counted
    if end > len(counted):  # another thread may do the same: each replaces the whole
        counted = _counted = array('i', range(min(2 * end, _MOST_COUNTED)))
    return counted[first:end] == tokens


def mask_of(values: array[int], wanted: int, below: int) -> bytes:
    """Return for each value 1 if it is ``wanted``, else 0. All of them are at least -2 and less than ``below``.

    Works on one byte of every value at a time: slicing and translating bytes takes a tenth of the time of a loop, or less.
    """
    data, size = values.tobytes(), values.itemsize
    order = range(size) if sys.byteorder == 'little' else range(size - 1, -1, -1)
    mask: bytes | None = None
    for nth, at in enumerate(order):
        table = bytearray(256)
        table[wanted >> 8 * nth & 255] = 1
        found = data[at::size].translate(table)
        mask = found if mask is None else both(mask, found)
        if below + 2 <= 256 ** (nth + 1):  # so far a value differs from all others, those below 0 as well
            break
    return mask or b''


def both(one: bytes, other: bytes) -> bytes:
    """Return the mask of the tokens that are in both masks."""
    return (int.from_bytes(one, 'big') & int.from_bytes(other, 'big')).to_bytes(len(one), 'big')


def without(one: bytes, other: bytes) -> bytes:
    """Return the mask of the tokens that are in the first mask and not in the second."""
    return both(one, other.translate(_OPPOSITE))


def _fill(values: array[int], tokens: Sequence[int], value: int) -> None:
    """Give tokens a value. Those of a node are mostly runs of numbers, which are written in one step each."""
    if len(tokens) >= _RUN and is_run(tokens) and tokens[-1] < len(values):
        values[tokens[0] : tokens[-1] + 1] = array(values.typecode, [value]) * len(tokens)
    else:
        for token in tokens:
            values[token] = value


@attrs.define
class Column:
    """A value for each token of the pool, about to be written to.

    While the values are shared, which another assignment has too, they are copied before the first of them changes. The plan of
    a hand-over sets targets and changes no owner, so then nothing is copied.
    """

    values: array[int]
    is_shared: bool

    def write(self, tokens: Sequence[int], value: int) -> None:
        """Give some tokens a value."""
        values = self.values
        if self.is_shared:
            if all(map(value.__eq__, map(values.__getitem__, tokens))):
                return
            values = self.values = values[:]
            self.is_shared = False
        _fill(values, tokens, value)


@attrs.frozen(eq=False)
class Targets(Mapping[int, str]):
    """The tokens that are being handed over, and the name that each goes to. Never changed: ``changed`` makes the next one.

    A dictionary of half a million tokens would take 40 MB, and twice that while the next one is made.
    """

    names: tuple[str, ...] = ()
    at: array[int] = attrs.field(factory=lambda: array('i'), repr=False)
    """For each token of the pool the position of its target in ``names``, or -1. Empty if no token has a target."""

    def changed(self, groups: Iterable[tuple[Sequence[int], str | None]], total_tokens: int) -> Targets:
        """Return the targets after those of some groups of tokens are set, or with None removed, in a pool of this size."""
        names, at = {name: position for position, name in enumerate(self.names)}, self.at[:]
        for tokens, name in groups:
            if name is not None:
                at = at or array('i', [_NONE]) * total_tokens
                position = names.setdefault(name, len(names))
            elif at:
                position = _NONE
            else:
                continue
            _fill(at, tokens, position)
        after = Targets(tuple(names), at)
        return after if 1 in after.mask else NO_TARGETS

    @cached_property
    def mask(self) -> bytes:
        """The tokens that have a target. Empty if none has."""
        size = self.at.itemsize
        sign = size - 1 if sys.byteorder == 'little' else 0
        return self.at.tobytes()[sign::size].translate(_IS_SET)

    @cached_property
    def tokens(self) -> array[int]:
        """The tokens that have a target, rising."""
        mask = self.mask
        if _SPARSE * len(self) > len(mask):
            return array('i', compress(range(len(mask)), mask))
        return array('i', (found.start() for found in _ONE.finditer(mask)))

    def receives(self, name: str) -> bool:
        """Return whether a token goes to this name."""
        return name in self.names and 1 in mask_of(self.at, self.names.index(name), len(self.names))

    def beside(self, values: array[int]) -> Iterator[tuple[int, int]]:
        """Yield for each of ``tokens`` its value, of values for each token of the pool, and the position of its target."""
        return zip(map(values.__getitem__, self.tokens), map(self.at.__getitem__, self.tokens), strict=True)

    def __getitem__(self, token: int) -> str:
        position = self.at[token] if 0 <= token < len(self.at) else _NONE
        if position == _NONE:
            raise KeyError(token)
        return self.names[position]

    def __contains__(self, token: object) -> bool:
        return isinstance(token, int) and 0 <= token < len(self.at) and self.at[token] != _NONE

    def __iter__(self) -> Iterator[int]:
        return iter(self.tokens)

    def __len__(self) -> int:
        return self.mask.count(1)

    def __bool__(self) -> bool:
        return bool(self.at)


NO_TARGETS = Targets()
