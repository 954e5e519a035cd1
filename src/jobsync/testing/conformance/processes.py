"""Atomicity between processes, where the harness can reach the store from them; and processes that die at work."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any

import pytest

from jobsync.backend import INITIAL, Backend, Member, NodeRef, Revision, TokenGroup, TokenRow
from jobsync.errors import BackendUnavailable, Conflict, JobsyncError
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.outages import eventually
from jobsync.testing.conformance.steps import Ledger, Steps, audit, kill, spread, stop, stopped
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['ProcessTests']

NAMESPACE = 'sync_'
PROCESSES = 4
ROUNDS = 10
STOPS = 10
WAVES = 4
START_SEC = 4 * DEADLINE_SEC
"""For processes to start, each of which imports all that it needs."""

Connector = Callable[[str], Backend]
Work = Callable[[Namespace, int, Connection], object]


def run(work: Work, connector: Connector, number: int, pipe: Connection) -> None:
    """What a process does: say that it is up, wait for the word, work, send what came of it."""
    pipe.send('ready')
    pipe.recv()
    try:
        result: object = work(Namespace(connector(NAMESPACE)), number, pipe)
    except JobsyncError as error:
        result = repr(error)
    pipe.send(result)


def receive(pipe: Connection, seconds: float = DEADLINE_SEC) -> Any:
    """The next message, within the deadline."""
    assert pipe.poll(seconds), f'a process has said nothing for {seconds} s'
    return pipe.recv()


@contextlib.contextmanager
def processes(harness: Harness, work: Work, count: int = PROCESSES) -> Iterator[Sequence[tuple[BaseProcess, Connection]]]:
    """Processes that are up and wait for the word; killed at the end."""
    context, started = mp.get_context('spawn'), []
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(work, harness.connector(), number, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        for _, pipe in started:
            assert receive(pipe, START_SEC) == 'ready'
        yield started
    finally:
        for process, pipe in started:
            process.kill()
            process.join(DEADLINE_SEC)
            pipe.close()


def at_once(harness: Harness, work: Work) -> list[Any]:
    """What each of several processes that start at one moment comes to."""
    with processes(harness, work) as started:
        for _, pipe in started:
            pipe.send('go')
        return [receive(pipe) for _, pipe in started]


def first_start(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Open (as every process does), register, beat."""
    namespace.beat(namespace.join(f'n{number}'))
    return namespace.timeline


