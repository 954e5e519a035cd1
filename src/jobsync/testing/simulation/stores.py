"""What happens to the store of a simulated cluster."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsync.backends.memory import Image
    from jobsync.testing.simulation.world import World

__all__ = ['Stores']


class Stores:
    """Each method is one misfortune."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._images: list[Image] = []

    def remember(self) -> None:
        """Take an image to go back to later."""
        self._images = [*self._images, self._world.store.image()][-4:]

    def go_down(self) -> None:
        """No process reaches the store for a while."""
        world = self._world
        if world.random.random() < 0.4:
            world.down_until = world.now + world.random.uniform(1, 60)
            world.record(f'store away until {world.down_until:.3f}')

    def refuse_writes(self) -> None:
        """The store answers reads and refuses writes for a while."""
        world = self._world
        if world.random.random() < 0.4:
            world.read_only_until = world.now + world.random.uniform(1, 60)
            world.record(f'store read-only until {world.read_only_until:.3f}')

    def jump(self) -> None:
        """The store's clock jumps, by days perhaps, forwards or back; or is set right."""
        world = self._world
        if not world.jumps:
            return
        seconds = world.random.choice([0.0, world.random.uniform(-100, 100), world.random.uniform(-3e6, 3e6)])
        world.clock_is_off = dt.timedelta(seconds=seconds)
        world.record(f'clock of the store is {seconds:.0f} s off')

    def roll_back(self) -> None:
        """The store goes back to an earlier state: under another identity, or to a lower position, or without a sign."""
        world = self._world
        if world.random.random() < 0.6 and not world.store.durable:
            hidden = world.config.hidden_rollbacks
            keeps = hidden or world.random.random() < 0.5
            how = ', unnoticeably' if hidden else ', under the same identity' if keeps else ''
            world.record(f'store rolled back{how}')
            world.promises.forget_fences()
            world.store.restore(world.random.choice(self._images), None if keeps else world.new_id())

    def wipe(self) -> None:
        """The store loses everything."""
        world = self._world
        if world.random.random() < 0.2 and not world.store.durable:
            world.record('store wiped')
            world.promises.forget_fences()
            world.store.wipe(world.new_id())
            self._images = [world.store.image()]
