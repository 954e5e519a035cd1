"""Which nodes a new revision concerns, as the transactions that made the latest ones have written beside it.

A file announces nothing, so the announcements are kept in it: a line for each of the latest revisions, which those who poll read.
Where hundreds of processes share one file, each would send a heartbeat for each version otherwise: that many writes, one at a
time, would keep out those that count.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobsync.backend import Hint
from jobsync.backends._common.concerned import LONGEST_ANNOUNCEMENT, Concerned
from jobsync.backends.sql.schema import Tables

__all__ = ['Hints', 'announced_since', 'news_query']


KEPT = 64
"""How many announcements are kept: more than the revisions that are made between two polls."""


def announced_since(before: object, announced: str) -> str:
    """Return the announcements ``before`` with another one. The oldest are left out: the text is read at each poll."""
    lines = before.split('\n') if isinstance(before, str) else []  # a person may have written anything
    text = '\n'.join([*lines[1 - KEPT :], announced])
    return text if len(text) <= 2 * LONGEST_ANNOUNCEMENT else text[text.index('\n', len(text) - 2 * LONGEST_ANNOUNCEMENT) + 1 :]


@functools.lru_cache(64)
def news_query(tables: Tables) -> str:
    """Return the query for ``Hints.note``: the revision, how many nodes have a row, the announcements, and the timeline."""
    state = tables.state.c
    nodes = sa.select(sa.func.count()).select_from(tables.node).scalar_subquery()
    return str(sa.select(state.revision, nodes, state.announced, state.generation, state.timeline))


class Hints:
    """What this handle has read of the namespace's changes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._concerned = Concerned()
        self._newest = -1
        self._timeline: tuple[Any, ...] = ()
        self.nodes = 0
        """How many nodes have a row."""

    def note(self, row: Sequence[Any]) -> None:
        """Take a row of ``news_query``. A revision whose announcement is missing, and a new timeline, concern every node."""
        with self._lock:
            number, self.nodes, announced, *timeline = row
            if tuple(timeline) != self._timeline or number < self._newest:
                self._timeline, self._newest = tuple(timeline), number
                self._concerned.note(number, None)
            if self._newest < number:
                self._newest = self._concerned.note_announced(str(announced or '').split('\n'), self._newest, number)
            if self._newest < number:
                self._concerned.note(number, None)
                self._newest = number

    def hint(self, number: int, since: int) -> Hint:
        """Return the answer of ``wait`` to a caller that knows the revision ``since``."""
        with self._lock:
            return self._concerned.hint(number, since)

    def forget(self) -> None:
        """Start anew, with another file."""
        with self._lock:
            self._timeline = ()
