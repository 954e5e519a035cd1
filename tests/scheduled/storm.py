"""The operator of a world: faults from the seed, then a calm, in which everything has to settle, and then the end."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from tests.scheduled.line import Line
from tests.scheduled.world import Aim, World

from jobsync import Cluster
from jobsync.backends.memory import MemoryBackend
from jobsync.errors import JobsyncError

__all__ = ['operate', 'steer']

_NAMES = 'abcd'
_STORM_SEC = 30.0
_SETTLE_SEC = 30.0
"""How long the calm may take until each token has its owner: registering anew, several hand-overs, and an abandoned callback."""
_BATCH_SEC = 30.0
_TICK_SEC = 30.0
_LEAVE_SEC = 30.0


def operate(world: World) -> None:
    """Run the world from its beginning to its end, as the main thread of the operator."""
    host, random = world.host, world.random
    for name in _NAMES[: random.choice([2, 2, 3])]:
        world.spawn(name)
    host.sleep(random.uniform(0, 8))
    while host.now < _STORM_SEC:
        host.sleep(random.expovariate(1 / 1.5))
        _one_fault(world)
    _calm_down(world)
    _settle(world)
    if world.drained is not None and not world.checks.findings:
        world.drained = None
        _wait_for_owners(world)
    if not world.checks.findings:
        _end(world)


def steer(world: World) -> None:
    """Evict and drain nodes in the storm, and delete old records, over a line as slow and unreliable as those of the workers."""
    host, random = world.host, Random(f'shell {world.seed}')
    cluster = Cluster(Line(MemoryBackend(world.store, world.coordination.options), world))
    while not world.is_calm:
        host.sleep(random.expovariate(1 / 2))
        if world.is_calm or not (living := world.living()):
            continue
        name, draw = random.choice(living).name, random.random()
        with suppress(JobsyncError):  # an outage, no such node, or no other one to own its tokens
            if draw < 0.2:
                world.note(f'{name} is to be evicted')
                cluster.evict(name, actor='shell')
            elif draw < 0.7:
                world.note(f'{name} is to be drained')
                cluster.drain(name, actor='shell')
                if random.random() < 0.8:  # in the midst of the hand-over, and of on_revoke if that is called
                    until = host.now + 5
                    while host.now < until and not _is_revoking(world, name):
                        host.sleep(random.uniform(0, 0.2))
                        if random.random() < 0.2 and any(each['owner'] == name for each in cluster.hand_overs()):
                            break
                    world.note(f'{name} is to be evicted')
                    cluster.evict(name, actor='shell')
            elif draw < 0.9:
                for each in _NAMES:
                    cluster.undrain(each, actor='shell')
            else:
                cluster.purge(older_than=2, kinds=('claim', 'rebalance'), actor='shell')


def _is_revoking(world: World, name: str) -> bool:
    return any(worker.name == name and worker.revoking is not None for worker in world.living())


def _one_fault(world: World) -> None:
    random, living = world.random, world.living()
    free = sorted(set(_NAMES) - {worker.name for worker in living})
    if free and (len(living) < 2 or random.random() < 0.2):
        world.spawn(random.choice(free))
        return
    if world.aims_at and (owners := [worker for worker in living if world.checks.claims(worker)]) and random.random() < 0.8:
        world.aim = Aim(random.choice(owners), random.choice([7.0, 9.0]), world.aims_at, random.randrange(3), is_first=True)
        return
    worker = random.choice(living)
    draw = random.random()
    if draw < 0.1:
        world.note(f'{worker} is killed')
        worker.process.kill()
    elif draw < 0.4:
        place, steps = random.choice([('', 60), ('', 60), ('Lease.begin', 3), ('Lease.may_claim', 3), ('Lease.holds_lease', 2)])
        seconds = random.choice([0.3, 3.0, 5.0, 7.0, 9.0])
        world.aim = Aim(worker, seconds, place, int(random.expovariate(1 / steps)), is_first=random.random() < 0.5)
    elif draw < 0.5:
        seconds = random.choice([0.5, 2.0, 6.0])
        world.note(f'{worker} is cut off for {seconds} s')
        worker.cut_off_until = world.host.now + seconds
    elif draw < 0.55:
        seconds = random.choice([0.5, 2.0, 6.0])
        world.note(f'the store does not answer for {seconds} s')
        world.down_until = world.host.now + seconds
    elif draw < 0.65:
        world.note(f'{worker} is to leave')
        worker.should_leave = True
    elif draw < 0.75:
        world.note(f'the log of {worker} is blocked')
        worker.log_blocked_until = random.choice([world.host.now + 5.0, float('inf')])
    elif draw < 0.95:
        worker.interrupt(random.choice(['SIGTERM', 'SIGINT', 'exit', 'exit and raise']))


def _calm_down(world: World) -> None:
    world.is_calm, world.aim, world.down_until = True, None, 0.0
    world.note('calm')
    for worker in world.workers:
        worker.cut_off_until = 0.0
        worker.process.let_go()
    if world.is_steered:
        world.drained = Random(f'calm {world.seed}').choice(_NAMES[:2])


def _drain_one(world: World) -> str:
    """Have no node drained but the one that is to be; return what is wrong with that, as text."""
    with world.host.atomic():
        cluster = Cluster(MemoryBackend(world.store, world.coordination.options))
        for name in _NAMES:
            if name != world.drained:
                cluster.undrain(name, actor='shell')
        if world.drained is None or world.drained in cluster.status()['drained']:
            return ''
        try:
            cluster.drain(world.drained, actor='shell')
        except JobsyncError as error:
            return str(error)
    return ''


def _have_two(world: World) -> None:
    """Start the workers that are missing: some were about to enter, or to leave, when the calm began."""
    for name in sorted(set(_NAMES[:2]) - {worker.name for worker in world.living()}):
        world.spawn(name)


def _settle(world: World) -> None:
    """Wait until each token has one owner, and every worker that goes on has come through the last batch."""
    if not _wait_for_owners(world):
        return
    host = world.host
    since = host.now
    until = host.now + _BATCH_SEC
    while (
        late := [str(worker) for worker in world.living() if not worker.has_finished and not worker.is_ending]
    ) and host.now < until:
        # A worker that was about to leave as the calm began may leave the one that is drained alone, which may claim nothing.
        _have_two(world)
        host.sleep(0.5)
    if late:
        world.checks.found(f'hang: {late} have not come through the last batch: {host.places()}')
    until = host.now + _BATCH_SEC
    while (left := [text for each in world.living() for text in world.checks.left_behind(each)]) and host.now < until:
        host.sleep(0.5)
    if left:
        world.checks.found(f'left behind: {left}: {host.places()}')
    until = host.now + _TICK_SEC
    while (missing := world.checks.ticks_missing(since)) and host.now < until:
        _have_two(world)
        host.sleep(0.5)
    if missing:
        world.checks.found(f'every: no tick of {missing} was run since {since:.3f}: {host.places()}')


def _wait_for_owners(world: World) -> bool:
    """Wait until each token has one owner; return whether that has come."""
    host, until = world.host, world.host.now + _SETTLE_SEC
    while (wrong := (_drain_one(world) if world.is_steered else '') or _unowned(world)) and host.now < until:
        _have_two(world)
        host.sleep(0.5)
    if wrong:
        world.checks.found(f'settle: {wrong}')
    return not wrong


def _unowned(world: World) -> str:
    """Return what is wrong with the owners of the tokens, as text; empty if nothing is."""
    owners: dict[int, list[str]] = {token: [] for token in range(world.coordination.total_tokens)}
    for worker in world.living():
        lease = None if worker.job is None else worker.job._session.lease
        if lease is None or worker.process.now() >= lease.deadline:
            if not worker.is_ending:
                return f'{worker} has no lease'
            continue
        if worker.told not in (None, lease.ownership.tokens) and not worker.is_ending:
            return f'{worker} owns {sorted(lease.ownership.tokens)}, and was told of {sorted(worker.told or ())}'
        is_due = not worker.is_ending and world.is_steered and worker.name in _NAMES[:2]
        if is_due and (worker.name == world.drained) is not lease.ownership.is_empty:
            return f'{worker} owns {sorted(lease.ownership.tokens)}, and {world.drained} is drained'
        for token in lease.ownership.tokens:
            if token in owners:
                owners[token].append(worker.name)
    if len([worker for worker in world.living() if worker.has_entered and not worker.is_ending]) < 2:
        return 'fewer than two workers go on'
    return ', '.join(f'token {token} has the owners {names}' for token, names in owners.items() if len(names) != 1)


def _end(world: World) -> None:
    """Have all workers leave, and wait for them."""
    host, until = world.host, world.host.now + _LEAVE_SEC
    world.is_over = True
    world.note('the end')
    while (late := [str(worker) for worker in world.living()]) and host.now < until:
        host.sleep(0.5)
    if late:
        world.checks.found(f'hang: {late} have not left: {host.places()}')
        return
    world.checks.is_complete(world.last_batch, world.workers[-1])
