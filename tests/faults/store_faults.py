"""Faults of the stores, and what operators do to records."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.cluster import Scene
from tests.faults.disk import CAN_MOUNT
from tests.faults.fault import ALL, NETWORK, SQL, fault
from tests.faults.places import EtcdClusterPlace

from jobsync.errors import JobsyncError

NAMESPACE = 'sync_'
REFUSING = ('postgresql', 'redis', 'redis-memory', 'redis-replica')


def outage_sec(scene: Scene) -> float:
    """Return how long the store is away: shorter than a lease, about as long, or longer."""
    return scene.longest_timeout * scene.random.choice((0.3, 0.6, 0.9, 1.0, 1.1, 1.5, 3.0))


def away(scene: Scene, begin: Callable[[], None], end: Callable[[], None]) -> Iterator[float]:
    """Take something away for the length of an outage."""
    begin()
    yield outage_sec(scene)
    end()
    yield 1.0


@fault('the store stopped', NETWORK, promise='P4', touches='store', weight=2)
def paused(scene: Scene) -> Iterator[float]:
    """SIGSTOP of the server: connections stay, and nothing answers. Of three members two are stopped."""
    yield from away(scene, scene.place.pause, scene.place.resume)


@fault('the store killed', [name for name in NETWORK if name != 'redis-memory'], promise='P4', touches='store', weight=2)
def killed(scene: Scene) -> Iterator[float]:
    """SIGKILL of the server, which comes back after a while with what it had acknowledged."""
    yield from away(scene, scene.place.kill, scene.place.start)


@fault('the store killed, its memory gone', ['redis-memory'], promise='R8', touches='store', weight=2)
def killed_empty(scene: Scene) -> Iterator[float]:
    """SIGKILL of a server that keeps nothing."""
    yield from away(scene, scene.place.kill, scene.place.start)
    yield scene.longest_timeout


@fault(
    'the store read-only', ['sqlite', *(name for name in NETWORK if name != 'etcd-3')], promise='P4', touches='store', weight=2
)
def read_only(scene: Scene) -> Iterator[float]:
    """Readings are answered, writes are refused."""
    yield from away(scene, scene.place.harness.refuse_writes, scene.place.harness.accept_writes)


if CAN_MOUNT:

    @fault('the disk full', [name for name in ALL if name != 'redis-memory'], promise='P4', touches='store', weight=2)
    def disk_full(scene: Scene) -> Iterator[float]:
        """No space is left for the files of the store; a server that ends by itself is started again once there is."""
        disk = scene.place.disk
        assert disk is not None
        disk.fill()
        yield outage_sec(scene)
        disk.free()
        scene.place.start_ended()
        yield 1.0


@fault('rights refused', REFUSING, promise='P4', touches='store')
def rights(scene: Scene) -> Iterator[float]:
    """The password is wrong for a while, or the rights are gone."""
    place: Any = scene.place
    yield from away(scene, place.refuse_rights, place.restore_rights)


@fault('out of connections', REFUSING, promise='P4', touches='store')
def no_connections(scene: Scene) -> Iterator[float]:
    """Every connection ends, and the server has none to give."""
    place: Any = scene.place
    yield from away(scene, place.take_connections, place.give_connections)


def goes_back(scene: Scene, save: Callable[[], Any], restore: Callable[[Any], None]) -> Iterator[float]:
    """Put back a copy of some seconds ago, since which owners have changed."""
    copy = save()
    scene.some().command('weigh', weight=0.5)
    yield scene.random.uniform(0.5, 4.0)
    restore(copy)
    for worker in scene.workers:
        worker.command('weigh', weight=1.0)
    yield scene.longest_timeout + 1.0


@fault('restored with its identity', ['sqlite', 'postgresql', 'redis', 'etcd'], promise='R8', touches='store rows', weight=2)
def restored(scene: Scene) -> Iterator[float]:
    """A physical copy of some seconds ago takes the place of the data, with the same identity."""
    yield from goes_back(scene, scene.place.save, scene.place.restore)


@fault('restored from a dump', ['postgresql'], promise='R8', touches='store rows')
def restored_dump(scene: Scene) -> Iterator[float]:
    """A logical dump of some seconds ago is restored on the same server."""
    place: Any = scene.place
    yield from goes_back(scene, place.dump, place.restore_dump)


@fault('restored as another cluster', ['etcd'], promise='R8', touches='store rows')
def restored_new(scene: Scene) -> Iterator[float]:
    """A snapshot of some seconds ago is restored with another identity."""
    place: Any = scene.place
    yield from goes_back(scene, place.save, place.restore_as_new)


@fault('failed over to a stale replica', ['redis-replica'], promise='R8', touches='store rows lines', weight=4)
def stale(scene: Scene) -> Iterator[float]:
    """The replica hears nothing for some seconds, and then takes the master's place."""
    place: Any = scene.place

    def promote(_: object) -> None:
        place.promote()
        scene.retarget()

    yield from goes_back(scene, place.part, promote)


@fault('flushed', promise='R8', touches='store rows')
def flushed(scene: Scene) -> Iterator[float]:
    """Every record is gone."""
    scene.place.harness.wipe()
    yield scene.longest_timeout + 2.0


def member_of(scene: Scene) -> Any:
    """Return the member that leads, or another one."""
    place = scene.place
    assert isinstance(place, EtcdClusterPlace)
    return place.members[place.lead() if scene.random.random() < 0.7 else scene.random.randrange(3)]


@fault('a member killed', ['etcd-3'], promise='P4', touches='store', weight=3)
def member_killed(scene: Scene) -> Iterator[float]:
    """SIGKILL of one of three members, mostly of the one that leads."""
    member = member_of(scene)
    yield from away(scene, member.kill, member.start)