def contend(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Take the leadership again and again, beat the common node, and count the epochs won."""
    ref = NodeRef(f'n{number}', 'run')
    won = []
    for epoch in range(ROUNDS):
        if namespace.backend.acquire_leadership(ref, epoch).node == ref:
            won.append(epoch + 1)
        namespace.beat(NodeRef('common', 'run'))
        while namespace.snapshot().leadership.epoch <= epoch:
            pass
    return won


def rival_commits(namespace: Namespace, number: int, _pipe: Connection) -> object:
    """Commit under the common leader until ten went through."""
    done = 0
    while done < ROUNDS:
        try:
            namespace.commit(NodeRef('common', 'run'), TokenGroup(range(TOKENS), f'p{number}', home=f'p{number}'), moved=1)
        except Conflict:
            continue
        done += 1
    return done


def commit_forever(namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Commit one pattern after another, telling of each that was acknowledged."""
    step = 0
    while True:
        step += 1
        name = f'v{step}'
        members = {f'v{step - 1}': None, name: Member(name, 1.0)}
        version = namespace.commit(
            NodeRef('common', 'run'), TokenGroup(range(TOKENS), name, name, name), members=members, moved=step
        )
        pipe.send((step, version))


def write(what: str, backend: Backend, number: int) -> Callable[[], object]:
    """Return a write of one kind, told from others by its number."""
    if what == 'commit':
        return Ledger.commit(backend, number)
    if what == 'audit':
        return partial(audit, backend, number)
    return partial(backend.heartbeat, NodeRef('stopped', 'run'), INITIAL, frozenset())


def write_in_steps(what: str, namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Write whatever is ordered, and stop at the call that is named; tell the calls made, and what came of it."""
    while (order := pipe.recv()) is not None:
        number, at = order
        call = write(what, namespace.backend, number)
        with Steps(at, stop) as steps:
            try:
                result: object = call()
            except JobsyncError as error:
                result = error
        pipe.send((steps.count, result if isinstance(result, Revision | JobsyncError) else None))
    return None


def write_until_killed(namespace: Namespace, number: int, pipe: Connection) -> object:
    """Write one thing after another until the call at which this process is to be killed; tell of each what came of it."""
    wave, at = pipe.recv()
    with Steps(at, kill) as steps:
        for step in itertools.count() if at else range(4):
            what, name = ('commit', 'audit')[step % 2], (wave * PROCESSES + number) * 1000 + step + 1
            pipe.send(('tried', what, name))
            try:
                result: object = write(what, namespace.backend, name)()
            except Conflict as error:
                result = error
            except BackendUnavailable:
                continue
            pipe.send((result if isinstance(result, Revision | Conflict) else None, what, name))
    return steps.count


def common(harness: Harness) -> Namespace:
    """A namespace with the node that all processes know."""
    namespace = Namespace(harness.connect(NAMESPACE))
    namespace.ref = lambda name: NodeRef(name, 'run')  # type: ignore[method-assign]
    namespace.leader('common')
    return namespace


class ProcessTests:
    """The same as with threads, across processes."""

    @needs(Ability.PROCESSES)
    def test_processes_open_an_absent_store(self, harness: Harness) -> None:
        """Processes that start at once on an absent store all enter it, with one timeline."""
        timelines = at_once(harness, first_start)
        namespace = Namespace(harness.connect(NAMESPACE))
        assert timelines == [namespace.timeline] * PROCESSES
        assert {name: node.heartbeat for name, node in namespace.nodes().items()} == {f'n{n}': 1 for n in range(PROCESSES)}

    @needs(Ability.PROCESSES)
    def test_processes_contend_for_leadership(self, harness: Harness) -> None:
        """Each epoch is won by exactly one process, and no heartbeat of a common record is lost."""
        namespace = Namespace(harness.connect(NAMESPACE))
        namespace.ref = lambda name: NodeRef(name, 'run')  # type: ignore[method-assign]
        for name in ('common', *(f'n{number}' for number in range(PROCESSES))):
            namespace.join(name)
        won = at_once(harness, contend)
        assert sorted(epoch for part in won for epoch in part) == list(range(1, ROUNDS + 1)), won
        assert namespace.node('common').heartbeat == PROCESSES * ROUNDS

    @needs(Ability.PROCESSES)
    def test_processes_commit_one_after_the_other(self, harness: Harness) -> None:
        """Rival commits are all or nothing: each that went through has its revision, its record and its heartbeat."""
        namespace = common(harness)
        before = namespace.revision.number
        assert at_once(harness, rival_commits) == [ROUNDS] * PROCESSES
        state = namespace.state()
        assert state.snapshot.revision.number == before + PROCESSES * ROUNDS
        assert len(state.rebalances) == namespace.node('common').heartbeat == PROCESSES * ROUNDS
        assert len({(row.owner, row.home) for row in state.rows}) == 1

    @needs(Ability.PROCESSES)
    def test_a_process_killed_at_work(self, harness: Harness) -> None:
        """What a killed process had acknowledged is there; what it was at is there whole or not at all."""
        namespace = common(harness)
        with processes(harness, commit_forever, count=1) as ((process, pipe),):
            pipe.send('go')
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
        assert namespace.backend.heartbeat(NodeRef('common', 'run'), INITIAL, frozenset()).heartbeat == found + 1

    @needs(Ability.PROCESSES)
    @pytest.mark.parametrize('what', ['commit', 'audit', 'heartbeat'])
    def test_a_process_stopped_in_the_middle_of_a_write(self, harness: Harness, what: str) -> None:
        """A process that is stopped at any call of a write, for longer than the store bears with it, overwrites nothing of what
        others have written when it wakes: its own write is there as a whole, or is refused.
        """
        if not hasattr(os, 'waitid'):
            pytest.skip('this system does not tell that a process has stopped')
        namespace, ledger, numbers = common(harness), Ledger(), itertools.count(1)
        observer, beats = namespace.join('observer'), [0, 0]
        namespace.join('stopped')
        limit = min(1.0, harness.stopped_sec)
        backend = harness.connect(NAMESPACE, op_timeout_sec=limit, bulk_timeout_sec=limit)
        backend.open(SETTINGS, create=True)
        with processes(harness, partial(write_in_steps, what), count=1) as ((process, pipe),):
            pid = process.pid or 0
            pipe.send('go')

            def order(at: int) -> int:
                number = next(numbers)
                pipe.send((number, at))
                if at and stopped(pid, partial(pipe.poll, 0)):
                    ledger.go_on(backend, observer, numbers, harness.stopped_sec)
                    os.kill(pid, signal.SIGCONT)
                calls: int
                calls, result = receive(pipe)
                if what == 'heartbeat':
                    beats[isinstance(result, BackendUnavailable)] += 1
                    assert beats[0] <= namespace.node('stopped').heartbeat <= sum(beats)
                else:
                    ledger.note(what, number, result)
                ledger.check(namespace)
                return calls

            order(0)  # what is made at the first time only
            for at in spread(Random(1), order(0), STOPS):
                order(at)

    @needs(Ability.PROCESSES)
    def test_processes_killed_at_any_moment(self, harness: Harness) -> None:
        """Of what processes write that are killed somewhere in the middle, the acknowledged is there, and the refused is not;
        others go on.
        """
        namespace, ledger, random = common(harness), Ledger(), Random(1)
        calls = 0
        for wave in range(WAVES):
            with processes(harness, write_until_killed, PROCESSES if wave else 1) as started:
                for _, pipe in started:
                    pipe.send('go')
                    pipe.send((wave, random.randint(1, 3 * calls) if wave else 0))
                for process, pipe in started:
                    if wave:
                        process.join(DEADLINE_SEC)
                        assert process.exitcode == -signal.SIGKILL
                    calls = ledger.told(pipe) or calls
            ledger.check(namespace)
            number = WAVES * PROCESSES * 1000 + wave + 1
            eventually(lambda number=number: ledger.note('commit', number, Ledger.commit(namespace.backend, number)()))  # type: ignore[misc]

    @needs(Ability.PROCESSES)
    def test_wait_hears_of_other_processes(self, harness: Harness) -> None:
        """A change by another process ends a wait."""
        backend = harness.connect(NAMESPACE)
        backend.open(SETTINGS, create=True)
        with processes(harness, first_start, count=1) as ((_, pipe),):
            pipe.send('go')
            assert backend.wait(0, DEADLINE_SEC) > 0
            receive(pipe)
