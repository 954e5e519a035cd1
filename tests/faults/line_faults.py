"""Faults of the lines between workers and store."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.cluster import Scene, Worker
from tests.faults.fault import NETWORK, fault, until


def seconds(scene: Scene) -> float:
    """Return how long a cut lasts: shorter than a lease, about as long, or longer."""
    return scene.longest_timeout * scene.random.choice((0.3, 0.8, 0.9, 1.0, 1.1, 1.5, 2.5))


def healed(scene: Scene, workers: list[Worker]) -> None:
    """Let everything pass again."""
    for worker in workers:
        for line in worker.lines:
            line.heal()


@fault('cut a worker off', NETWORK, promise='P3', touches='lines', weight=2)
def cut(scene: Scene) -> Iterator[float]:
    """What is sent waits, and arrives late."""
    worker = scene.some()
    for line in worker.lines:
        line.holds_requests = line.holds_answers = True
    yield seconds(scene)
    healed(scene, [worker])
    yield 1.0


@fault('cut the leader off at a call', NETWORK, promise='P3', touches='lines', weight=2)
def cut_at(scene: Scene) -> Iterator[float]:
    """At the moment when somebody else leaves, so that commits and acknowledgements are under way."""
    leader, other = scene.leader(), scene.follower()
    other.command('weigh', weight=0.5)
    yield scene.random.uniform(0.0, 0.6)
    for line in leader.lines:
        line.holds_requests = line.holds_answers = True
    yield seconds(scene)
    healed(scene, [leader])
    other.command('weigh', weight=1.0)
    yield 1.0


@fault('half of a line', NETWORK, promise='P3', touches='lines', weight=2)
def half(scene: Scene) -> Iterator[float]:
    """Requests arrive, and answers do not; they come late."""
    worker = scene.some()
    for line in worker.lines:
        line.holds_answers = True
    yield seconds(scene)
    healed(scene, [worker])
    yield 1.0


@fault('silent connections', NETWORK, promise='P3', touches='lines')
def silent(scene: Scene) -> Iterator[float]:
    """Every connection of a worker is dead without a word; new ones pass."""
    for line in scene.some().lines:
        line.lose()
    yield 2 * scene.longest_timeout


@fault('silent connections in the middle of an answer', NETWORK, promise='P3', touches='lines')
def silent_amid(scene: Scene) -> Iterator[float]:
    """The connections of a worker die while a large answer comes."""
    worker = scene.some()
    for line in worker.lines:
        line.dark_after = scene.random.randrange(2000)
    scene.follower().command('weigh', weight=scene.random.choice((0.5, 2.0)))
    yield 2 * scene.longest_timeout
    healed(scene, [worker])
    for each in scene.workers:
        each.command('weigh', weight=1.0)
    yield 1.0


@fault('cut all workers off', NETWORK, promise='P4', touches='lines store', weight=2)
def cut_all(scene: Scene) -> Iterator[float]:
    """An outage of the network between all workers and the store."""
    for worker in scene.workers:
        for line in worker.lines:
            line.holds_requests = line.holds_answers = True
    yield seconds(scene)
    healed(scene, scene.workers)
    yield 1.0


@fault('resets', NETWORK, promise='P4', touches='lines')
def resets(scene: Scene) -> Iterator[float]:
    """Connections of random workers are reset, over and over."""
    for _ in range(20):
        for line in scene.some().lines:
            scene.lines.reset(line)
        yield scene.random.uniform(0.0, 0.3)


@fault('delays', NETWORK, promise='P4', touches='lines')
def delays(scene: Scene) -> Iterator[float]:
    """Every chunk waits, for some workers longer than for others."""
    for worker in scene.workers:
        delay = scene.random.choice((0.0, 0.02, 0.1, 0.3))
        for line in worker.lines:
            line.delay_sec = delay
    scene.follower().command('weigh', weight=0.5)
    yield 2 * scene.longest_timeout
    healed(scene, scene.workers)
    for each in scene.workers:
        each.command('weigh', weight=1.0)
    yield 1.0


@fault('bandwidth', NETWORK, promise='P4', touches='lines')
def bandwidth(scene: Scene) -> Iterator[float]:
    """20,000 bytes a second, then half of that, and so on."""
    for rate in (20_000, 10_000, 5_000):
        for worker in scene.workers:
            for line in worker.lines:
                line.bytes_per_sec = rate
        yield scene.longest_timeout / 2
    healed(scene, scene.workers)
    yield 1.0


@fault('connections refused', NETWORK, promise='P4', touches='lines store')
def refused(scene: Scene) -> Iterator[float]:
    """Every connection is reset, and no new one is accepted."""
    for worker in scene.workers:
        for line in worker.lines:
            line.refuses = True
            scene.lines.reset(line)
    yield seconds(scene)
    healed(scene, scene.workers)
    yield 1.0


@fault('a newcomer while a worker is cut off', NETWORK, promise='P3', touches='lines workers')
def cut_and_joined(scene: Scene) -> Iterator[float]:
    """A worker is cut off in both directions and comes back, while a newcomer takes a share."""
    worker = scene.some()
    for line in worker.lines:
        line.holds_requests = line.holds_answers = True
    newcomer = scene.start()
    yield from until(scene, lambda: newcomer.has('entered'), 20.0)
    healed(scene, [worker])
    yield 1.0
    scene.workers.remove(newcomer)
    newcomer.leave()
    yield 1.0
