"""The adversary: everything that happens to a cluster, at random and in quick succession."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.processes import Processes
from jobsync.testing.simulation.stores import Stores

if TYPE_CHECKING:
    from jobsync.testing.simulation.world import World

__all__ = ['Chaos']

_MEAN_SEC = 6.0
"""Between two blows."""


class Chaos:
    """Draws one misfortune after another until it is stopped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopped = False
        processes, stores, operators = Processes(world), Stores(world), Operators(world)
        self._stores = stores
        self._blows = [
            processes.join, processes.join, processes.kill, processes.kill_several, processes.leave, processes.rejoin,
            processes.pause, processes.cut, processes.restart, processes.twin, processes.usurp, processes.weigh,
            processes.lane_fails, processes.lane_hangs, processes.refuse,
            stores.go_down, stores.refuse_writes, stores.roll_back, stores.wipe, stores.jump,
            operators.lock, operators.lock, operators.lock, operators.unlock, operators.unlock, operators.edit_storm,
            operators.delete_node, operators.delete_tokens, operators.delete_lock, operators.delete_owner,
            operators.delete_owner, operators.spoil_node, operators.spoil_lock, operators.resize,
            operators.rename_lock, operators.delete_by_and_by,
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
        self._stores.remember()
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
