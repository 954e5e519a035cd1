"""Which items of a date are completed, as one handle has read it: so that a claim reads only what is new."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

import attrs

from jobsync.backend import NodeRef
from jobsync.backends.etcd.attempts import DateAttempts
from jobsync.backends.etcd.reading import KeyReading

__all__ = ['MOST_DATES', 'CompletedItems']

MOST_DATES = 3
"""For how many dates is remembered what is complete: a job's, and those of its ticks, of which time zones make two."""


@attrs.define
class CompletedItems:
    """The items of one date that were completed up to some moment. Thread-safe: it only grows.

    Each run of a node begins with an empty object. After the store has gone back in time the node is another run (rule R8), so
    nothing of another history is here.
    """

    ref: NodeRef
    date: dt.date
    seen: KeyReading | None = None
    """The marks of the date's completions and of purges at that moment; None before anything was read."""
    attempts: DateAttempts = attrs.field(factory=DateAttempts)
    """The attempts at the date, as the last claim that counted them has read them."""
    _items: set[str] = attrs.field(factory=set)

    def is_of(self, ref: NodeRef, date: dt.date) -> bool:
        """Return whether this is for a run and date."""
        return (self.ref, self.date) == (ref, date)

    def add(self, items: Iterable[str], seen: KeyReading) -> None:
        """Add the items of all completions that were recorded between ``self.seen`` and ``seen``."""
        self._items.update(items)
        # Last: a thread that reads ``seen`` before the items has all that were completed by then, and maybe more.
        self.seen = seen

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def among(self, items: Collection[str]) -> frozenset[str]:
        """Return those of the items that are completed."""
        return frozenset(self._items.intersection(items))
