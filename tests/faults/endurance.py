"""Endurance: ``python -m tests.faults.endurance --store postgresql --minutes 30``. Everything goes wrong, and nothing may grow.

Workers that do every kind of work live through the faults of ``tests.faults``; some of them are never ended. Of these the memory,
threads and open files are read from /proc whenever the cluster has settled, and of the store its connections and records. Exit
status 1 if any of them grows, or if a token or a task had two owners at once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import psycopg
from tests.faults.cluster import Scene, Stage, Worker
from tests.faults.fault import Fault, Happening, Steps, draw, play
from tests.faults.growth import Growth, growth
from tests.faults.places import PLACES, EtcdPlace, Place, PostgresqlPlace, RedisPlace, SqlitePlace, open_place
from tests.faults.run import Report, judge, mend, state

from jobsync.errors import JobsyncError
from jobsync.testing.worker_log import now
from jobsync_bench.interrupts import run_interruptible

__all__ = ['Endured', 'endure']

SETTLE_SEC, TIMEOUT_SEC = 60.0, 6.0
DISKS = 2
"""A usual disk is too small after half an hour: etcd keeps five logs of 64 MB, has the next one ready, and saves a snapshot."""
KEPT_DAYS = 60 / 86_400
"""For how long the history is kept: a minute, so that it has its final size after the warm-up."""
LASTING = 2
"""Workers that are never ended."""
SPARING = frozenset({
    'stop for half a timeout', 'stop for 1.5 timeouts', 'stop for 10 timeouts', 'stop several for about a timeout',
    'stops in quick succession', 'stop until others own all', 'stop an owner as it reads of a hand-over',
    'stop in the middle of a task', 'wake while being evicted', 'join', 'weights', 'a newcomer while a worker is cut off',
    'twenty start at once',
})  # fmt: skip
"""Faults of workers that end none that was there."""


class LongScene(Scene):
    """A scene in which history does not pile up."""

    def settings(self, number: int) -> dict[str, Any]:
        """See ``Scene``."""
        patient = {'heartbeat_interval_sec': 0.5, 'op_timeout_sec': 3.0, 'bulk_timeout_sec': 9.0}
        return {**super().settings(number), **patient, 'retention_days': KEPT_DAYS, 'max_attempts': 1000}


@attrs.frozen
class Endured:
    """The outcome."""

    report: Report
    growths: tuple[Growth, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing was owned twice, and nothing grew."""
        return self.report.is_sound and not any(each.is_growing for each in self.growths)


class Gauges:
    """Samples of everything that might grow."""

    def __init__(self, scene: Scene, lasting: Sequence[Worker]) -> None:
        self._scene, self._lasting = scene, lasting
        self.samples: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def read(self) -> None:
        """Take one sample of each."""
        for worker in self._lasting:
            for what, value in process_figures(worker.process.pid):
                self._add(what, worker.run, value)
            if worker.lines:
                self._add('connections', worker.run, established({line.port for line in worker.lines}))
        place = self._scene.place
        with suppress(JobsyncError, sqlite3.Error, psycopg.Error):  # not at this moment: the next sample counts
            self._add('records', 'the store', records(place) - of_incomplete(self._scene, place))

    def _add(self, what: str, of: str, value: float) -> None:
        self.samples[what, of].append((now(), value))

    def growths(self, warm_up_sec: float) -> Iterator[Growth]:
        """Yield what each series shows."""
        for (what, of), samples in self.samples.items():
            yield growth(what, of, samples, warm_up_sec)


