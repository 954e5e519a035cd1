"""What is in a namespace's directory, and how a change of it happens all at once.

``head.json`` is all that a heartbeat needs. It names the other files: the assignment and the task locks, each written whole
under a new name, and three trails, of which only as many bytes count as the head says. So whatever a call writes, nobody
sees it before the head has been replaced, and a crash at any point leaves either the old state or the new one.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from jobsync.core.model import (
    INITIAL,
    Leadership,
    Member,
    Node,
    NodeRef,
    NodeState,
    Pin,
    Revision,
    Settings,
    TaskLock,
    Timeline,
)
from jobsync.core.tokens import TokenGroup
from jobsync.errors import Evicted, SchemaMismatch
from jobsync_files.folder import Folder
from jobsync_files.records import dump, load, load_lines

__all__ = ['Head', 'Locks', 'Namespace', 'Table', 'Trail']

HEAD, IDENTITY, FORMAT = 'head.json', 'identity', 1
NO_LEADER, BEFORE_ANY = Leadership(0, None), dt.datetime.min.replace(tzinfo=dt.UTC)
T = TypeVar('T')


@attrs.frozen
class Trail:
    """A file of records, one in a line."""

    file: str
    length: int = 0


@attrs.frozen
class Table:
    """The assignment."""

    members: Mapping[str, Member] = attrs.field(factory=dict)
    groups: tuple[TokenGroup, ...] = ()
    pins: tuple[Pin, ...] = ()


@attrs.frozen
class Locks:
    """All task locks, by id."""

    locks: tuple[TaskLock, ...] = ()
    highest_id: int = 0
    """Ever given."""


@attrs.frozen
class Head:
    """Everything small, and the names of the rest."""

    settings: Settings
    timeline: Timeline
    revision: Revision = INITIAL
    version: Revision = INITIAL
    leadership: Leadership = NO_LEADER
    nodes: Mapping[str, Node] = attrs.field(factory=dict)
    """In order of registration."""
    last_created: dt.datetime = BEFORE_ANY
    locks_revision: int = 0
    table: str | None = None
    locks: str | None = None
    trails: Mapping[str, Trail] = attrs.field(factory=dict)
    format: int = FORMAT

    @property
    def files(self) -> set[str | None]:
        """The other files there must be."""
        return {HEAD, IDENTITY, self.table, self.locks, *(trail.file for trail in self.trails.values())}


class Namespace:
    """One namespace for the length of one call, during which nobody else has it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.now = dt.datetime.now(dt.UTC)
        self.head = load(Head, folder.read(HEAD))
        if self.head.format != FORMAT:
            raise SchemaMismatch(f'the files are of format {self.head.format}, this package reads {FORMAT}')

    @classmethod
    def make(cls, folder: Folder, settings: Settings) -> None:
        """The files of a namespace in which nothing has happened."""
        folder.put(IDENTITY, secrets.token_hex(16).encode())
        folder.put(HEAD, dump(Head(settings, Timeline(0, secrets.token_hex(16), identity(folder)))))

    def next_revision(self, at_least: int = 0) -> Revision:
        """The revision of a change."""
        return Revision(max(self.head.revision.number, at_least) + 1, secrets.randbits(62) + 1)

    def joined(self, ref: NodeRef) -> Node:
        """The record of a run; ``Evicted`` unless exactly that incarnation is registered."""
        node = self.head.nodes.get(ref.name)
        if node is None or node.ref != ref or node.state is not NodeState.JOINED:
            raise Evicted(f'node {ref.name!r} is no longer registered as incarnation {ref.incarnation}; register it anew')
        return node

    def read_part(self, kind: type[T], name: str | None) -> T:
        """One of the files written whole."""
        return kind() if name is None else load(kind, self.folder.read(name))

    def write_part(self, value: object) -> str:
        """Write it under a name that counts once a head names it."""
        name = f'{type(value).__name__.lower()}.{secrets.token_hex(8)}.json'
        self.folder.put(name, dump(value))
        return name

    def read_trail(self, kind: type[T]) -> list[T]:
        """All records of a trail, oldest first."""
        trail = self.head.trails.get(kind.__name__)
        return list(load_lines(kind, self.folder.read(trail.file, trail.length))) if trail else []

    def add(self, kind: type, records: Iterable[object], *, anew: bool = False) -> Mapping[str, Trail]:
        """Write records to the end of a trail, or in its place; they count once a head has what this returns."""
        trail = None if anew else self.head.trails.get(kind.__name__)
        trail = trail or Trail(f'{kind.__name__.lower()}.{secrets.token_hex(8)}.jsonl')
        content = b''.join(map(dump, records))
        self.folder.append(trail.file, trail.length, content)
        return {**self.head.trails, kind.__name__: Trail(trail.file, trail.length + len(content))}

    def renew(self, at_least: int = 0, **changes: Any) -> None:
        """Begin the next timeline (rule R8)."""
        timeline = Timeline(self.head.timeline.generation + 1, secrets.token_hex(16), identity(self.folder))
        revision, leadership = self.next_revision(at_least), Leadership(self.head.leadership.epoch, None)
        self.change(
            timeline=timeline, revision=revision, version=revision, leadership=leadership, nodes={}, table=None, **changes
        )

    def change(self, **changes: Any) -> None:
        """The one place where anything comes to be: replace the head, then delete what it no longer names."""
        before, self.head = self.head, attrs.evolve(self.head, **changes)
        self.folder.put(HEAD, dump(self.head))
        for name in before.files - self.head.files:
            self.folder.remove(str(name))

    def sweep(self) -> None:
        """Delete what calls that did not end have left."""
        for name in set(self.folder.names()) - self.head.files:
            self.folder.remove(name)


def identity(folder: Folder) -> str:
    """What tells these files from a copy of them: a file's number and the time of its making cannot be copied."""
    try:
        found = folder.stat(IDENTITY)
    except FileNotFoundError:
        return 'without identity'
    return f'{folder.read(IDENTITY).decode()}:{found.st_ino}:{found.st_ctime_ns}'
