"""Backends of the simulation: one whose commits carry few removals, and one that carries out a call too late."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from jobsync.backend import BackendInfo, Guard, NodeRef, Plan, Revision
from jobsync.backends.memory import MemoryBackend
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

if TYPE_CHECKING:
    from jobsync.testing.simulation.world import World

__all__ = ['SmallBackend', 'TardyBackend']

MAX_REMOVALS = 2
LATE_SEC = 25.0
"""The longest time after which a call is carried out that its caller has given up."""


class SmallBackend(MemoryBackend):
    """A memory backend whose commits carry at most ``MAX_REMOVALS`` removals."""

    @property
    def info(self) -> BackendInfo:
        """Return the declarations of the memory backend with a lower ``max_removals``."""
        return attrs.evolve(super().info, max_removals=MAX_REMOVALS)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        if len(plan.evictions) + len(plan.departed) + len(plan.absent) > MAX_REMOVALS:
            raise ConfigError('too many removals in one commit')
        return super().commit(ref, plan, guard)


class TardyBackend:
    """A backend that raises ``BackendUnavailable`` at once, and carries the call out up to ``LATE_SEC`` later."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, method: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            world = self._world

            def carry_out() -> None:
                before = world.revision()
                with contextlib.suppress(JobsyncError):
                    getattr(world.backend, method)(*arguments)
                if world.revision() != before:
                    world.announce()

            world.at(world.now + world.random.uniform(0, LATE_SEC), carry_out)
            raise BackendUnavailable('the store took too long')

        return call
