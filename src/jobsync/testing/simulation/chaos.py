"""The adversary: everything that happens to a cluster, at random and in quick succession."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsync.backends.memory import Image
    from jobsync.testing.simulation.world import World

__all__ = ['Chaos']

_MEAN_SEC = 8.0
"""Between two blows."""


class Chaos:
    """Draws one misfortune after another until it is stopped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopped = False
        self._images: list[Image] = []
        self._blows = [
            self.join, self.join, self.kill, self.leave, self.rejoin, self.pause, self.cut, self.restart, self.twin, self.usurp,
            self.weigh,
            self.store_down, self.roll_back, self.wipe,
            self.lock, self.lock, self.lock, self.unlock, self.unlock,
            self.delete_node, self.delete_tokens, self.delete_lock,
        ]  # fmt: skip

    def start(self) -> None:
        """Begin a little after the cluster does."""
        self._world.at(10.0, self._strike)
        self._world.at(5.0, self._work)

    def stop(self) -> None:
        """No more blows."""
        self._stopped = True

    def _strike(self) -> None:
        if self._stopped:
            return
        world = self._world
        self._images = [*self._images, world.store.image()][-4:]
        world.random.choice(self._blows)()
        world.at(world.now + world.random.expovariate(1 / _MEAN_SEC), self._strike)

    def _work(self) -> None:
        """The users of the cluster begin tasks wherever they are allowed to."""
        if self._stopped:
            return
        world = self._world
        for node in world.living():
            node.begin(world.random.choice(world.tasks), world.random.uniform(0.1, 6.0))
        world.at(world.now + world.random.expovariate(1 / 1.5), self._work)

    # --- processes ----------------------------------------------------------------------------------------------------------

    def join(self) -> None:
        """Another process starts under a free name."""
        world = self._world
        free = sorted(set(world.names) - {node.name for node in world.living()})
        if free:
            world.spawn(world.random.choice(free))

    def kill(self) -> None:
        """A process dies at once."""
        living = self._world.living()
        if len(living) > 1:
            victim = self._world.random.choice(living)
            victim.alive = False
            self._world.record(f'{victim.name}: killed')

    def leave(self) -> None:
        """A process leaves in good order."""
        living = self._world.living()
        if len(living) > 1:
            node = self._world.random.choice(living)
            self._world.record(f'{node.name}: asked to leave')
            node.leave()

    def rejoin(self) -> None:
        """A process leaves in good order, and another starts under its name a little later, as a deploy has it."""
        world, living = self._world, self._world.living()
        if living:
            node = world.random.choice(living)
            world.record(f'{node.name}: asked to leave, to be started again')
            node.leave()
            world.at(world.now + world.random.uniform(0, 20.0), lambda: None if self._stopped else self._again(node.name))

    def _again(self, name: str) -> None:
        if all(node.name != name for node in self._world.living()):
            self._world.spawn(name)

    def weigh(self) -> None:
        """A process is given another weight, or none."""
        living = self._world.living()
        if living:
            node = self._world.random.choice(living)
            weight = self._world.random.choice([0.0, 0.0, 1.0, 2.0])
            self._world.record(f'{node.name}: weighs {weight}')
            node.weigh(weight)

    def pause(self) -> None:
        """A process is stopped for a while, as by SIGSTOP or a suspended machine."""
        living = self._world.living()
        if living:
            node = self._world.random.choice(living)
            node.paused_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: paused until {node.paused_until:.3f}')

    def cut(self) -> None:
        """A process cannot reach the store for a while."""
        living = self._world.living()
        if living:
            node = self._world.random.choice(living)
            node.cut_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: cut off until {node.cut_until:.3f}')

    def restart(self) -> None:
        """A process dies and another starts under its name."""
        living = self._world.living()
        if living:
            victim = self._world.random.choice(living)
            victim.alive = False
            self._world.record(f'{victim.name}: killed, to be started again')
            self._world.spawn(victim.name)

    def twin(self) -> None:
        """A second process starts under the name of a living one."""
        living = self._world.living()
        if living and self._world.random.random() < 0.3:
            self._world.spawn(self._world.random.choice(living).name)

    def usurp(self) -> None:
        """An operator deletes a living node's row, and starts another process under its name."""
        world, living = self._world, self._world.living()
        space = world.store.spaces.get(world.namespace)
        if living and space is not None and world.random.random() < 0.5:
            name = world.random.choice(living).name
            world.record(f'row of node {name} deleted by hand, and its name taken')
            world.store.delete_node_row(world.namespace, name, raise_revision=world.random.random() < 0.5)
            world.spawn(name)

    # --- the store ----------------------------------------------------------------------------------------------------------

    def store_down(self) -> None:
        """Nobody reaches the store for a while."""
        world = self._world
        if world.random.random() < 0.4:
            world.down_until = world.now + world.random.uniform(1, 60)
            world.record(f'store away until {world.down_until:.3f}')

    def roll_back(self) -> None:
        """The store goes back to an earlier state."""
        world = self._world
        if world.random.random() < 0.6 and not world.store.durable:
            hidden = world.config.hidden_rollbacks
            world.record('store rolled back' + (', unnoticeably' if hidden else ''))
            world.forget_fences()
            world.store.restore(world.random.choice(self._images), None if hidden else world.new_id())

    def wipe(self) -> None:
        """The store loses everything."""
        world = self._world
        if world.random.random() < 0.2 and not world.store.durable:
            world.record('store wiped')
            world.forget_fences()
            world.store.wipe(world.new_id())
            self._images.clear()
            self._images.append(world.store.image())

    # --- operators and users ------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Somebody registers a lock, with one or more patterns, for good or for a while."""
        world, random = self._world, self._world.random
        patterns = tuple(random.choice([*world.names, 'w%', '_1', 'none%']) for _ in range(random.choice([1, 1, 2])))
        expires = random.uniform(1, 60) if random.random() < 0.2 else None
        task = random.choice(world.tasks)
        world.record(f'lock {task} to {patterns}')
        world.edit_lock(task, patterns, expires)

    def unlock(self) -> None:
        """Somebody clears a lock."""
        task = self._world.random.choice(self._world.tasks)
        self._world.record(f'unlock {task}')
        self._world.edit_lock(task, None)

    def delete_node(self) -> None:
        """An operator deletes a node's row."""
        world = self._world
        space = world.store.spaces.get(world.namespace)
        if space is not None and space.head.nodes:
            name = world.random.choice(sorted(space.head.nodes))
            world.record(f'row of node {name} deleted by hand')
            world.store.delete_node_row(world.namespace, name, raise_revision=world.random.random() < 0.5)

    def delete_tokens(self) -> None:
        """An operator deletes rows of tokens."""
        world = self._world
        if world.namespace in world.store.spaces:
            tokens = world.random.sample(range(world.config.tokens), world.random.choice([1, 3, world.config.tokens]))
            world.record(f'rows of tokens {sorted(tokens)} deleted by hand')
            world.store.delete_token_rows(world.namespace, tokens)

    def delete_lock(self) -> None:
        """An operator deletes a lock's row."""
        world = self._world
        space = world.store.spaces.get(world.namespace)
        if space is not None and space.locks.by_task:
            lock = world.random.choice(sorted(space.locks.by_task.values(), key=lambda lock: lock.id))
            world.record(f'row of the lock of {lock.task_id} deleted by hand')
            world.store.delete_lock_rows(world.namespace, [lock.id])
