"""Wrong wall clocks, by libfaketime (Debian's package of that name). Monotonic clocks stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.faults.cluster import Scene
from tests.faults.fault import ALL, fault, until

LIBRARIES = sorted(Path('/usr/lib').glob('*/faketime/libfaketimeMT.so.1'))


def shifted(folder: Path, text: str) -> tuple[Mapping[str, str], Path]:
    """Return the environment of a process whose wall clock is shifted, and the file that says by how much."""
    path = folder / 'shift'
    path.write_text(f'{text}\n')
    environment = {
        'LD_PRELOAD': str(LIBRARIES[0]),
        'FAKETIME_TIMESTAMP_FILE': str(path),
        'FAKETIME_DONT_FAKE_MONOTONIC': '1',
        'FAKETIME_CACHE_DURATION': '1',
    }
    return environment, path


def wrong_clock(scene: Scene) -> Iterator[float]:
    """A worker whose wall clock is 40 days off, and is stepped by days while it works and another is killed."""
    environment, path = shifted(scene.folder, scene.random.choice(('-40d', '+40d')))
    # Under libfaketime a process is much slower, and on a busy machine no call might end in time.
    worker = scene.start(environment=environment, op_timeout_sec=5.0, bulk_timeout_sec=10.0)
    yield from until(scene, lambda: worker.has('entered'), 60.0)
    for step in scene.random.sample(('-400d', '+400d', '+3d', '-1h', '+20s', '-20s'), 3):
        path.write_text(f'{step}\n')
        yield 1.0
    victim = scene.leader()
    victim.kill()
    yield scene.longest_timeout + 2.5
    scene.replace(victim)
    if victim is not worker:
        scene.workers.remove(worker)
        worker.leave()
    yield 1.5


def wrong_server(scene: Scene) -> Iterator[float]:
    """A server that is started again with a wall clock 40 days off, which is stepped by days while a worker is killed."""
    (server,) = scene.place.servers
    server.environment, path = shifted(scene.folder, scene.random.choice(('-40d', '+40d')))
    server.kill()
    server.start()
    yield 1.0
    for step in scene.random.sample(('-400d', '+400d', '+3d', '-1h', '+20s', '-20s'), 3):
        path.write_text(f'{step}\n')
        yield 1.0
    victim = scene.some()
    victim.kill()
    yield scene.longest_timeout + 2.5
    scene.replace(victim)
    server.environment = {}
    server.kill()
    server.start()
    yield 1.0


if LIBRARIES:
    # A worker under libfaketime does not enter behind a line to PostgreSQL. It does without a line: why is not known.
    STORES = list(ALL)
    fault('wall clocks wrong and stepped', STORES, promise='P3', weight=2)(wrong_clock)
    # etcd is a Go program, which no library can mislead; its own clock takes no part in what a backend reads.
    fault("the server's clock wrong and stepped", ['postgresql', 'redis'], touches='workers store')(wrong_server)
