"""Whether a handle serves a node, or only a program that shows a cluster."""

from __future__ import annotations

__all__ = ['Audience']


class Audience:
    """The callers of ``open`` on one handle so far. Where none of them is a node, readings must change nothing."""

    def __init__(self) -> None:
        self._is_opened = self._has_node = False

    def add(self, *, is_node: bool) -> None:
        """Remember an ``open``. A handle that a node shares with a program that shows the cluster is that of the node."""
        # t=0  a program that shows the cluster opens the handle, for which no node has opened it
        # t=1  another thread opens it for a node
        # t=2  the program's open stores what it has found at t=0
        # Then the node would never renew a timeline whose assignment is spoilt. So each mark is set, and never stored again.
        if is_node:
            self._has_node = True
        self._is_opened = True

    @property
    def only_reads(self) -> bool:
        """Whether the handle was opened, and never by a node."""
        return self._is_opened and not self._has_node

    @property
    def what_follows(self) -> str:
        """What becomes of an assignment of which a part is missing, or cannot be read."""
        if self.only_reads:
            return 'so that the next node that has to read it begins a new timeline; a worker that is restarted does'
        return 'so that a new timeline begins'
