"""Atomicity between processes, and processes that are killed or stopped in the middle of a write."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any

import pytest

from jobsync.backend import INITIAL, Backend, Member, NodeRef, Pulse, Revision, TokenGroup, TokenRow
from jobsync.errors import BackendUnavailable, Conflict, JobsyncError
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.interruption import CallCounter, spread
from jobsync.testing.conformance.namespace import NAMESPACE, SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.outages import LIMIT_SEC, SHORT_SEC, eventually, outcome_within
from jobsync.testing.conformance.threads import DEADLINE_SEC
from jobsync.testing.conformance.write_history import COMMON, WriteHistory, prepare

__all__ = ['ProcessTests']

PROCESSES = 4
ROUNDS = 10
STOPS = 10
WAVES = 4
KILLS = 8
FORKS = 5
VERSIONS = 20
"""Writes while another process is stopped: more than the old versions that a store keeps, if it keeps a few."""
START_SEC = 4 * DEADLINE_SEC
"""The limit for processes to start. Each imports the modules that it needs and that are not in ``Harness.modules``."""

Connector = Callable[[str], Backend]
ProcessWork = Callable[[Namespace, int, Connection], object]


def run(work: ProcessWork, connector: Connector, number: int, pipe: Connection) -> None:
    """Run one process: report that it is ready, wait for the start, work, and send the result."""
    pipe.send('ready')
    pipe.recv()
    try:
        result: object = work(Namespace(connector(NAMESPACE)), number, pipe)
    except JobsyncError as error:
        result = repr(error)
    pipe.send(result)


def receive(pipe: Connection, seconds: float = DEADLINE_SEC) -> Any:
    """Return the next message; fail if none comes in time."""
    assert pipe.poll(seconds), f'a process has sent nothing for {seconds} s'
    return pipe.recv()


@contextlib.contextmanager
def processes(harness: Harness, work: ProcessWork, count: int = PROCESSES) -> Iterator[Sequence[tuple[BaseProcess, Connection]]]:
    """Yield processes that all start at one moment, once each is ready; kill them at the end.

    They are forks of a process that has imported ``Harness.modules`` and done nothing else: to import takes longer than most of
    what they do.
    """
    context = mp.get_context('forkserver')
    started = []
    context.set_forkserver_preload([__name__, *harness.modules])
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(work, harness.connector(), number, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        for _, pipe in started:
            assert receive(pipe, START_SEC) == 'ready'
        for _, pipe in started:
            pipe.send('go')
        yield started
    finally:
        for process, pipe in started:
            process.kill()
            process.join(DEADLINE_SEC)
            pipe.close()


def at_once(harness: Harness, work: ProcessWork) -> list[Any]:
    """Start the work in several processes at one moment; return the result of each."""
    with processes(harness, work) as started:
        return [receive(pipe) for _, pipe in started]


def first_start(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Open, register and send a heartbeat; return the timeline."""
    namespace.beat(namespace.join(f'n{number}'))
    return namespace.timeline


