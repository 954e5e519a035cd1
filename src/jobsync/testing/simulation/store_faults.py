"""Faults of the store of a simulated cluster."""

from __future__ import annotations

import datetime as dt

from jobsync.testing.editable_store import Image
from jobsync.testing.simulation.world import World

__all__ = ['StoreFaults']

IMAGES = 4
"""How many images of the store are kept to go back to."""


class StoreFaults:
    """Each method causes one fault, or by chance none."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._images: list[Image] = []

    def remember(self) -> None:
        """Take an image of the store for ``roll_back``."""
        self._images = [*self._images, self._world.store.image()][-IMAGES:]

    def go_down(self) -> None:
        """Let no call reach the store for a while."""
        self._world.down_until = self._end_of_fault('away') or self._world.down_until

    def refuse_writes(self) -> None:
        """Let the store answer reads and refuse writes for a while."""
        self._world.read_only_until = self._end_of_fault('read-only') or self._world.read_only_until

    def _end_of_fault(self, how: str) -> float | None:
        """Return, and record, until when the store is faulty in this way; None, by chance, if it is not."""
        world = self._world
        if world.random.random() >= 0.4:
            return None
        until = world.now + world.random.uniform(1, 60)
        world.record(f'store {how} until {until:.3f}')
        return until

    def jump(self) -> None:
        """Set the store's clock wrong by seconds to weeks, forwards or back, or set it right."""
        world = self._world
        if not world.jumps:
            return
        seconds = world.random.choice([0.0, world.random.uniform(-100, 100), world.random.uniform(-3e6, 3e6)])
        world.clock_is_off = dt.timedelta(seconds=seconds)
        world.record(f'clock of the store is {seconds:.0f} s off')

    def roll_back(self) -> None:
        """Put the store back to an earlier state: under another identity, at a lower position, or without any sign."""
        world = self._world
        if world.random.random() < 0.6 and not world.store.durable:
            hidden = world.config.hidden_rollbacks
            keeps_identity = hidden or world.random.random() < 0.5
            how = ', without a sign' if hidden else ', under the same identity' if keeps_identity else ''
            world.record(f'store rolled back{how}')
            world.promises.forget_fences()
            world.store.restore(world.random.choice(self._images), None if keeps_identity else world.new_id())

    def wipe(self) -> None:
        """Let the store lose everything."""
        world = self._world
        if world.random.random() < 0.2 and not world.store.durable:
            world.record('store wiped')
            world.promises.forget_fences()
            world.store.wipe(world.new_id())
            self._images = [world.store.image()]
