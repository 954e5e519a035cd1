"""The memory store: the namespaces as values, under one lock, and what may happen to a store from outside.

The trails (claims, audits, rebalances) only grow, so they are kept in place; everything else is a value that a change
replaces. An image of the whole store is therefore cheap, and so is going back to one.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterable, Mapping
from random import Random

import attrs

from jobsync.backend import Node, Unreadable
from jobsync.backends.single_writer import AssignmentTable, CallContext, History, LockTable, NamespaceState
from jobsync.errors import BackendUnavailable

__all__ = ['Image', 'MemoryStore', 'Space']


@attrs.frozen(eq=False)
class Space:
    """One namespace, trails apart."""

    head: NamespaceState
    table: AssignmentTable = attrs.field(factory=AssignmentTable)
    locks: LockTable = attrs.field(factory=LockTable)


@attrs.frozen(eq=False)
class Image:
    """The whole content of a store at one moment."""

    spaces: Mapping[str, Space] = attrs.field(repr=False)
    trails: Mapping[str, History] = attrs.field(repr=False)
    position: int = 0


def utc_now() -> dt.datetime:
    """The wall clock."""
    return dt.datetime.now(dt.UTC)


class MemoryStore:
    """Any number of namespaces. With a seeded ``random`` and a ``clock`` of its own it is deterministic."""

    def __init__(
        self,
        clock: Callable[[], dt.datetime] = utc_now,
        random: Random | None = None,
        identity: str | None = None,
        *,
        durable: bool = True,
        tells_position: bool = True,
    ) -> None:
        self._random = random or Random()
        self.now = clock
        self.identity = identity or self.draw_id()
        """What tells this store from another under the same address; set it to feign a failover."""
        self.position = 0
        """How many writes there have been: what the store has of a position, as far as an image does not take it back."""
        self.tells_position = tells_position
        self.durable = durable
        """What backends on this store declare."""
        self.refuses_writes = False
        """Set it to make every write fail as unavailable, while readings are answered."""
        self.spaces: dict[str, Space] = {}
        self.trails: dict[str, History] = {}
        self.changed = threading.Condition()
        """Held for every change; notified when a revision rises."""

    def draw_id(self) -> str:
        """A random id."""
        return f'{self._random.getrandbits(128):032x}'

    def moment(self) -> CallContext:
        """What a call at this moment goes by."""
        return CallContext(self.identity, self.now(), self._random, self.position if self.tells_position else None)

    def new_space(self) -> Space:
        """A namespace in which nothing has happened."""
        return Space(NamespaceState(self.moment().timeline()))

    def put(self, name: str, space: Space) -> None:
        """Replace a namespace; wake who waits for its revision. The caller holds ``changed``."""
        if self.refuses_writes:
            raise BackendUnavailable('the store refuses writes')
        before = self.spaces.get(name)
        self.spaces[name] = space
        self.position += 1
        if before is None or before.head.revision is not space.head.revision:
            self.changed.notify_all()

    # What may happen to a store from outside.

    def image(self) -> Image:
        """The content now, to go back to later. The store's identity is no part of it."""
        with self.changed:
            return Image(dict(self.spaces), {name: trails.copy() for name, trails in self.trails.items()}, self.position)

    def restore(self, image: Image, identity: str | None = None) -> None:
        """Go back to an image, as a stale replica or a restored backup would; with another identity, or unnoticed."""
        with self.changed:
            self.spaces = dict(image.spaces)
            self.trails = {name: trails.copy() for name, trails in image.trails.items()}
            self.identity = identity or self.identity
            self.position = image.position
            self.changed.notify_all()

    def wipe(self, identity: str | None = None, *, keep_schema: bool = True) -> None:
        """Lose everything. With the schema kept, a namespace is as after its first ``open``, but for the settings."""
        with self.changed:
            self.identity = identity or self.identity
            self.spaces = {name: self.new_space() for name in self.spaces} if keep_schema else {}
            self.trails = {}
            self.position = 0
            self.changed.notify_all()

    def delete_node_row(self, namespace: str, name: str, *, raise_revision: bool = True) -> None:
        """Delete a node's record by hand, with the trigger that raises the revision or past it."""
        with self.changed:
            space = self.spaces[namespace]
            if name in space.head.nodes:
                head = attrs.evolve(space.head, nodes={key: node for key, node in space.head.nodes.items() if key != name})
                self.put(namespace, attrs.evolve(space, head=head.changed(self.moment()) if raise_revision else head))

    def insert_node_row(self, namespace: str, node: Node) -> None:
        """Put a node's record back by hand, as it once was, unless another has its name."""
        with self.changed:
            space = self.spaces[namespace]
            if node.name not in space.head.nodes:
                nodes = dict(sorted({**space.head.nodes, node.name: node}.items(), key=lambda item: item[1].created_on))
                unreadable = {name: found for name, found in space.head.unreadable.items() if name != node.name}
                head = space.head.changed(self.moment(), nodes=nodes, unreadable=unreadable)
                self.put(namespace, attrs.evolve(space, head=head))

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        """Delete rows of tokens by hand: that is the new revision and version. Pins are passed over: they cannot go so."""
        with self.changed:
            space = self.spaces[namespace]
            found = [token for token in tokens if token < len(space.table.rows) and space.table.rows[token] is not None]
            if found:
                head = space.head.changed(self.moment())
                table = space.table.without(found, head.revision)
                self.put(namespace, attrs.evolve(space, head=attrs.evolve(head, version=head.revision), table=table))

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        """Delete task locks by hand."""
        gone = frozenset(ids)
        with self.changed:
            space = self.spaces[namespace]
            locks = {task: lock for task, lock in space.locks.by_task.items() if lock.id not in gone}
            if len(locks) < len(space.locks.by_task):
                head = space.head.changed(self.moment())
                head = attrs.evolve(head, locks_revision=head.revision.number)
                self.put(namespace, attrs.evolve(space, head=head, locks=attrs.evolve(space.locks, by_task=locks)))

    def rename_lock(self, namespace: str, task_id: str, other: str) -> None:
        """Put another task into the row of a lock by hand, in place of the other task's own lock, if it has one."""
        with self.changed:
            space = self.spaces[namespace]
            locks = {task: lock for task, lock in space.locks.by_task.items() if task != other}
            if task_id in locks and task_id != other:
                locks[other] = attrs.evolve(locks.pop(task_id), task_id=other)
                head = space.head.changed(self.moment())
                head = attrs.evolve(head, locks_revision=head.revision.number)
                self.put(namespace, attrs.evolve(space, head=head, locks=attrs.evolve(space.locks, by_task=locks)))

    def spoil_node(self, namespace: str, name: str) -> None:
        """Make a node's record unreadable."""
        with self.changed:
            space = self.spaces[namespace]
            nodes = {key: node for key, node in space.head.nodes.items() if key != name}
            problem = Unreadable('node', name, 'the record is spoilt; it is left out')
            head = attrs.evolve(space.head, nodes=nodes, unreadable={**space.head.unreadable, name: problem})
            self.put(namespace, attrs.evolve(space, head=head))

    def spoil_lock(self, namespace: str, task_id: str) -> None:
        """Make a task lock unreadable."""
        with self.changed:
            space = self.spaces[namespace]
            locks = {task: lock for task, lock in space.locks.by_task.items() if task != task_id}
            problem = Unreadable('lock', task_id, 'the lock is spoilt; it is left out')
            unreadable = {**space.locks.unreadable, task_id: problem}
            self.put(namespace, attrs.evolve(space, locks=attrs.evolve(space.locks, by_task=locks, unreadable=unreadable)))
