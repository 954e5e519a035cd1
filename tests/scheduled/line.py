"""A process's way to the store: slow, cut off, losing requests and answers, or delivering them after the caller has given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs
from tests.scheduled.virtual.threads import VirtualThread

from jobsync.backend import Backend, BackendInfo
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.testing.faults import FaultyBackend

if TYPE_CHECKING:
    from tests.scheduled.worker import Worker
    from tests.scheduled.world import World

__all__ = ['Line']

P = ParamSpec('P')
T = TypeVar('T')


class Line(FaultyBackend):
    """A ``FaultyBackend`` whose faults come from the seed, and whose delays pass on the virtual clock."""

    def __init__(self, inner: Backend, world: World, worker: Worker | None = None) -> None:
        super().__init__(inner)
        self._worker, self._world = worker, world

    @property
    def info(self) -> BackendInfo:
        """Return the declarations of the store, with push or without."""
        return attrs.evolve(self.inner.info, push=self._world.has_push)

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        world, worker, name = self._world, self._worker, method.__name__
        host, limit = world.host, world.coordination.op_timeout_sec
        if name == 'wait':
            if worker is None or not worker.is_cut_off:
                return method(*args, **kwargs)
            host.sleep(world.random.uniform(0, limit))
            raise BackendUnavailable('cut off')
        if worker is not None and worker.is_cut_off:
            host.sleep(world.random.choice([0.0, limit]))
            raise BackendUnavailable(f'{name} was not done: cut off')
        if (delay := world.latency()) > limit:
            if world.chance(0.5):
                self._arrive_late(delay - limit, name, args, lambda: method(*args, **kwargs))
            host.sleep(limit)
            raise BackendUnavailable(f'{name}: no answer within {limit} s')
        host.sleep(delay)
        try:
            with host.atomic():
                result = method(*args, **kwargs)
        except JobsyncError as error:
            world.note(f'{name}: {error}')
            raise
        if name != 'heartbeat':
            world.note(name)
        world.checks.after_call(name, args)
        if (delay := world.latency()) > limit - 0.1 or world.fails(0.02):
            host.sleep(limit)
            raise BackendUnavailable(f'{name}: was done, and its answer is lost')
        host.sleep(delay)
        return result

    def _arrive_late(self, delay: float, name: str, args: Iterable[Any], act: Callable[[], object]) -> None:
        """Deliver a request after its caller has given up."""
        world, host = self._world, self._world.host

        def arrive() -> None:
            host.sleep(delay)
            try:
                with host.atomic():
                    act()
                world.note('a request arrives late, and is carried out')
                world.checks.after_call(name, args)
            except JobsyncError as error:
                world.note(f'a request arrives late, and is refused: {error}')

        VirtualThread(host, target=arrive, name='late', process=world.operator).start()
