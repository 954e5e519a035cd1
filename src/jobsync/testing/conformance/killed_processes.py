"""Processes that are killed or stopped in the middle of a write."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from random import Random

import pytest

from jobsync.backend import INITIAL, Backend, Member, NodeRef, Pulse, Revision, TokenGroup, TokenRow
from jobsync.errors import BackendUnavailable, Conflict, JobsyncError
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.interruption import CallCounter, spread
from jobsync.testing.conformance.namespace import NAMESPACE, SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.outages import LIMIT_SEC, SHORT_SEC, eventually, outcome_within
from jobsync.testing.conformance.processes import PROCESSES, ROUNDS, common, processes, receive
from jobsync.testing.conformance.threads import DEADLINE_SEC
from jobsync.testing.conformance.write_history import COMMON, WriteHistory, prepare

__all__ = ['KilledProcessTests']

STOPS = 10
WAVES = 4
KILLS = 8
VERSIONS = 20
"""Writes while another process is stopped: more than the old versions that a store keeps, if it keeps a few."""


def commit_forever(namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Commit one state after another, and report each commit that was acknowledged."""
    step = 0
    while True:
        step += 1
        name = f'v{step}'
        members = {f'v{step - 1}': None, name: Member(name, 1.0)}
        version = namespace.commit(COMMON, TokenGroup(range(TOKENS), name, name, name), members=members, moved=step)
        pipe.send((step, version))


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


@needs(Ability.PROCESSES)
class KilledProcessTests:
    """A caller that dies or pauses must never leave half a write, or undo a later one."""

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
