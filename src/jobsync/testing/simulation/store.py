"""Stores as simulated processes find them: one that carries little in a commit, and one that is slow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from jobsync.backends.memory import MemoryBackend
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

if TYPE_CHECKING:
    from jobsync._core.assignment import Plan
    from jobsync._core.records import Guard, NodeRef, Revision
    from jobsync.backend import BackendInfo
    from jobsync.testing.simulation.world import World

__all__ = ['SmallBackend', 'TardyStore']

MAX_REMOVALS = 2
LATE_SEC = 25.0
"""A call that was given up is carried out within this time, if it is carried out late at all."""


class SmallBackend(MemoryBackend):
    """A memory store whose commits carry few removals."""

    @property
    def info(self) -> BackendInfo:
        """What a memory store declares, but for that."""
        return attrs.evolve(super().info, max_removals=MAX_REMOVALS)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        if len(plan.evictions) + len(plan.departed) + len(plan.absent) > MAX_REMOVALS:
            raise ConfigError('too many removals in one commit')
        return super().commit(ref, plan, guard)


class TardyStore:
    """The store when a call is carried out long after the caller has given up waiting."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, method: str) -> Callable[..., None]:
        def ask(*arguments: Any) -> None:
            world = self._world

            def carry_out() -> None:
                before = world.revision()
                with contextlib.suppress(JobsyncError):
                    getattr(world.backend, method)(*arguments)
                if world.revision() != before:
                    world.announce()

            world.at(world.now + world.random.uniform(0, LATE_SEC), carry_out)
            raise BackendUnavailable('the store took too long')

        return ask