def process_figures(pid: int) -> Iterator[tuple[str, float]]:
    """Yield memory that belongs to a process alone (KiB), threads, and open files.

    Descriptors of an SQLite database do not count: SQLite keeps one for each connection that was ever open at once, and uses it
    again. An open connection has one of the ``-wal`` besides, which counts.
    """
    fields = dict(line.split(':\t', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines() if ':\t' in line)
    yield 'memory', float(fields['RssAnon'].split()[0])
    yield 'threads', float(fields['Threads'])
    yield 'files', float(sum(not name.endswith('.db') for name in open_files(pid)))


def open_files(pid: int) -> Iterator[str]:
    """Yield what the descriptors of a process stand for: for files their paths."""
    for descriptor in Path(f'/proc/{pid}/fd').iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(descriptor.readlink()).removesuffix(' (deleted)')


def established(ports: Iterable[int]) -> int:
    """Return how many connections to these ports of the loopback there are, by the side that has made them.

    gRPC makes them from sockets of IPv6.
    """
    rows = [line.split()[1:4] for kind in ('tcp', 'tcp6') for line in Path('/proc/net', kind).read_text().splitlines()[1:]]
    # The other side of a connection may have the number of one of the ports as its own: another program's, to another server.
    listening = {_port_of(local) for local, _, status in rows if status == '0A'}
    return sum(
        _port_of(remote) in ports and status == '01' and _port_of(local) not in listening for local, remote, status in rows
    )


def _port_of(address: str) -> int:
    return int(address.rpartition(':')[2], 16)


def of_incomplete(scene: Scene, place: Place) -> int:
    """Return how many of the records are incomplete work, which stays: it is the user's, and every kill leaves some."""
    if isinstance(place, (SqlitePlace, PostgresqlPlace)):
        with sql(place) as run:
            audit = 'SELECT 1 FROM sync_audit a WHERE a.item = c.item AND a.date = c.date'
            return int(run(f'SELECT count(*) FROM sync_claim c WHERE NOT EXISTS ({audit})')[0][0])
    # A claim, its places in two indexes, and an attempt.
    return 4 * len(scene.backend.incomplete(None, dt.timedelta(0)))


@contextmanager
def sql(place: SqlitePlace | PostgresqlPlace) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Run statements on the database of a place, beside its workers."""
    if isinstance(place, SqlitePlace):
        with closing(sqlite3.connect(place.url(()).removeprefix('sqlite:///'), timeout=30)) as file:
            yield lambda statement: file.execute(statement).fetchall()
        return
    with psycopg.connect(place.server.url(socket_only=True), autocommit=True) as connection:
        connection.execute(f'SET search_path = {place.schema}'.encode())
        yield lambda statement: connection.execute(statement.encode()).fetchall()


def records(place: Place) -> int:
    """Return how many records a store has: rows, members of keys; in etcd, where one key has many, kilobytes."""
    if isinstance(place, SqlitePlace):
        with sql(place) as run:
            return count_rows(run, "SELECT name FROM sqlite_master WHERE type = 'table'")
    if isinstance(place, PostgresqlPlace):
        with sql(place) as run:
            return count_rows(run, 'SELECT tablename FROM pg_tables WHERE schemaname = current_schema()')
    if isinstance(place, RedisPlace):
        sizes = {'hash': 'HLEN', 'zset': 'ZCARD', 'set': 'SCARD', 'list': 'LLEN', 'stream': 'XLEN'}
        with place.server.session() as ask:
            keys = ask('KEYS', '*')
            return sum(int(ask(sizes[kind], key)) if (kind := ask('TYPE', key)) in sizes else 1 for key in keys)
    member = place.server if isinstance(place, EtcdPlace) else place.servers[0]
    return len(member.ctl('get', '', '--prefix')) // 1024  # type: ignore[attr-defined]


def count_rows(run: Callable[[str], list[tuple[Any, ...]]], tables: str) -> int:
    """Return how many rows there are in the tables that a statement returns."""
    return sum(int(run(f'SELECT count(*) FROM {name}')[0][0]) for (name,) in run(tables))


def sparing(fault: Fault, lasting: Sequence[Worker]) -> Fault:
    """Return a fault that does not see some of the workers, if it might end them."""
    if 'workers' not in fault.touches or fault.name in SPARING:
        return fault

    def steps(scene: Scene) -> Steps:
        inner = fault.run(scene)
        while True:
            scene.workers = [worker for worker in scene.workers if worker not in lasting]
            try:
                seconds = next(inner, None)
            finally:
                scene.workers = [*lasting, *scene.workers]
            if seconds is None:
                return
            yield seconds

    return attrs.evolve(fault, run=steps)


def endure(store: str, seed: int, seconds: float) -> Endured:
    """Play faults for so many seconds, and judge what grew and what was owned twice."""
    random = Random(f'endurance {store} {seed}')
    stage = Stage(workers=LASTING + 2, tokens=60, kind='everything', timeouts=(TIMEOUT_SEC,), traced=False)
    happenings: list[Happening] = []
    deaths: list[str] = []
    with open_place(store, disks=DISKS) as place, LongScene(store, place, stage, seed) as scene:
        scene.form()
        lasting = scene.workers[:LASTING]
        gauges = Gauges(scene, lasting)
        first = now()
        while now() < first + seconds:
            drawn = draw(store, random, (), 1 if random.random() < 0.5 else random.randint(1, 3))
            say(f'{store}: at {now() - first:.0f} {" + ".join(each.name for each in drawn)}')
            happening = play(scene, tuple(sparing(each, lasting) for each in drawn), SETTLE_SEC)
            happenings.append(happening)
            deaths += (found := mend(scene))
            for death in found:
                say(f'{store}: ended by itself: {death}')
            if any(not worker.is_running for worker in lasting):
                raise RuntimeError(f'a worker that should have lasted has ended: {deaths}')
            if happening.settled and scene.wait_until(lambda: only_these_run(scene), SETTLE_SEC):
                gauges.read()
            else:
                say(f'{store}: not settled after {SETTLE_SEC:.0f} s: {state(scene)}')
            time.sleep(random.uniform(0.0, 1.0))
        return Endured(judge(scene, seed, happenings, first, deaths, ()), tuple(gauges.growths(max(60.0, seconds / 5))))


def only_these_run(scene: Scene) -> bool:
    """Return whether every worker that is to leave has left."""
    return not any(worker.is_running for worker in scene.all if worker not in scene.workers)


def say(text: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()


def show(endured: Endured) -> None:
    """Write what a run proved."""
    report = endured.report
    for each in endured.growths:
        say(f'  {each}')
    say(
        f'{report.store} seed {report.seed}: {report.seconds / 60:.0f} minutes, {sum(len(part.faults) for part in report.parts)} '
        f'faults, {sum(not part.settled for part in report.parts)} times not whole again in time, {report.deaths} ended by '
        f'themselves; owned twice {report.owned_twice:.4f} token-seconds, answered twice {report.answered_twice}, done twice at '
        f'once {report.worked_twice} (late {report.late})'
    )
    for detail in report.details:
        say(f'  {detail}')


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog='python -m tests.faults.endurance', description=__doc__)
    parser.add_argument('--store', choices=list(PLACES), action='append', help='may be given again; postgresql by default')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--minutes', type=float, default=30.0, help='for each store')
    options = parser.parse_args(arguments)
    is_sound = True
    for store in options.store or ['postgresql']:
        endured = endure(store, options.seed, 60 * options.minutes)
        show(endured)
        is_sound &= endured.is_sound
    sys.exit(not is_sound)


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
