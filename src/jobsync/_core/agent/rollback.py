"""What a node has read of the store's past, and the signs that the store has gone back in time (rule R8).

The signs: the store's own identity is not the timeline's; a revision, or a version of the assignment, is below one that was known
when the call was issued, or equal to it with another stamp; the store's position is below one that was known in the same
timeline; the node's own counter is below what it was known to be, or above what it can be.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from jobsync._core.records import INITIAL, Pulse, Revision, Snapshot, Timeline
from jobsync.errors import TimelineChanged

__all__ = ['Known', 'RollbackDetector', 'StoreRolledBack']


class StoreRolledBack(Exception):
    """A sign that the store went back in time."""


@attrs.frozen
class Known:
    """The state of a ``RollbackDetector`` when a call is issued."""

    top: Revision
    heartbeat: int
    position: int | None
    version: Revision


@attrs.define
class RollbackDetector:
    """The highest revision and position read, what this incarnation has written, and the longest timeout read.

    Several calls may be under way at once, so an answer is compared with what was ``known`` when its call was issued::

        t=0   a heartbeat is sent; the store answers with revision 7, and the answer hangs
        t=1   a snapshot is taken, of revision 8
        t=2   the answer to the heartbeat comes: 7 is below 8, and no sign of anything
    """

    longest_timeout_sec: float
    """The longest heartbeat timeout read in any timeline of the namespace, the node's own included."""
    top: Revision = INITIAL
    """The highest revision ever read, in this incarnation or an earlier one."""
    timeline: Timeline | None = None
    """The timeline of this incarnation; None until the store was opened."""
    heartbeat: int = 0
    """The own counter as last acknowledged."""
    writes: int = 0
    """How often this incarnation has tried to raise the own counter."""
    _versions: dict[str, Revision] = attrs.field(factory=dict)
    """For the id of each timeline, the highest version of the assignment that was read in it."""
    _positions: dict[str, int] = attrs.field(factory=dict)
    """For the id of each timeline, the highest position of the store that was read in it."""

    def begin_session(self) -> None:
        """Begin as a new incarnation, which has written nothing and has no timeline. The highest readings stay."""
        self.timeline, self.heartbeat, self.writes = None, 0, 0

    @property
    def version(self) -> Revision:
        """The highest version of the assignment that was read in the timeline, in this incarnation or an earlier one."""
        # t=0  a backup is made; the owner x, which is in it, has left. Then nodes a and b register, and own all tokens
        # t=1  the backup is restored in place: the store is the same one, and counts of a and b are not in it
        # t=2  a, which is not registered any more, registers anew, which lifts the revision to what a has read
        # t=3  a commits x's tokens to itself, and b, which has made no call since t=1, owns half of them
        # A registration lifts no version, so at t=3 the version is below the one that a has read before t=1.
        return INITIAL if self.timeline is None else self._versions.get(self.timeline.id, INITIAL)

    @property
    def known(self) -> Known:
        """What the answer to a call that is issued now is to be compared with."""
        position = None if self.timeline is None else self._positions.get(self.timeline.id)
        return Known(self.top, self.heartbeat, position, self.version)

    def check(self, answer: Pulse | Snapshot, heartbeat: int, known: Known, least_heartbeat: int) -> None:
        """Compare an answer, and the own counter in it, with what was known, and remember both.

        Raises ``TimelineChanged`` if it is from another timeline, ``StoreRolledBack`` if it shows a sign.
        """
        ours, revision, position = self.timeline, answer.revision, answer.position
        if ours is None or answer.timeline != ours:
            raise TimelineChanged(f'the namespace has passed from {ours} to {answer.timeline}')
        if answer.store != ours.store:
            raise StoreRolledBack(f'store {answer.store!r} answers in place of {ours.store!r}')
        for top in (known.top, self.top):
            if revision.number == top.number and revision.stamp != top.stamp and top != INITIAL:
                raise StoreRolledBack(f'revision {revision.number} is another than the one read before')
        if revision.number < known.top.number:
            raise StoreRolledBack(f'revision {known.top.number} was read before, now it is {revision.number}')
        if position is not None and known.position is not None and position < known.position:
            raise StoreRolledBack(f"the store's position was {known.position} before, now it is {position}")
        if not least_heartbeat <= heartbeat <= self.writes:
            raise StoreRolledBack(f'own heartbeat counter is {heartbeat}, expected {least_heartbeat} to {self.writes}')
        self.check_version(answer.version, known)
        self.heartbeat = max(self.heartbeat, heartbeat)
        self.note(revision)
        if position is not None:
            self._positions[ours.id] = max(position, self._positions.get(ours.id, position))

    def check_version(self, version: Revision, known: Known) -> None:
        """Compare the version of the assignment in an answer with what was known, and remember it.

        A version never falls in one history, whatever has happened to the revision since: edits raise that past what was known,
        and a node would try for ever to read a version that has gone. Raises ``StoreRolledBack`` if the version is lower, or
        another of one number.
        """
        for before in (known.version, self.version):
            if version.number == before.number and version.stamp != before.stamp and before != INITIAL:
                raise StoreRolledBack(f'version {version.number} of the assignment is another than the one read before')
        if version.number < known.version.number:
            raise StoreRolledBack(f'version {known.version.number} of the assignment was read before, now it is {version.number}')
        self._note_version(version)

    def _note_version(self, version: Revision) -> None:
        if self.timeline is not None and version.number > self.version.number:
            self._versions[self.timeline.id] = version

    def note(self, revision: Revision) -> None:
        """Remember a revision that was read."""
        if revision.number > self.top.number:
            self.top = revision

    def note_commit(self, revision: Revision, heartbeat: int) -> None:
        """Remember a commit of this node: the revision it made is the assignment's version, and it raised the own counter."""
        self.heartbeat = max(self.heartbeat, heartbeat)
        self.note(revision)
        self._note_version(revision)

    def note_timeouts(self, timeouts: Iterable[float]) -> None:
        """Remember the longest of these heartbeat timeouts (seconds), if no longer one was read."""
        self.longest_timeout_sec = max([self.longest_timeout_sec, *timeouts])
