"""One run: a world from its seed, on the shipped code or with one of its mends taken out."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

from tests.scheduled.breaks import BREAKS
from tests.scheduled.checks import LogLines
from tests.scheduled.steps import Stepping
from tests.scheduled.storm import operate, steer
from tests.scheduled.virtual import replaced
from tests.scheduled.virtual.threads import VirtualThread
from tests.scheduled.world import Outcome, World
from tests.support.patching import patched

from jobsync import Job
from jobsync._cluster import actions
from jobsync._core.agent import settings_comparison
from jobsync._core.agent.lease import Lease
from jobsync._runtime import host_lock, node, startup
from jobsync._worker import shared_batch, store_calls

__all__ = ['run']

_MOST_SEC = 200.0
_MOST_SWITCHES = 2_000_000
_POLLS = ((startup, '_POLL_SEC'), (node, '_POLL_SEC'), (shared_batch, '_CHECK_SEC'))
"""How often waiting threads poll: less often than in the shipped code, because most steps of a run would be such polls."""


def run(
    seed: int, taken_out: str | None = None, *, aims_at: str = '', holds_threads: bool = False, is_verbose: bool = False
) -> Outcome:
    """Run one world, fully determined by its seed and where it ``aims_at``; ``taken_out`` names a mend to do without."""
    # A value that an earlier run has worked out is found in fewer steps, and all that follows would be different.
    settings_comparison._parsed.cache_clear()
    world = World(seed)
    world.aims_at, world.holds_threads, world.is_verbose = aims_at, holds_threads, is_verbose
    with ExitStack() as stack:
        world.build(stack.enter_context(replaced(world.host)))
        stack.enter_context(_watched(world))
        for module, name in _POLLS:
            stack.enter_context(patched(module, name, 0.05))
        random = Random(seed)
        for module in (host_lock, store_calls, shared_batch):
            stack.enter_context(patched(module, 'RANDOM', random))
        stack.enter_context(patched(actions, 'RANDOM', Random(seed)))
        stack.enter_context(patched(sys, 'unraisablehook', lambda found: world.note(f'ignored: {found.exc_value!r}')))
        if taken_out is not None:
            stack.enter_context(BREAKS[taken_out](world))
        stack.enter_context(patched(Stepping, 'host', world.host))
        stack.enter_context(_without_collector(seed))
        try:
            world.operator.start(lambda: operate(world))
            if world.is_steered:
                VirtualThread(world.host, target=lambda: steer(world), name='shell', process=world.operator).start()
            world.host.run(_MOST_SEC, most_switches=_MOST_SWITCHES)
        except RuntimeError as error:
            world.checks.found(f'hang: {error}')
        for thread, raised in world.host.errors:
            if isinstance(raised, MemoryError):  # as deep as that a thread may end; what it leaves behind counts
                continue
            world.checks.found(f'error: {thread} has raised {raised!r}')
        trace = world.kept_trace or tuple(world.trace)
        world.host.close()
    figures = {**world.checks.figures, 'switches': world.host.switches}
    return Outcome(seed, tuple(world.checks.findings), trace, figures)


@contextmanager
def _watched(world: World) -> Iterator[None]:
    """Have the checks take each answer of a lease, the end of each lease, and each line of the log."""

    def answering(method: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if result:
                world.checks.answered()
            return result

        return answer

    def extend(self: Lease, sent_at: float, now: float) -> bool:
        worker, is_extended = world.worker_of(world.host.process), before(self, sent_at, now)
        if worker is not None:
            if worker.leased_until <= now:
                worker.lapsed_at.append(world.host.now)
            worker.leased_until = max(worker.leased_until, self.deadline)
        return is_extended

    before = Lease.extend
    logger, lines = logging.getLogger('jobsync'), LogLines(world)
    level, propagates = logger.level, logger.propagate
    with ExitStack() as stack:
        for owner, name in (
            (Lease, 'may_claim'),
            (Lease, 'ours'),
            (Lease, 'holds_lease'),
            (Lease, 'keeps'),
            (Job, 'can_claim_task'),
        ):
            stack.enter_context(patched(owner, name, answering(vars(owner)[name])))
        stack.enter_context(patched(Lease, 'extend', extend))
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(lines)
        try:
            yield
        finally:
            logger.removeHandler(lines)
            logger.setLevel(level)
            logger.propagate = propagates


@contextmanager
def _without_collector(seed: int) -> Iterator[None]:
    """Collect no garbage within the block: when the collector runs does not follow from the seed."""
    if seed % 8 == 0:  # a run leaves some ten megabytes of cycles
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
