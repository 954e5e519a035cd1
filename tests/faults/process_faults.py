"""Faults of worker processes: kills, stops, restarts, names, logs."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from typing import Any

from tests.faults.cluster import Scene, Worker
from tests.faults.fault import fault, until

from jobsync.testing.worker_log import now

CALLS = ('heartbeat', 'snapshot', 'read_assignment', 'commit', 'read_locks', 'append_claims', 'append_audits', 'task')
"""Where a trap may be, besides what only some moments bring: ``register``, ``acquire_leadership``."""
WAIT_SEC = 30.0
"""For a condition that holds within moments on a quiet machine, unless another fault is in its way."""


def killed(scene: Scene, workers: list[Worker]) -> Iterator[float]:
    """Kill workers at once, wait until their tokens are due elsewhere, and start others."""
    for worker in workers:
        worker.kill(waits=False)
    for worker in workers:
        worker.kill()
    yield scene.longest_timeout + 2.5
    for worker in workers:
        scene.replace(worker, new_name=scene.random.random() < 0.5)


def quarter(scene: Scene) -> list[Worker]:
    """Draw a quarter of the workers."""
    return scene.random.sample(scene.running, (len(scene.running) + 3) // 4)


@fault('kill a follower', promise='P3')
def kill_follower(scene: Scene) -> Iterator[float]:
    """SIGKILL."""
    yield from killed(scene, [scene.follower()])


@fault('kill the leader', promise='P3')
def kill_leader(scene: Scene) -> Iterator[float]:
    """SIGKILL."""
    yield from killed(scene, [scene.leader()])


@fault('kill several', promise='P3')
def kill_several(scene: Scene) -> Iterator[float]:
    """SIGKILL of all but one, the leader among them."""
    leader = scene.leader()
    others = [worker for worker in scene.running if worker is not leader]
    yield from killed(scene, [leader, *scene.random.sample(others, max(0, len(others) - 1))])


@fault('kill a quarter', promise='P3', weight=0.5)
def kill_quarter(scene: Scene) -> Iterator[float]:
    """SIGKILL."""
    yield from killed(scene, quarter(scene))


@fault('kill all', promise='')
def kill_all(scene: Scene) -> Iterator[float]:
    """SIGKILL of every worker, and a start under the same names at once."""
    workers = list(scene.workers)
    for worker in workers:
        worker.kill()
    yield 0.1
    for worker in workers:
        scene.replace(worker)


@fault('kill and restart at once under the name', promise='P3')
def kill_restart(scene: Scene) -> Iterator[float]:
    """SIGKILL, and a successor under the name that is still registered."""
    worker = scene.some()
    worker.kill()
    scene.replace(worker)
    yield scene.longest_timeout


class Trapping:
    """A trap that is set in a worker: see ``tests.faults.worker.Trap``."""

    def __init__(self, scene: Scene, worker: Worker, **trap: Any) -> None:
        self.worker, self._name = worker, str(scene.random.random())
        worker.command('trap', name=self._name, **trap)

    @property
    def is_set(self) -> bool:
        """Whether the worker has taken the order."""
        return self.worker.has(f'set {self._name}')

    @property
    def is_sprung(self) -> bool:
        """Whether the worker has sent itself the signal."""
        return self.worker.has(f'trapped {self._name}')

    def disarm(self) -> None:
        """Remove the trap, and let a stopped worker go on."""
        self.worker.command('disarm')
        self.worker.go_on()


def trapped(scene: Scene, worker: Worker, seconds: float, **trap: Any) -> Iterator[float]:
    """Have a signal reach the worker at a call; end it after some seconds, whatever it was."""
    trapping = Trapping(scene, worker, **trap)
    extra = []
    if trap['call'] in ('commit', 'read_locks'):  # what a leader does when something changes
        extra.append(scene.start())
    yield from until(scene, lambda: trapping.is_sprung or not worker.is_running, 5.0)
    if trap['signal'] == signal.SIGSTOP:
        worker.is_stopped = trapping.is_sprung
        yield seconds
        trapping.disarm()
        yield 1.0
    else:
        worker.kill()
        yield scene.longest_timeout + 2.5
        scene.replace(worker)
    for each in extra:
        scene.workers.remove(each)
        each.leave()
        yield 1.0


def some_call(scene: Scene) -> Mapping[str, Any]:
    """Draw a place for a trap."""
    random = scene.random
    return {'call': random.choice(CALLS), 'when': random.choice(('before', 'after')), 'skip': random.randrange(3)}


@fault('kill the leader at a call to the store', promise='P3', weight=3)
def kill_at_call(scene: Scene) -> Iterator[float]:
    """SIGKILL before or after a random call."""
    yield from trapped(scene, scene.leader(), 0.0, signal=signal.SIGKILL, **some_call(scene))


@fault('stop the leader at a call to the store', weight=3)
def stop_at_call(scene: Scene) -> Iterator[float]:
    """SIGSTOP before or after a random call, for longer than its lease or not."""
    seconds = scene.random.choice((0.5, 0.9, 1.0, 1.1, 1.5, 3)) * scene.longest_timeout
    yield from trapped(scene, scene.leader(), seconds, signal=signal.SIGSTOP, **some_call(scene))


def stopped(scene: Scene, workers: list[Worker], timeouts: float) -> Iterator[float]:
    """SIGSTOP for a number of heartbeat timeouts."""
    for worker in workers:
        worker.stop()
    yield timeouts * scene.longest_timeout
    for worker in workers:
        worker.go_on()
    yield 0.5


@fault('stop for half a timeout')
def stop_half(scene: Scene) -> Iterator[float]:
    """SIGSTOP, idle or in the middle of anything."""
    yield from stopped(scene, [scene.some()], 0.5)


@fault('stop for 1.5 timeouts', promise='P3', weight=2)
def stop_longer(scene: Scene) -> Iterator[float]:
    """SIGSTOP, idle or in the middle of anything."""
    yield from stopped(scene, [scene.some()], 1.5)


@fault('stop for 10 timeouts', promise='P3', weight=0.5)
def stop_long(scene: Scene) -> Iterator[float]:
    """SIGSTOP, idle or in the middle of anything."""
    yield from stopped(scene, [scene.some()], 10)


@fault('stop several for about a timeout', promise='', weight=2)
def stop_several(scene: Scene) -> Iterator[float]:
    """SIGSTOP of all but one, around the moment at which leases end."""
    workers = scene.random.sample(scene.running, max(1, len(scene.running) - 1))
    yield from stopped(scene, workers, scene.random.uniform(0.8, 1.3))


@fault('stop a quarter for 1.5 timeouts', promise='P3', weight=0.5)
def stop_quarter(scene: Scene) -> Iterator[float]:
    """SIGSTOP."""
    yield from stopped(scene, quarter(scene), 1.5)


@fault('stop in the middle of a task', promise='P3')
def stop_in_task(scene: Scene) -> Iterator[float]:
    """SIGSTOP between the begin and the end of a task."""
    yield from trapped(scene, scene.some(), 1.5 * scene.longest_timeout, call='task', signal=signal.SIGSTOP)


@fault('stop until others own all', promise='P3', weight=2)
def stop_until_taken(scene: Scene) -> Iterator[float]:
    """SIGSTOP before a heartbeat until the others have taken every token, then SIGCONT.

    It reaches the store again only after it has asked what it may claim while the others had leases.
    """
    worker = scene.some()
    others = [each for each in scene.running if each is not worker]
    trapping = Trapping(scene, worker, call='heartbeat', signal=signal.SIGSTOP, holds=True)
    yield from until(scene, lambda: trapping.is_sprung, WAIT_SEC)
    worker.is_stopped = trapping.is_sprung
    since = end = 0.0

    def is_taken() -> bool:
        nonlocal since, end
        have_all = sum(each.tokens for each in others) == scene.stage.tokens
        end = min(each.owns_until for each in others) if have_all else 0.0
        since = now()  # after the logs were read: from here to ``end`` the others own what they had then
        return since < end

    def has_asked() -> bool:
        begin, answered = worker.asked
        if since < begin and answered < end:
            return True
        if end <= now():
            is_taken()
        return False

    limit = max(WAIT_SEC, 4 * scene.longest_timeout)
    yield from until(scene, is_taken, limit, look_sec=0.02)
    worker.go_on()
    yield from until(scene, has_asked, limit if since < end else 0.0, look_sec=0.02)
    trapping.disarm()
    yield 0.5


@fault('stop an owner as it reads of a hand-over', promise='P3', weight=2)
def stop_before_acknowledging(scene: Scene) -> Iterator[float]:
    """A newcomer makes the leader request tokens; an owner is stopped as it is about to read that, its lease just renewed."""
    owner = scene.follower()
    trapping = Trapping(scene, owner, call='read_assignment', signal=signal.SIGSTOP)
    yield from until(scene, lambda: trapping.is_set, WAIT_SEC)
    newcomer = scene.start()
    yield from until(scene, lambda: trapping.is_sprung, WAIT_SEC)
    owner.is_stopped = trapping.is_sprung
    yield 1.5 * scene.longest_timeout
    trapping.disarm()
    scene.workers.remove(newcomer)
    newcomer.leave()
    yield 1.0


@fault('wake while being evicted', promise='', weight=2)
def wake_while_evicted(scene: Scene) -> Iterator[float]:
    """The leader is stopped at the commit that evicts a silent node, which wakes, renews its lease, and is stopped again."""
    leader, victim = scene.leader(), scene.follower()
    if leader is victim:
        return
    trapping = Trapping(scene, leader, call='commit', signal=signal.SIGSTOP)
    yield from until(scene, lambda: trapping.is_set, WAIT_SEC)
    victim.stop()
    yield from until(scene, lambda: trapping.is_sprung, 6 * scene.longest_timeout, look_sec=0.02)
    leader.is_stopped = trapping.is_sprung
    before = victim.owns_until
    victim.go_on()
    yield from until(scene, lambda: victim.owns_until > max(before, now()), WAIT_SEC, look_sec=0.02)
    victim.stop()
    trapping.disarm()
    yield 1.5 * scene.longest_timeout
    victim.go_on()
    yield 1.0


@fault('stops in quick succession', weight=2)
def stop_flutter(scene: Scene) -> Iterator[float]:
    """SIGSTOP and SIGCONT of random workers at random times."""
    end = now() + 2 * scene.longest_timeout
    while now() < end:
        worker = scene.some()
        worker.stop()
        yield scene.random.uniform(0.05, 0.8) * scene.longest_timeout
        worker.go_on()
        yield scene.random.uniform(0.0, 0.3)


def one_leaves(scene: Scene, worker: Worker) -> Iterator[float]:
    """SIGTERM, and another worker afterwards."""
    worker.leave()
    yield from until(scene, lambda: not worker.is_running, 30.0)
    yield 1.5
    scene.replace(worker, new_name=True)


@fault('leave', promise='P2')
def leave(scene: Scene) -> Iterator[float]:
    """SIGTERM, and another worker afterwards."""
    yield from one_leaves(scene, scene.some())


@fault('the leader leaves', promise='P2')
def leader_leaves(scene: Scene) -> Iterator[float]:
    """SIGTERM, and another worker afterwards."""
    yield from one_leaves(scene, scene.leader())


@fault('join', promise='P2')
def join(scene: Scene) -> Iterator[float]:
    """One worker more, which leaves again."""
    worker = scene.start()
    yield from until(scene, lambda: worker.tokens, 30.0)
    yield 1.5
    scene.workers.remove(worker)
    worker.leave()
    yield 1.5


@fault('rolling deploy under the same names', promise='P2', weight=0.5)
def rolling(scene: Scene) -> Iterator[float]:
    """SIGTERM and a successor under the name, one worker after the other, the oldest first."""
    for worker in list(scene.workers):
        worker.leave()
        yield from until(scene, lambda worker=worker: not worker.is_running, 30.0)  # type: ignore[misc]
        successor = scene.replace(worker)
        yield from until(scene, lambda successor=successor: successor.has('entered'), 30.0)  # type: ignore[misc]


@fault('rolling deploy under new names', promise='P2', weight=0.5)
def rolling_new(scene: Scene) -> Iterator[float]:
    """A successor under a new name, then SIGTERM, one worker after the other, the oldest first."""
    for worker in list(scene.workers):
        scene.workers.remove(worker)
        successor = scene.start()
        yield from until(scene, lambda successor=successor: successor.has('entered'), 30.0)  # type: ignore[misc]
        worker.leave()
        yield from until(scene, lambda worker=worker: not worker.is_running, 30.0)  # type: ignore[misc]


@fault('a name twice', promise='')
def name_twice(scene: Scene) -> Iterator[float]:
    """A second process under the name of a live one: it must be refused, and the first go on.

    Where another fault has cut the first one off, the second takes the name, and the first ends.
    """
    worker = scene.some()
    second = scene.start(worker.node)
    scene.workers.remove(second)
    yield from until(scene, lambda: not second.is_running, 4 * scene.longest_timeout)
    second.kill()
    if not worker.is_running:
        scene.replace(worker)


@fault('a name twice, the first stopped', promise='', weight=2)
def name_twice_stopped(scene: Scene) -> Iterator[float]:
    """A second process under the name of one that is stopped, and wakes around the moment when the name is taken."""
    worker = scene.some()
    worker.stop()
    second = scene.start(worker.node)
    scene.workers.remove(second)
    yield scene.longest_timeout * scene.random.uniform(0.9, 1.8) + 0.7
    worker.go_on()
    yield from until(scene, lambda: second.has('entered') or not second.is_running, 30.0)
    yield 1.0
    if second.is_running and second.has('entered'):
        worker.kill()
        scene.workers[scene.workers.index(worker)] = second
        return
    second.kill()
    if not worker.is_running:
        scene.replace(worker)


@fault('blocked stderr', promise='P3')
def blocked(scene: Scene) -> Iterator[float]:
    """A worker whose log nobody reads, while another is killed."""
    worker = scene.start(blocked=True)
    scene.workers.remove(worker)
    yield from until(scene, lambda: worker.has('entered'), 30.0)
    worker.command('log')
    yield 1.0
    victim = scene.leader()
    if victim is not worker:
        victim.kill()
    yield scene.longest_timeout + 2.5
    if victim is not worker:
        scene.replace(victim)
    worker.kill()
    yield scene.longest_timeout + 2.5


@fault('twenty start at once', weight=0.1)
def twenty(scene: Scene) -> Iterator[float]:
    """Twenty more workers, which leave again together."""
    workers = [scene.start() for _ in range(20)]
    for worker in workers:
        scene.workers.remove(worker)
    yield from until(scene, lambda: all(worker.has('entered') for worker in workers), 60.0)
    for worker in workers:
        worker.leave()
    yield from until(scene, lambda: not any(worker.is_running for worker in workers), 60.0)
    for worker in workers:
        worker.kill()


@fault('first start of twenty', touches='workers store rows lines', weight=0.1)
def first_start(scene: Scene) -> Iterator[float]:
    """Twenty workers start at once on a store that has nothing, and all but as many as before leave again."""
    count = len(scene.workers)
    for worker in list(scene.workers):
        scene.workers.remove(worker)
        worker.kill()
    scene.place.harness.wipe()
    for _ in range(20):
        scene.start()
    yield from until(scene, scene.is_settled, 90.0)
    for worker in scene.workers[count:]:
        scene.workers.remove(worker)
        worker.leave()
    yield 1.5


@fault('weights', promise='P2', touches='rows')
def weights(scene: Scene) -> Iterator[float]:
    """A worker that is drained, and gets its weight back."""
    worker = scene.some()
    worker.command('weigh', weight=0.0)
    yield 2.0
    worker.command('weigh', weight=1.0)
    yield 1.0
