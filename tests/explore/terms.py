"""States as terms: immutable trees of which no two are equal, so that a state is compared and hashed by its identity.

A term's parts are terms, plain values, and two kinds of leaves that normalisation changes:

- ``Time``: ticks from now, by the clock of the process that the time belongs to.
- ``Count``: one number of a sequence that only ever rises, such as heartbeats of an incarnation or revisions. Of these the
  protocol uses the order and the next number, never the size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ['PRESENT', 'Count', 'Numbers', 'Term', 'Terms', 'Time', 'recounted', 'renumbered']


class Leaf(tuple[Any, ...]):
    """A value that normalisation changes."""

    __slots__ = ()


class Time(Leaf):
    """A time: ``('t', ticks from now)``, or ``('d', ticks)`` for one that is never more than due: 0."""

    __slots__ = ()


class Count(Leaf):
    """A number: ``(kind, number)``."""

    __slots__ = ()


class Term:
    """One term. Made by ``Terms.make`` only."""

    __slots__ = ('counts', 'head', 'is_timeless', 'parts', 'value')

    def __init__(self, head: Any, parts: tuple[Any, ...]) -> None:
        self.head, self.parts = head, parts
        counts: set[Count] = set()
        self.is_timeless = True
        for part in parts:
            if type(part) is Term:
                counts |= part.counts
                self.is_timeless &= part.is_timeless
            elif type(part) is Count:
                counts.add(part)
            elif type(part) is Time:
                self.is_timeless = False
        self.counts: frozenset[Count] = frozenset(counts)
        self.value: Any = None
        """The value that the term stands for, once it was made, if it is immutable."""


Numbers = Mapping[Count, Count]
"""What each count becomes; counts that stay as they are may be left out."""


class Terms:
    """All terms of one exploration."""

    def __init__(self) -> None:
        self._all: dict[tuple[Any, ...], Term] = {}

    def __len__(self) -> int:
        return len(self._all)

    def make(self, head: Any, parts: tuple[Any, ...]) -> Term:
        """Return the one term with this head and these parts."""
        # 1 == True == 1.0 in Python, and no field takes more than one of these types, so the terms of a field do not mix them.
        key = (head, *parts)
        term = self._all.get(key)
        if term is None:
            term = self._all[key] = Term(head, parts)
        return term

    def changed(self, term: Term, numbers: Numbers, age: Callable[[Time], Time] | None) -> Term:
        """Return the term with other numbers and, if ``age`` is given, other times."""
        done: dict[Term, Term] = {}

        def visit(term: Term) -> Term:
            if (age is None or term.is_timeless) and not any(count in numbers for count in term.counts):
                return term
            found = done.get(term)
            if found is None:
                found = done[term] = self.make(term.head, tuple([change(part) for part in term.parts]))
            return found

        def change(part: Any) -> Any:
            kind = type(part)
            if kind is Term:
                return visit(part)
            if kind is Count:
                return numbers.get(part, part)
            if kind is Time and age is not None:
                return age(part)
            return part

        return visit(term)


def renumbered(counts: Iterable[Count]) -> dict[Count, Count]:
    """Return the lowest numbers in the same order, for those counts that change.

    Numbers that follow each other, or zero, at a distance of 1 still do; a larger distance becomes 2. Zero stays zero.
    """
    by_kind: dict[str, list[int]] = {}
    for kind, number in counts:
        by_kind.setdefault(kind, []).append(number)
    changes = {}
    for kind, found in by_kind.items():
        before = after = 0
        for number in sorted(found):
            after += min(number - before, 2 if kind == 'revision' else 1)
            before = number
            if after != number:
                changes[Count((kind, number))] = Count((kind, after))
    return changes


PRESENT = 12
"""What the counter of heartbeats in the store's record of an incarnation becomes."""
_MOST_BACK = 5


def recounted(beats: Iterable[Count], records: Mapping[str, tuple[int, ...]], ahead: int) -> dict[Count, Count]:
    """Return other numbers for the heartbeats that one process has read, in relation to the store's.

    A process compares a heartbeat that it has read only with others that it has read, and with the store's record. So the
    counter of the record becomes ``PRESENT``, and what is older the numbers below, in their order. ``records`` has for each kind
    of count the counter in the store and, after that, the one in the image that the store may go back to. A counter ahead of the
    store's is that of calls which have not arrived: a distance of up to ``ahead`` stays.
    """
    by_kind: dict[str, list[int]] = {}
    for kind, number in beats:
        by_kind.setdefault(kind, []).append(number)
    changes = {}
    for kind, found in by_kind.items():
        known = records.get(kind, ())
        for before, after in _placed(sorted(found), known, ahead):
            if before != after:
                changes[Count((kind, before))] = Count((kind, after))
    return changes


def _placed(found: list[int], known: tuple[int, ...], ahead: int) -> list[tuple[int, int]]:
    if not known:
        return [(number, place + (found[0] > 0)) for place, number in enumerate(found)]
    now = known[0]
    fixed = {now: PRESENT}
    for earlier in known[1:]:
        fixed[earlier] = PRESENT + max(-_MOST_BACK, min(earlier - now, _MOST_BACK))
    placed, before, at = [], now, PRESENT
    for number in found:
        if number > now:
            at = fixed.get(number, at + min(number - before, ahead))
            before = number
            placed.append((number, at))
    at = PRESENT
    for number in reversed(found):
        if number <= now:
            least = max([place for other, place in fixed.items() if other < number], default=0)
            at = fixed.get(number, max(at - 1, least + 1))
            placed.append((number, at))
    return placed