@fault('a member stopped', ['etcd-3'], promise='P4', touches='store', weight=3)
def member_stopped(scene: Scene) -> Iterator[float]:
    """SIGSTOP of one of three members, mostly of the one that leads."""
    member = member_of(scene)
    yield from away(scene, member.pause, member.resume)


# --- operators ----------------------------------------------------------------------------------------------------------------


@fault('token rows deleted', SQL, touches='rows store', weight=2)
def tokens_deleted(scene: Scene) -> Iterator[float]:
    """DELETE of the rows of some tokens, of owners that may be stopped."""
    victim = scene.random.choice((None, scene.some()))
    if victim is not None:
        victim.stop()
    tokens = scene.random.sample(range(scene.stage.tokens), scene.stage.tokens // 2)
    with contextlib.suppress(sqlite3.OperationalError):  # a stopped worker may have the file to itself
        scene.place.harness.delete_token_rows(NAMESPACE, tokens)
    yield scene.random.uniform(0.5, 1.5) * scene.longest_timeout
    if victim is not None:
        victim.go_on()
    yield scene.longest_timeout + 1.0


@fault('a node row deleted', SQL, touches='rows store', weight=2)
def node_deleted(scene: Scene) -> Iterator[float]:
    """DELETE of the row of a node that may be stopped, and of the rows of its tokens."""
    victim = scene.some()
    if is_stopped := scene.random.random() < 0.7:
        victim.stop()
    with contextlib.suppress(sqlite3.OperationalError):  # a stopped worker may have the file to itself
        scene.place.harness.delete_node_row(NAMESPACE, victim.node)
    if scene.random.random() < 0.5:
        with contextlib.suppress(sqlite3.OperationalError):  # a stopped worker may have the file to itself
            scene.place.harness.delete_token_rows(NAMESPACE, range(scene.stage.tokens))
    yield scene.random.uniform(0.5, 1.5) * scene.longest_timeout
    if is_stopped:
        victim.go_on()
    yield scene.longest_timeout + 1.0


@fault('task locks deleted', SQL, touches='rows store')
def locks_deleted(scene: Scene) -> Iterator[float]:
    """DELETE of the rows of task locks while they are made."""
    scene.some().command('locks', seconds=2.0)
    for _ in range(8):
        yield 0.25
        try:
            ids = [lock.id for lock in scene.backend.read_locks().locks]
        except JobsyncError:
            continue
        if ids:
            with contextlib.suppress(sqlite3.OperationalError):  # a stopped worker may have the file to itself
                scene.place.harness.delete_lock_rows(NAMESPACE, ids)
    yield 1.0


EDITS = (
    'DELETE FROM {claim}', 'DELETE FROM {audit}', 'DELETE FROM {rebalance}', 'DELETE FROM {change}', 'DELETE FROM {unowned}',
    'DELETE FROM {item}', 'DELETE FROM {lock}', 'DELETE FROM {token}', 'DELETE FROM {node}',
    "UPDATE {claim} SET node = 'another'", "UPDATE {claim} SET item = item || '?'", "UPDATE {audit} SET node = ''",
    "UPDATE {audit} SET item = 'x'", 'UPDATE {rebalance} SET tokens_moved = 0', 'UPDATE {token} SET node = NULL',
    "UPDATE {token} SET node = 'nobody'", "UPDATE {node} SET name = name || '?'", 'UPDATE {state} SET revision = 0',
    'UPDATE {state} SET epoch = 0', "UPDATE {lock} SET task_id = task_id || '?'", "UPDATE {item} SET task_id = task_id || '?'",
)  # fmt: skip
"""Statements that an operator might run; one that the tables' own conditions refuse changes nothing."""


@fault('any table edited', SQL, touches='rows workers store', weight=2)
def tables_edited(scene: Scene) -> Iterator[float]:
    """DELETE and UPDATE of all rows of random tables, history and all, while the workers go on."""
    backend: Any = scene.backend
    harness: Any = scene.place.harness
    tables = {name.lower(): table for name, table in backend.tables.items()}
    for _ in range(3):
        statement = scene.random.choice(EDITS).format(**tables)
        # Refused by a condition of the table, or by a column that this version does not have; or a worker has the file to itself.
        with contextlib.suppress(RuntimeError, sqlite3.Error):
            harness.execute(statement)
        yield scene.random.uniform(0.1, 1.0) * scene.longest_timeout
    yield 2 * scene.longest_timeout + 2.0


@fault('a record spoilt', ['sqlite', 'postgresql', 'redis', 'redis-memory'], touches='rows workers store')
def spoilt(scene: Scene) -> Iterator[float]:
    """The record of a node is made unreadable, as by an UPDATE, and later the node is killed."""
    victim = scene.follower()
    harness = scene.place.harness
    harness.spoil_node(NAMESPACE, victim.node, scene.random.choice(harness.node_spoils))
    yield scene.longest_timeout + 1.0
    victim.kill()
    scene.replace(victim, new_name=True)
    yield scene.longest_timeout + 1.0


@fault('task locks in a loop', touches='rows workers', weight=2)
def lock_churn(scene: Scene) -> Iterator[float]:
    """Every worker registers and clears task locks, while one leaves and another comes."""
    for worker in scene.running:
        worker.command('locks', seconds=4.0)
    yield 1.0
    worker = scene.some()
    worker.leave()
    scene.replace(worker, new_name=True)
    yield 4.5


@fault('weights in a loop', touches='rows', weight=2)
def edit_storm(scene: Scene) -> Iterator[float]:
    """The weights of random workers change five times a second."""
    for _ in range(12):
        scene.some().command('weigh', weight=scene.random.choice((0.0, 0.5, 1.0, 2.0)))
        yield 0.2
    for worker in scene.workers:
        worker.command('weigh', weight=1.0)
    yield 1.0
