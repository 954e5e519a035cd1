"""The adversary: every kind of trouble a cluster can meet, at random and in quick succession."""

from __future__ import annotations

from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.process_faults import ProcessFaults
from jobsync.testing.simulation.store_faults import StoreFaults
from jobsync.testing.simulation.world import World

__all__ = ['Storm']

_MEAN_SEC = 6.0
"""The mean time between two faults."""


class Storm:
    """Causes one fault after another, and begins tasks, until the world is quiet."""

    def __init__(self, world: World) -> None:
        self._world = world
        processes, stores, operators = ProcessFaults(world), StoreFaults(world), Operators(world)
        self._stores = stores
        self._faults = [
            processes.join, processes.join, processes.kill, processes.kill_several, processes.leave, processes.rejoin,
            processes.pause, processes.cut, processes.restart, processes.twin, processes.usurp, processes.weigh,
            processes.lane_fails, processes.lane_hangs, processes.refuse,
            stores.go_down, stores.refuse_writes, stores.roll_back, stores.wipe, stores.jump,
            operators.lock, operators.lock, operators.lock, operators.unlock, operators.unlock, operators.edit_storm,
            operators.delete_node, operators.delete_tokens, operators.delete_lock, operators.delete_owner,
            operators.delete_owner, operators.spoil_node, operators.spoil_lock, operators.resize,
            operators.rename_lock, operators.delete_in_steps, operators.evict, operators.evict, operators.drain, operators.drain,
        ]  # fmt: skip
        if world.has_items:
            self._faults += [operators.declare] * 6

    def start(self) -> None:
        """Begin a few seconds after the cluster does, which in some worlds has items from its start."""
        if self._world.has_items:
            self._world.at(1.0, Operators(self._world).declare)
        self._world.at(10.0, self._strike)
        self._world.at(5.0, self._work)

    def _strike(self) -> None:
        world = self._world
        if world.quiet:
            return
        self._stores.remember()
        world.random.choice(self._faults)()
        world.at(world.now + world.random.expovariate(1 / _MEAN_SEC), self._strike)

    def _work(self) -> None:
        """Begin a task on every node that may claim it."""
        world = self._world
        if world.quiet:
            return
        for node in world.living():
            node.begin(world.random.choice(world.tasks), world.random.uniform(0.1, 6.0))
        world.at(world.now + world.random.expovariate(1 / 1.5), self._work)
