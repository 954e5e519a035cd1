"""Whether a handle serves a node, or only a program that shows a cluster."""

from __future__ import annotations

__all__ = ['Audience']


class Audience:
    """The callers of ``open`` on one handle so far. Where none of them is a node, readings must change nothing."""

    def __init__(self) -> None:
        self._has_node: bool | None = None

    def add(self, *, is_node: bool) -> None:
        """Remember an ``open``. A handle that a node shares with a program that shows the cluster is that of the node."""
        self._has_node = bool(self._has_node) or is_node

    @property
    def only_reads(self) -> bool:
        """Whether the handle was opened, and never by a node."""
        return self._has_node is False

    @property
    def what_follows(self) -> str:
        """What becomes of an assignment of which a part is missing, or cannot be read."""
        if self.only_reads:
            return 'so that the next node that has to read it begins a new timeline; a worker that is restarted does'
        return 'so that a new timeline begins'