def contend(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Compete for the leadership of several epochs, and send heartbeats of the common node; return the epochs won."""
    ref = NodeRef(f'n{number}', 'run')
    won = []
    for epoch in range(ROUNDS):
        if namespace.backend.acquire_leadership(ref, epoch).node == ref:
            won.append(epoch + 1)
        namespace.beat(COMMON)
        while namespace.snapshot().leadership.epoch <= epoch:
            pass
    return won


def rival_commits(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Commit as the common leader until ``ROUNDS`` commits have succeeded."""
    done = 0
    while done < ROUNDS:
        try:
            namespace.commit(COMMON, TokenGroup(range(TOKENS), f'p{number}', home=f'p{number}'), moved=1)
        except Conflict:
            continue
        done += 1
    return done


def commit_forever(namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Commit one state after another, and report each commit that was acknowledged."""
    step = 0
    while True:
        step += 1
        name = f'v{step}'
        members = {f'v{step - 1}': None, name: Member(name, 1.0)}
        version = namespace.commit(COMMON, TokenGroup(range(TOKENS), name, name, name), members=members, moved=step)
        pipe.send((step, version))


@contextlib.contextmanager
def beating(namespace: Namespace) -> Iterator[None]:
    """Send heartbeats of the common node in a thread, one after the other, for the time of a ``with`` block."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.is_set():
            with contextlib.suppress(BackendUnavailable):
                namespace.beat(COMMON)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    is_over.set()
    thread.join()


def fork_amid_calls(namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Fork while another thread sends heartbeats, then send no more; the forks end with this process."""
    reading, writing = os.pipe()
    with beating(namespace):
        for _ in range(FORKS):
            time.sleep(0.001)
            if not os.fork():
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
    pipe.send('forked')
    return pipe.recv()


def forked(limit_sec: int, call: Callable[[], object]) -> int:
    """Fork, and have the child make a call until the store answers, and end; return its process id."""
    if not (fork := os.fork()):
        try:
            signal.alarm(limit_sec)  # which ends it, whatever it waits for
            eventually(call)
            os._exit(0)
        finally:
            os._exit(1)
    return fork


def exit_status(fork: int) -> int:
    """Wait for a child to end; return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])


def begin_in_forks(connector: Connector, limit_sec: int, namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Fork while another thread sends heartbeats; have each child send one through a handle of its own; return how each ended.

    Return also the stamps of revisions that two more children make, one after the other.
    """
    forks, ends, stamps = list[int](), list[int](), list[int]()
    with beating(namespace):
        for _ in range(FORKS):
            time.sleep(0.001)
            forks.append(forked(limit_sec, lambda: Namespace(connector(NAMESPACE)).beat(COMMON)))
        ends += [exit_status(fork) for fork in forks]
    for task in 'xy':
        fork = forked(limit_sec, lambda task=task: Namespace(connector(NAMESPACE)).lock(task))  # type: ignore[misc]
        ends.append(exit_status(fork))
        stamps.append(namespace.revision.stamp)
    return ends, stamps


def close_in_forks(limit_sec: int, namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Fork while a handle is open, have the child close its copy of the handle, and send a heartbeat; return the heartbeats."""
    beats = [namespace.beat(COMMON).heartbeat]
    for _ in range(FORKS):
        fork = forked(limit_sec, namespace.backend.close)
        beats += [exit_status(fork), namespace.beat(COMMON).heartbeat]
    return beats


def leave_open(namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Use the handle, as a node that waits for changes does, and do not close it."""
    namespace.beat(namespace.join('a'))
    number = namespace.revision.number
    threading.Thread(target=namespace.backend.wait, args=(number, 2 * DEADLINE_SEC), daemon=True).start()
    return namespace.backend.wait(number, 0.1)


def write(what: str, backend: Backend, number: int) -> Callable[[], object]:
    """Return a write of one kind, which the number distinguishes from others."""
    if what == 'heartbeat':
        return partial(backend.heartbeat, NodeRef('stopped', 'run'), INITIAL, frozenset())
    return prepare(what, backend, number)


def stand_still(pipe: Connection) -> None:
    """Report that this process stands in the middle of a write, and stand there until a message comes."""
    pipe.send('stands')
    pipe.recv()


def end(_pipe: Connection) -> None:
    """Kill this process without notice."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_in_steps(
    what: str, action: Callable[[Connection], None], namespace: Namespace, _number: int, pipe: Connection
) -> object:
    """Make the writes that are ordered, stand or end before the function call named; send the number of calls and the outcome."""
    while (order := pipe.recv()) is not None:
        number, at = order
        call = write(what, namespace.backend, number)
        with CallCounter(at, partial(action, pipe)) as counter:
            try:
                result: object = call()
            except JobsyncError as error:
                result = error
        pipe.send((counter.count, result if isinstance(result, Revision | JobsyncError) else None))
    return None


def write_until_killed(namespace: Namespace, number: int, pipe: Connection) -> object:
    """Write, and kill this process before function call ``at``; send each write before it is made, and its outcome."""
    wave, at = pipe.recv()

    def make(step: int) -> None:
        what, name = ('commit', 'audit')[step % 2], (wave * PROCESSES + number) * 1000 + step + 1
        pipe.send(('tried', what, name))
        try:
            result: object = write(what, namespace.backend, name)()
        except Conflict as error:
            result = error
        except BackendUnavailable:
            return
        pipe.send((result if isinstance(result, Revision | Conflict) else None, what, name))

    steps = itertools.count()
    for step in itertools.islice(steps, 2):  # what is made at the first time only may be most of the calls, and writes nothing
        make(step)
    with CallCounter(at, partial(end, pipe)) as counter:
        for step in steps if at else itertools.islice(steps, 4):
            make(step)
    return counter.count


def common(harness: Harness) -> Namespace:
    """Return a namespace with the node that all processes use as leader."""
    namespace = Namespace(harness.connect(NAMESPACE))
    namespace.ref = lambda name: NodeRef(name, 'run')  # type: ignore[method-assign]
    namespace.leader('common')
    return namespace


@needs(Ability.PROCESSES)
class ProcessTests:
    """Atomicity across processes. A caller that dies or pauses must never leave half a write, or undo a later one."""

    def test_processes_open_an_absent_store(self, harness: Harness) -> None:
        """Processes that open an absent store at the same time all register in it, with one timeline."""
        timelines = at_once(harness, first_start)
        namespace = Namespace(harness.connect(NAMESPACE))
        assert timelines == [namespace.timeline] * PROCESSES
        assert {name: node.heartbeat for name, node in namespace.nodes().items()} == {f'n{n}': 1 for n in range(PROCESSES)}

    def test_processes_contend_for_leadership(self, harness: Harness) -> None:
        """Each epoch is won by exactly one process, and no heartbeat of a common record is lost."""
        namespace = Namespace(harness.connect(NAMESPACE))
        namespace.ref = lambda name: NodeRef(name, 'run')  # type: ignore[method-assign]
        for name in ('common', *(f'n{number}' for number in range(PROCESSES))):
            namespace.join(name)
        won = at_once(harness, contend)
        assert sorted(epoch for part in won for epoch in part) == list(range(1, ROUNDS + 1)), won
        assert namespace.node('common').heartbeat == PROCESSES * ROUNDS

    def test_processes_commit_one_after_the_other(self, harness: Harness) -> None:
        """Commits that compete are all or nothing: each that succeeded has its revision, its record and its heartbeat."""
        namespace = common(harness)
        before = namespace.revision.number
        assert at_once(harness, rival_commits) == [ROUNDS] * PROCESSES
        state = namespace.state()
        assert state.snapshot.revision.number == before + PROCESSES * ROUNDS
        assert len(state.rebalances) == namespace.node('common').heartbeat == PROCESSES * ROUNDS
        assert len({(row.owner, row.home) for row in state.rows}) == 1

    def test_a_process_killed_at_work(self, harness: Harness) -> None:
        """After a process is killed, its acknowledged commits are present, and the commit under way is whole or absent."""
        namespace = common(harness)
        with processes(harness, commit_forever, count=1) as ((process, pipe),):
            for _ in range(ROUNDS):
                acknowledged: tuple[int, Revision] = receive(pipe)
            process.kill()
            process.join(DEADLINE_SEC)
            with contextlib.suppress(EOFError):
                while pipe.poll(0):
                    acknowledged = pipe.recv()
        step, version = acknowledged
        state = namespace.state()
        found = len(state.rebalances)
        assert found in (step, step + 1)
        assert state.snapshot.version.number >= version.number
        name, number = f'v{found}', state.snapshot.version.number
        assert set(state.rows) == {TokenRow(name, name, name, number)}
        assert list(state.members) == [name]
        assert namespace.node('common').heartbeat == found
        assert namespace.backend.heartbeat(COMMON, INITIAL, frozenset()).heartbeat == found + 1

    @pytest.mark.parametrize('what', ['commit', 'audit', 'heartbeat'])
    def test_a_process_stopped_in_the_middle_of_a_write(self, harness: Harness, what: str) -> None:
        """A process that was stopped at any point of a write, for longer than any lock or session of the store lasts, overwrites
        no later write when it wakes: its own write is present as a whole, or refused. A heartbeat of another node meanwhile ends
        within the limit of its handle.
        """
        namespace, writes, numbers = common(harness), WriteHistory(), itertools.count(1)
        observer, beats = namespace.join('observer'), [0, 0]
        namespace.join('stopped')
        limit = min(1.0, harness.stopped_sec)
        backend = Namespace(harness.connect(NAMESPACE, op_timeout_sec=limit, bulk_timeout_sec=limit)).backend
        hurried = harness.connect(NAMESPACE, op_timeout_sec=SHORT_SEC, bulk_timeout_sec=2 * LIMIT_SEC)
        eventually(partial(hurried.open, SETTINGS, True))
        with processes(harness, partial(write_in_steps, what, stand_still), count=1) as ((process, pipe),):
            pid = process.pid or 0

            def order(at: int) -> int:
                number = next(numbers)
                pipe.send((number, at))
                answer = receive(pipe)
                if answer == 'stands':
                    os.kill(pid, signal.SIGSTOP)  # its other threads, too
                    beat = outcome_within(LIMIT_SEC, partial(hurried.heartbeat, observer, INITIAL, frozenset()))
                    assert isinstance(beat, Pulse | BackendUnavailable), beat
                    writes.go_on(backend, observer, numbers, harness.stopped_sec, VERSIONS if what == 'audit' else 0)
                    os.kill(pid, signal.SIGCONT)
                    pipe.send('go on')
                    answer = receive(pipe)
                calls: int
                calls, result = answer
                if what == 'heartbeat':
                    beats[isinstance(result, BackendUnavailable)] += 1
                    assert beats[0] <= namespace.node('stopped').heartbeat <= sum(beats)
                else:
                    writes.note(what, number, result)
                writes.check(namespace)
                return calls

            order(0)  # what is made at the first time only
            for at in spread(Random(1), order(0), STOPS):
                order(at)

    def test_a_process_killed_in_the_middle_of_a_commit(self, harness: Harness) -> None:
        """A commit is whole or absent if its process is killed at any point of it, while no other process writes."""
        namespace, writes, numbers, random = common(harness), WriteHistory(), itertools.count(1), Random(1)
        moments: Iterator[int] | None = None
        for _ in range(KILLS // PROCESSES):
            with processes(harness, partial(write_in_steps, 'commit', end)) as started:
                for _, pipe in started:
                    for _ in range(2):  # what is made at the first time only may be most of the calls
                        number = next(numbers)
                        pipe.send((number, 0))
                        calls, result = receive(pipe)
                        writes.note('commit', number, result)
                    moments, number = moments or spread(random, calls, KILLS), next(numbers)
                    pipe.send((number, next(moments)))
                    result = BackendUnavailable()
                    with contextlib.suppress(EOFError):  # a commit that makes fewer calls is not killed
                        _, result = receive(pipe)
                    writes.note('commit', number, result)
                    writes.check(namespace)

    def test_processes_killed_at_any_moment(self, harness: Harness) -> None:
        """After processes are killed in the middle of writes, acknowledged writes are present, refused ones are not, and other
        processes go on.
        """
        namespace, writes, random = common(harness), WriteHistory(), Random(1)
        calls = 0
        for wave in range(WAVES):
            with processes(harness, write_until_killed, PROCESSES if wave else 1) as started:
                for _, pipe in started:
                    pipe.send((wave, random.randint(1, 3 * calls) if wave else 0))
                for process, pipe in started:
                    if wave:
                        process.join(DEADLINE_SEC)
                        assert process.exitcode == -signal.SIGKILL
                    calls = writes.receive(pipe) or calls
            writes.check(namespace)
            number = WAVES * PROCESSES * 1000 + wave + 1
            eventually(lambda number=number: writes.note('commit', number, prepare('commit', namespace.backend, number)()))  # type: ignore[misc]

    def test_a_fork_amid_calls_holds_up_no_other(self, harness: Harness) -> None:
        """What a process forks while it calls the store keeps no lock of the call, though it has the same descriptors open."""
        namespace = common(harness)
        with processes(harness, fork_amid_calls, count=1) as ((_, pipe),):
            assert receive(pipe) == 'forked'
            try:
                namespace.beat(COMMON)
            except BackendUnavailable as error:
                raise AssertionError(f'a child that was forked during a call keeps the lock of that call: {error}') from error

    def test_a_fork_amid_calls_opens_a_handle_of_its_own(self, harness: Harness) -> None:
        """A child that is forked while another thread is in a call becomes a node of its own, through a handle that it opens."""
        common(harness)
        with processes(harness, partial(begin_in_forks, harness.connector(), int(2 * DEADLINE_SEC)), count=1) as ((_, pipe),):
            ends, stamps = receive(pipe, START_SEC)
            assert ends == [0] * (FORKS + 2), (
                'a child that was forked during a call of another thread can make no call: what it needs is held, for ever, by a '
                'thread that it does not have'
            )
            assert stamps[0] != stamps[1], (
                'two children draw one stamp: a fork copies the state of a generator of random numbers; SystemRandom has none'
            )

    def test_a_fork_that_closes_its_copy_ends_no_other(self, harness: Harness) -> None:
        """A child that closes its copy of a handle, as whatever leaves a program does, takes no connection from its parent."""
        common(harness)
        with processes(harness, partial(close_in_forks, int(DEADLINE_SEC / 2)), count=1) as ((_, pipe),):
            beats = receive(pipe, START_SEC)
            assert beats == [1, *(each for count in range(2, FORKS + 2) for each in (0, count))], (
                f'exit statuses of children and heartbeats of their parent in turn: {beats}. A child has the connections of its '
                'parent open, and must not take leave of the server through them'
            )

    def test_a_process_that_closes_nothing_ends(self, harness: Harness) -> None:
        """A program ends though it has forgotten ``close``: each thread of an open handle is a daemon."""
        with processes(harness, leave_open, count=1) as ((process, pipe),):
            receive(pipe)
            process.join(DEADLINE_SEC)
            assert process.exitcode == 0, (
                f'{DEADLINE_SEC} s after its work the process goes on: a thread keeps it that is no daemon'
            )

    def test_wait_wakes_on_a_change_of_another_process(self, harness: Harness) -> None:
        """A change by another process ends a ``wait``."""
        backend = Namespace(harness.connect(NAMESPACE)).backend
        with processes(harness, first_start, count=1) as ((_, pipe),):
            assert backend.wait(0, DEADLINE_SEC) > 0
            receive(pipe)
