"""Which nodes the latest changes concern, as a store's announcements say."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from jobsync.backend import Hint

__all__ = ['Concerned', 'announcement', 'read_announcement']

LONGEST_ANNOUNCEMENT = 7900
"""In bytes; with more names an announcement has none, and concerns all nodes. PostgreSQL refuses 8000 bytes and more, and every
announcement is sent to every node, so there is less to save the more nodes one names."""
MOST_NAMES = 10_000
"""Names that are remembered. With more, every node counts as concerned."""


class Concerned:
    """The nodes that are concerned by the changes after a revision. Any thread may call ``hint`` while one notes changes."""

    def __init__(self) -> None:
        self._unknown_until = 0
        """The last revision that may concern every node."""
        self._by_name: dict[str, int] = {}
        """The last revision that names a node."""

    def note(self, number: int, nodes: Iterable[str] | None) -> None:
        """Take the announcement of a revision; None: it may concern every node, and so may all before it."""
        is_full = len(self._by_name) > MOST_NAMES
        if nodes is None or is_full:
            self._unknown_until = max(number, self._unknown_until)
            self._by_name = {} if is_full else self._by_name  # last: what is in neither would concern no node
        else:
            self._by_name.update(dict.fromkeys(nodes, number))

    def note_announced(self, texts: Iterable[str], newest: int, present: int) -> int:
        """Take the announcements of revisions after ``newest``, up to ``present``; return the last of these, else ``newest``."""
        for text in texts:
            with contextlib.suppress(ValueError):
                number, nodes = read_announcement(text)
                if newest < number <= present:
                    # t=0  the announcement of revision 7, which concerns node b, is lost
                    # t=1  that of revision 8 comes, and names a alone
                    self.note(number, nodes if number == newest + 1 else None)
                    newest = number
        return newest

    def hint(self, number: int, since: int) -> Hint:
        """Return the answer of ``wait`` to a caller that knows the revision ``since``."""
        named = frozenset(name for name, at in self._by_name.copy().items() if at > since)
        return Hint(number, None, named) if since < self._unknown_until else Hint(number, named)


def announcement(nodes: Iterable[str] | None) -> str:
    """Return what an announcement says after the revision's number, in ASCII; nothing for None, and for too many names."""
    text = '' if nodes is None else ' ' + json.dumps(sorted(nodes), separators=(',', ':'))
    return text if len(text) < LONGEST_ANNOUNCEMENT else ''


def read_announcement(text: str) -> tuple[int, frozenset[str] | None]:
    """Return a revision's number, and the nodes that it concerns; ``ValueError`` for a text that is no announcement."""
    number, _, listed = text.partition(' ')
    if not listed:
        return int(number), None
    try:
        names = json.loads(listed)
    except RecursionError as error:  # any client may announce anything: brackets alone are nested too deeply
        raise ValueError(f'nested too deeply: {listed[:100]}') from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f'no list of names: {listed[:100]}')
    return int(number), frozenset(names)
