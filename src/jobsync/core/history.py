"""What a node knows of the store's past, and the signs that the store has gone back in time (rule R8)."""

from __future__ import annotations

import attrs

from jobsync.core.model import INITIAL, Revision, Timeline
from jobsync.errors import TimelineChanged

__all__ = ['History', 'WentBackError']


class WentBackError(Exception):
    """A sign that the store went back in time."""


@attrs.define
class History:
    """The highest revision read, and what this incarnation has written.

    Several calls may be under way at once, so an answer is held against what was known when its call went out: ``top`` and
    ``heartbeat`` at that moment are what the caller passes as ``known_top`` and ``known_heartbeat``.
    """

    top: Revision = INITIAL
    """The highest revision ever read, in this incarnation or an earlier one."""
    timeline: Timeline | None = None
    """The one this incarnation lives in; None until the store was opened."""
    heartbeat: int = 0
    """The own counter, as far as it is known."""
    writes: int = 0
    """How often this incarnation has tried to raise the own counter."""

    def begin_session(self) -> None:
        """A new incarnation: it has written nothing, and knows no timeline. What was read stays read."""
        self.timeline, self.heartbeat, self.writes = None, 0, 0

    def check(
        self, timeline: Timeline, store: str, revision: Revision, heartbeat: int, known_top: Revision, least_heartbeat: int
    ) -> None:
        """Hold an answer against what is known, and take note of it.

        Raises ``TimelineChanged`` if it is from another timeline, ``WentBackError`` if it shows a sign.
        """
        ours = self.timeline
        if ours is None or timeline != ours:
            raise TimelineChanged(f'the namespace has passed from {ours} to {timeline}')
        if store != ours.store:
            raise WentBackError(f'store {store!r} answers in place of {ours.store!r}')
        for known in (known_top, self.top):
            if revision.number == known.number and revision.stamp != known.stamp and known != INITIAL:
                raise WentBackError(f'revision {revision.number} is another than the one read before')
        if revision.number < known_top.number:
            raise WentBackError(f'revision {known_top.number} was read before, now it is {revision.number}')
        if not least_heartbeat <= heartbeat <= self.writes:
            raise WentBackError(f'own heartbeat counter is {heartbeat}, expected {least_heartbeat} to {self.writes}')
        self.heartbeat = max(self.heartbeat, heartbeat)
        self.note(revision)

    def note(self, revision: Revision) -> None:
        """This revision was read, or made."""
        if revision.number > self.top.number:
            self.top = revision
