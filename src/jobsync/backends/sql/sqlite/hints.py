"""Which nodes a new revision concerns, as far as the rows of the namespace say.

A file announces nothing, so hints follow from what has changed between two readings. Where hundreds of processes start on one
file, each would send a heartbeat for each that registers: that many writes, one at a time, would keep out those that count.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobsync.backend import Hint
from jobsync.backends._common.concerned import Concerned
from jobsync.backends.sql.schema import Tables

__all__ = ['Hints', 'news_query']


def news_query(tables: Tables) -> str:
    """Return the query for ``Hints.note``: the revision, how many nodes have a row, and what concerns all nodes if it changes."""
    state, node = tables.state.c, tables.node.c
    nodes = sa.select(sa.func.count()).select_from(tables.node).scalar_subquery()
    leader = sa.select(node.state).where(node.name == state.leader).scalar_subquery()
    everyone = (state.version, state.version_stamp, state.epoch, state.leader, leader, state.generation, state.timeline)
    return str(sa.select(state.revision, nodes, *everyone))


class Hints:
    """What this handle has read of the namespace's changes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._concerned = Concerned()
        self._last: tuple[Any, ...] = ()
        self.nodes = 0
        """How many nodes have a row."""

    def note(self, row: Sequence[Any]) -> None:
        """Take a row of ``news_query``.

        A new version, leader or timeline concerns every node, and so does the removal of a node. With none of these, nodes have
        registered or left, or weights or locks have changed, which concerns the leader and those next in line. Two kinds of
        change look like these: the removal of a node while another one registers, and a manual edit of a node's row.
        The node finds out with its next heartbeat.
        """
        with self._lock:
            last, self._last = self._last, tuple(row)
            if last == self._last:
                return
            number, self.nodes, *everyone = self._last
            is_for_few = bool(last) and last[0] <= number and last[1] <= self.nodes and list(last[2:]) == everyone
            self._concerned.note(number, () if is_for_few else None)

    def hint(self, number: int, since: int) -> Hint:
        """Return the answer of ``wait`` to a caller that knows the revision ``since``."""
        with self._lock:
            return self._concerned.hint(number, since)

    def forget(self) -> None:
        """Start anew, with another file."""
        with self._lock:
            self._last = ()
