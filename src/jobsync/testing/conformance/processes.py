"""Other processes, which start at one moment, and atomicity between them."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from jobsync.backend import Backend, NodeRef, TokenGroup
from jobsync.errors import Conflict, JobsyncError
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import NAMESPACE, TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC
from jobsync.testing.conformance.write_history import COMMON

__all__ = ['ProcessTests']

PROCESSES = 4
ROUNDS = 10
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


def leave_open(namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Use the handle, as a node that waits for changes does, and do not close it."""
    namespace.beat(namespace.join('a'))
    number = namespace.revision.number
    threading.Thread(target=namespace.backend.wait, args=(number, 2 * DEADLINE_SEC), daemon=True).start()
    return namespace.backend.wait(number, 0.1)


def common(harness: Harness) -> Namespace:
    """Return a namespace with the node that all processes use as leader."""
    namespace = Namespace(harness.connect(NAMESPACE))
    namespace.ref = lambda name: NodeRef(name, 'run')  # type: ignore[method-assign]
    namespace.leader('common')
    return namespace


@needs(Ability.PROCESSES)
class ProcessTests:
    """Atomicity across processes, which share nothing but the store."""

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
