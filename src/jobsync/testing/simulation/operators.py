"""Task locks, and manual edits of the rows, as users and operators of a cluster make them."""

from __future__ import annotations

import attrs

from jobsync._core.records import DRAINED
from jobsync.backend import LockEdit, LockFilter, LockRequest, Node, NodeState, Settings
from jobsync.testing.simulation.node import SimNode
from jobsync.testing.simulation.world import World

__all__ = ['EDITS_PER_SEC', 'Operators']

EDITS_PER_SEC = 35
"""Edits in a burst: two loops that lock tasks one by one."""
_BURST_SEC = 2.0
OTHER_POOL = 7
"""By how many tokens the pool grows when its size is changed."""


class Operators:
    """Each method makes one edit, or none where no record qualifies."""

    def __init__(self, world: World) -> None:
        self._world = world

    # --- task locks ---------------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Register a lock with one or more patterns, which may expire."""
        world, random = self._world, self._world.random
        patterns = tuple(random.choice([*world.names, 'w%', '_1', 'none%']) for _ in range(random.choice([1, 1, 2])))
        expires = random.uniform(1, 60) if random.random() < 0.2 else None
        task = random.choice(world.tasks)
        world.record(f'lock {task} to {patterns}')
        world.edit_lock(task, patterns, expires)

    def unlock(self) -> None:
        """Clear a lock."""
        task = self._world.random.choice(self._world.tasks)
        self._world.record(f'unlock {task}')
        self._world.edit_lock(task, None)

    def edit_storm(self) -> None:
        """Edit locks without a pause for a few seconds."""
        world = self._world
        if world.random.random() < 0.3:
            world.record(f'{EDITS_PER_SEC} edits of locks a second until {world.now + _BURST_SEC:.3f}')
            self.edit_until(world.now + _BURST_SEC)

    def edit_until(self, end: float) -> None:
        """Edit one lock after another until true time ``end``."""
        world = self._world
        if world.now < end:
            world.edit_lock(world.random.choice(world.tasks), (world.random.choice(world.names), '%'))
            world.at(world.now + 1 / EDITS_PER_SEC, lambda: self.edit_until(end))

    def delete_lock(self) -> None:
        """Delete the row of a lock."""
        world, space = self._world, self._world.space
        if space is not None and space.locks.by_task:
            lock = world.random.choice(sorted(space.locks.by_task.values(), key=lambda lock: lock.id))
            world.record(f'row of the lock of {lock.task_id} deleted manually')
            world.store.delete_lock_rows(world.namespace, [lock.id])

    def rename_lock(self) -> None:
        """Put another task into the row of a lock."""
        world, space = self._world, self._world.space
        if space is not None and space.locks.by_task:
            task, other = world.random.choice(sorted(space.locks.by_task)), world.random.choice(world.tasks)
            world.record(f'the lock of {task} is given to {other} manually')
            world.store.rename_lock(world.namespace, task, other)

    def spoil_lock(self) -> None:
        """Make the row of a lock unreadable."""
        world, space = self._world, self._world.space
        if space is not None and space.locks.by_task:
            task = world.random.choice(sorted(space.locks.by_task))
            world.record(f'row of the lock of {task} made unreadable')
            world.store.spoil_lock(world.namespace, task)

    def declare(self) -> None:
        """Declare items anew: of one group, which may be empty, and of which tasks may be locked or in the other group."""
        world, random = self._world, self._world.random
        group, patterns = random.choice(['g', 'h']), random.choice([('%',), ('%',), ('w%',), ('_1', '%'), ('none%',)])
        tasks = random.sample(world.tasks, random.randint(0, len(world.tasks)))
        costs = [random.choice([1.0, 2.5, 0.5]) if group == 'h' else 1.0 for _ in tasks]
        put = tuple(LockRequest(task, patterns, 'sim', cost=cost) for task, cost in zip(tasks, costs, strict=True))
        world.record(f'items of {group} are {tasks}, for {patterns}')
        world.edit(LockEdit(LockFilter(), put, group))

    # --- nodes and tokens ---------------------------------------------------------------------------------------------------

    def evict(self) -> None:
        """Evict a node, whatever it is doing."""
        world, space = self._world, self._world.space
        joined = [node.name for node in space.state.nodes.values() if node.state is NodeState.JOINED] if space is not None else []
        if joined:
            self._evict(world.random.choice(sorted(joined)))

    def _evict(self, name: str) -> None:
        world, space = self._world, self._world.space
        record = space.state.nodes.get(name) if space is not None else None
        if not world.quiet and record is not None:
            world.record(f'{name} ({record.incarnation}) evicted by an operator')
            if world.backend.remove_node(record.ref):
                world.announce()

    def drain(self) -> None:
        """Drain a node at work, and let it own tokens again a little later; it may be evicted in the midst of the hand-over."""
        world, random = self._world, self._world.random
        if living := world.living():
            node = random.choice(living)
            name = node.name
            for task in world.tasks:
                node.begin(task, random.uniform(6, 9.5))  # less than a hand-over may take
            world.record(f'{name} drained by an operator')
            world.edit(LockEdit(put=(LockRequest(name, ('%',), 'sim'),), group=DRAINED))
            if random.random() < 0.7:
                world.at(world.now + random.uniform(0, 8), lambda: self._evict(name))
            world.at(world.now + random.uniform(1, 60), lambda: self._undrain(name))

    def _undrain(self, name: str) -> None:
        if not self._world.quiet:
            self._world.record(f'{name} is drained no more')
            self._world.undrain(name)

    def delete_node(self) -> None:
        """Delete the row of a node."""
        world, space = self._world, self._world.space
        if space is not None and space.state.nodes:
            name = world.random.choice(sorted(space.state.nodes))
            world.record(f'row of node {name} deleted manually')
            world.store.delete_node_row(world.namespace, name, raise_revision=world.random.random() < 0.5)

    def delete_tokens(self) -> None:
        """Delete rows of tokens."""
        world = self._world
        if world.space is not None:
            tokens = world.random.sample(range(world.pool), world.random.choice([1, 3, world.pool]))
            world.record(f'rows of tokens {sorted(tokens)} deleted manually')
            world.store.delete_token_rows(world.namespace, tokens)

    def delete_in_steps(self) -> None:
        """Delete the rows of a node's tokens; a little later cut the node off, and then delete its own row."""
        world, living = self._world, self._world.living()
        if not living or world.space is None:
            return
        node, rows = world.random.choice(living), world.space.assignment.rows
        tokens = [token for token, row in enumerate(rows) if row is not None and row.owner == node.name]
        world.record(f'rows of tokens {tokens}, all of {node.name}, deleted manually')
        world.store.delete_token_rows(world.namespace, tokens)
        world.at(world.now + world.random.uniform(0, 10), lambda: self._cut_and_delete(node))

    def _cut_and_delete(self, node: SimNode) -> None:
        world = self._world
        if not world.quiet:
            node.cut_until = world.now + world.random.uniform(5, 100)
            world.record(f'{node.name}: cut off until {node.cut_until:.3f}')
            self._delete_owner(node.name, node.cut_until)

    def delete_owner(self) -> None:
        """Cut a node off and delete all its rows; its own row may be put back a little later."""
        world, living = self._world, self._world.living()
        if not living or world.space is None:
            return
        node = world.random.choice(living)
        node.cut_until = world.now + world.random.uniform(5, 100)
        world.record(f'{node.name}: cut off until {node.cut_until:.3f}, to be deleted manually')
        world.at(world.now + world.random.uniform(0, 15), lambda: self._delete_owner(node.name, node.cut_until))

    def _delete_owner(self, name: str, cut_until: float) -> None:
        world, space = self._world, self._world.space
        record = space.state.nodes.get(name) if space is not None else None
        if world.quiet or space is None or record is None:
            return
        tokens = [token for token, row in enumerate(space.assignment.rows) if row is not None and row.owner == name]
        with_tokens = world.random.random() < 0.7
        world.record(f'row of node {name} deleted manually' + (f', and those of tokens {tokens}' if with_tokens else ''))
        world.store.delete_node_row(world.namespace, name)
        if with_tokens:
            world.store.delete_token_rows(world.namespace, tokens)
        if world.random.random() < 0.6:
            just_in_time, any_time = cut_until - world.random.uniform(0, 0.5), world.now + world.random.uniform(0, 60)
            world.at(max(world.now, world.random.choice([just_in_time, any_time])), lambda: self._put_back(record))

    def spoil_node(self) -> None:
        """Make the row of a node unreadable; it may be put back a little later."""
        world, space = self._world, self._world.space
        if space is None or not space.state.nodes:
            return
        record = space.state.nodes[world.random.choice(sorted(space.state.nodes))]
        world.record(f'row of node {record.name} made unreadable')
        world.store.spoil_node(world.namespace, record.name)
        if world.random.random() < 0.5:
            world.at(world.now + world.random.uniform(0, 60), lambda: self._put_back(record))

    def _put_back(self, record: Node) -> None:
        world = self._world
        if not world.quiet and world.space is not None:
            world.record(f'row of node {record.name} ({record.incarnation}) put back manually')
            world.store.insert_node_row(world.namespace, record)

    def resize(self) -> None:
        """Kill all processes or cut them off, and start one with another size of pool."""
        world = self._world
        if world.random.random() > 0.3:
            return
        usual, present = Settings(world.config.tokens, 'xxh3'), world.settings
        other = attrs.evolve(usual, total_tokens=usual.total_tokens + OTHER_POOL) if present == usual else usual
        dies, until = world.random.random() < 0.5, world.now + world.random.uniform(5, 60)
        for node in world.living():
            node.alive, node.cut_until = not dies, until
        world.record(f'all {"killed" if dies else f"cut off until {until:.3f}"}; a node starts with {other.total_tokens} tokens')
        world.spawn(world.random.choice(world.names), settings=other)
