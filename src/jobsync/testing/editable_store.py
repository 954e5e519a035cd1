"""A memory store with everything that can happen to a store from outside: a failover, a restored backup, manual edits, damage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from jobsync.backend import Node, TaskLock, Unreadable
from jobsync.backends.memory import MemorySpace, MemoryStore
from jobsync.backends.single_writer import History

__all__ = ['EditableStore', 'Image']


@attrs.frozen(eq=False)
class Image:
    """The whole content of a store at one moment."""

    spaces: Mapping[str, MemorySpace] = attrs.field(repr=False)
    histories: Mapping[str, History] = attrs.field(repr=False)
    position: int = 0


class EditableStore(MemoryStore):
    """A memory store that a test, the simulator or a harness changes as operators and accidents do.

    Everything but the history is a value, so an image of the whole store is cheap, and going back to one too.
    """

    def image(self) -> Image:
        """Return the content now, without the store's identity, to go back to later."""
        with self.lock:
            return Image(dict(self.spaces), {name: history.copy() for name, history in self.histories.items()}, self.position)

    def restore(self, image: Image, identity: str | None = None) -> None:
        """Go back to an image, as a stale replica or a restored backup would; without ``identity`` the store's stays."""
        with self.lock:
            self.spaces = dict(image.spaces)
            self.histories = {name: history.copy() for name, history in image.histories.items()}
            self.identity = identity or self.identity
            self.position = image.position
            self.changed.notify_all()

    def wipe(self, identity: str | None = None, *, keep_schema: bool = True) -> None:
        """Lose everything. With the schema kept, each namespace is as new, without settings."""
        with self.lock:
            self.identity = identity or self.identity
            spaces = {name: self.new_space() for name in self.spaces} if keep_schema else {}
            self.restore(Image(spaces, {}))

    def delete_node_row(self, namespace: str, name: str, *, raise_revision: bool = True) -> None:
        """Delete a node's record manually, with the trigger that raises the revision or without it."""
        with self.lock:
            state = self.spaces[namespace].state
            if name in state.nodes:
                nodes = {key: node for key, node in state.nodes.items() if key != name}
                self._edit(namespace, raise_revision=raise_revision, nodes=nodes)

    def insert_node_row(self, namespace: str, node: Node) -> None:
        """Put a node's record back manually, as it once was, unless another record has its name."""
        with self.lock:
            state = self.spaces[namespace].state
            if node.name not in state.nodes:
                nodes = dict(sorted({**state.nodes, node.name: node}.items(), key=lambda item: item[1].created_on))
                unreadable = {name: found for name, found in state.unreadable.items() if name != node.name}
                self._edit(namespace, nodes=nodes, unreadable=unreadable)

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        """Delete rows of tokens manually, which becomes the new revision and version. Rows of pins stay."""
        with self.lock:
            space = self.spaces[namespace]
            found = [token for token in tokens if token < len(space.assignment.rows) and space.assignment.rows[token] is not None]
            if found:
                state = space.state.changed(self.context())
                assignment = space.assignment.without_rows(found, state.revision)
                state = attrs.evolve(state, version=state.revision)
                self.put(namespace, attrs.evolve(space, state=state, assignment=assignment))

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        """Delete task locks and items manually."""
        gone = frozenset(ids)
        with self.lock:
            locks = self.spaces[namespace].locks.by_task
            self._edit_locks(namespace, {task: lock for task, lock in locks.items() if lock.id not in gone})

    def rename_lock(self, namespace: str, key: str, other: str) -> None:
        """Change the task in the row of a lock or item manually, in place of the other task's own, if there is one."""
        with self.lock:
            locks = dict(self.spaces[namespace].locks.by_task)
            changed = attrs.evolve(locks.pop(key), task_id=other)
            self._edit_locks(namespace, {**locks, changed.key: changed})

    def _edit(self, namespace: str, *, raise_revision: bool = True, **fields: object) -> None:
        space = self.spaces[namespace]
        state = space.state.changed(self.context()) if raise_revision else space.state
        self.put(namespace, attrs.evolve(space, state=attrs.evolve(state, **fields)))  # type: ignore[arg-type]

    def _edit_locks(self, namespace: str, by_task: Mapping[str, TaskLock]) -> None:
        space = self.spaces[namespace]
        if by_task != space.locks.by_task:
            state = space.state.changed(self.context(), locks_revision=space.state.revision.number + 1)
            self.put(namespace, attrs.evolve(space, state=state, locks=attrs.evolve(space.locks, by_task=by_task)))

    def spoil_node(self, namespace: str, name: str) -> None:
        """Make a node's record unreadable."""
        with self.lock:
            state = self.spaces[namespace].state
            nodes = {key: node for key, node in state.nodes.items() if key != name}
            problem = Unreadable('node', name, 'the record is spoilt; it is left out')
            self._edit(namespace, raise_revision=False, nodes=nodes, unreadable={**state.unreadable, name: problem})

    def spoil_lock(self, namespace: str, task_id: str) -> None:
        """Make a task lock unreadable."""
        with self.lock:
            space = self.spaces[namespace]
            by_task = {task: lock for task, lock in space.locks.by_task.items() if task != task_id}
            problem = Unreadable('lock', task_id, 'the lock is spoilt; it is left out')
            locks = attrs.evolve(space.locks, by_task=by_task, unreadable={**space.locks.unreadable, task_id: problem})
            self.put(namespace, attrs.evolve(space, locks=locks))
