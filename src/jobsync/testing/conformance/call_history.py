"""Concurrent calls on one node's record and the assignment's version, whose history must be linearizable."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random

import attrs
import pytest

from jobsync.backend import INITIAL, Backend, Eviction, Guard, NodeRef, Plan, Pulse, Registration, Revision, Timeline
from jobsync.errors import BackendUnavailable, Conflict, Evicted, NameTaken
from jobsync.testing.conformance.handles import patient
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.linearizability import UNKNOWN_END, Operation, linearize
from jobsync.testing.conformance.namespace import Namespace
from jobsync.testing.conformance.outages import eventually
from jobsync.testing.conformance.threads import DEADLINE_SEC, race

__all__ = ['CallHistoryTests', 'SharedState']

THREADS, CALLS = 4, 12
"""Threads, and calls of each."""
NAME = 'subject'

RunBeat = tuple[str, int]


@attrs.frozen
class SharedState:
    """The state that all calls of a history read and compare: one record and one version."""

    beat: RunBeat | None
    """Incarnation and heartbeat of the node; None if it has no record."""
    version: Revision | None
    """The assignment's version; None after a commit of unknown outcome, until a call returns the version."""
    read_by: RunBeat | None = None
    """The heartbeat that has read the version, and does not count yet. Until it does, nothing else changes the record."""


CallOutcome = object
"""What a call returned or raised; ``BackendUnavailable`` for a call of unknown outcome."""
Model = Callable[[CallOutcome, SharedState], SharedState | None]
"""Returns the state after a call with this outcome; None if the call cannot have this outcome in this state."""


@attrs.frozen
class Call:
    """A call that a thread is about to make."""

    what: str
    make: Callable[[Backend], CallOutcome]
    steps: tuple[Model, ...]
    """Its steps, each at one moment, in this order."""

    def after(self, outcome: CallOutcome, state: SharedState) -> SharedState | None:
        """Return the state after the call, if no other came between its steps; None if it cannot have this outcome."""
        reached: SharedState | None = state
        for step in self.steps:
            reached = None if reached is None else step(outcome, reached)
        return reached


def heartbeat(run: str) -> Call:
    """Return a heartbeat of a run: it reads the version, and counts at that moment or later."""

    def answer(outcome: CallOutcome, state: SharedState) -> SharedState | None:
        if not isinstance(outcome, Pulse):
            return state
        beat = run, outcome.heartbeat
        is_next = state.beat == (run, outcome.heartbeat - 1) and state.read_by is None
        return attrs.evolve(state, version=outcome.version, read_by=beat) if is_next and shows(state, outcome.version) else None

    def count(outcome: CallOutcome, state: SharedState) -> SharedState | None:
        if isinstance(outcome, Pulse):
            is_answered = state.read_by == (run, outcome.heartbeat)
            return attrs.evolve(state, beat=state.read_by, read_by=None) if is_answered else None
        if state.beat is None or state.beat[0] != run:
            return state if isinstance(outcome, Evicted | BackendUnavailable) else None
        is_counted = isinstance(outcome, BackendUnavailable) and state.read_by is None
        return attrs.evolve(state, beat=(run, state.beat[1] + 1)) if is_counted else None

    return Call(
        f'heartbeat of {run}', lambda backend: backend.heartbeat(NodeRef(NAME, run), INITIAL, frozenset()), (answer, count)
    )


def shows(state: SharedState, version: Revision | None) -> bool:
    """Return whether this may be the version in a state."""
    return state.version in (None, version)


def register(run: str, timeline: Timeline, replacing: RunBeat | None) -> Call:
    """Return the registration of a new run in the place of a record as it was read."""
    registration = Registration(NodeRef(NAME, run), 15.0)

    def model(outcome: CallOutcome, state: SharedState) -> SharedState | None:
        if state.beat in (None, replacing):
            is_done = outcome is None or isinstance(outcome, BackendUnavailable)
            return attrs.evolve(state, beat=(run, 0)) if is_done and state.read_by is None else None
        is_shown = not isinstance(outcome, NameTaken) or outcome.record.beat == state.beat
        return state if is_shown and isinstance(outcome, NameTaken | BackendUnavailable) else None

    return Call(
        f'register {run} over {replacing}', lambda backend: backend.register(registration, timeline, 0, replacing), (model,)
    )


def commit(leader: NodeRef, guard: Guard, evicted: RunBeat | None) -> Call:
    """Return a commit that evicts the node as it was read, or does not."""
    evictions = () if evicted is None else (Eviction(NodeRef(NAME, evicted[0]), evicted[1]),)
    plan = Plan(evictions=evictions, reason='test', number=guard.version.number + 1)

    def model(outcome: CallOutcome, state: SharedState) -> SharedState | None:
        if state.version != guard.version or evicted not in (None, state.beat):
            return state if isinstance(outcome, Conflict | BackendUnavailable) else None
        if isinstance(outcome, Conflict):
            return None
        if evicted and state.read_by is not None:
            return None
        version = outcome if isinstance(outcome, Revision) else None
        return attrs.evolve(state, beat=None if evicted else state.beat, version=version)

    what = f'commit from version {guard.version.number}' + (f' that evicts {evicted}' if evicted else '')
    return Call(what, lambda backend: backend.commit(leader, plan, guard), (model,))


def reading(backend: Backend) -> SharedState:
    """Read the record and the version."""
    snapshot = backend.snapshot()
    return SharedState(next((node.beat for node in snapshot.nodes if node.name == NAME), None), snapshot.version)


def read() -> Call:
    """Return a reading."""

    def model(outcome: CallOutcome, state: SharedState) -> SharedState | None:
        if isinstance(outcome, SharedState):
            is_seen = outcome.beat == state.beat and shows(state, outcome.version)
            return attrs.evolve(state, version=outcome.version) if is_seen else None
        return state if isinstance(outcome, BackendUnavailable) else None

    return Call('read', reading, (model,))


class CallRecorder:
    """Calls of several threads on one namespace, with their outcomes."""

    def __init__(self, namespace: Namespace) -> None:
        self._leader, self._timeline = namespace.leader(), namespace.timeline
        namespace.join(NAME)
        namespace.commit(self._leader)
        self._guard = namespace.guard()
        self.first = self._known = reading(namespace.backend)
        self.history: list[Operation[SharedState]] = []
        self.returned = threading.Semaphore(0)
        """Released once for each call."""
        self._runs = itertools.count(1)

    def run(self, backend: Backend, random: Random) -> None:
        """Make the calls of one thread, each from what a thread has read last."""
        for _ in range(CALLS):
            known = self._known
            call = self._choose(random, known)
            outcome = self.record(backend, call)
            after = None if isinstance(outcome, BackendUnavailable) else call.after(outcome, known)
            found = after or self.record(backend, read())
            if isinstance(found, SharedState) and found.version is not None:
                self._known = found

    def _choose(self, random: Random, known: SharedState) -> Call:
        kind = random.choices(('heartbeat', 'register', 'commit', 'evict'), (4, 2, 1, 2))[0]
        if kind == 'register' or known.beat is None:
            return register(f'run {next(self._runs)}', self._timeline, known.beat)
        if kind == 'heartbeat':
            return heartbeat(known.beat[0])
        assert known.version is not None
        guard = attrs.evolve(self._guard, version=known.version)
        return commit(self._leader, guard, known.beat if kind == 'evict' else None)

    def record(self, backend: Backend, call: Call) -> CallOutcome:
        """Make a call, and add it to the history."""
        begin = time.monotonic()
        try:
            outcome: CallOutcome = call.make(backend)
        except (Conflict, Evicted, NameTaken, BackendUnavailable) as error:
            outcome = error
        end = UNKNOWN_END if isinstance(outcome, BackendUnavailable) else time.monotonic()
        what = f'{call.what}: {_shown(outcome)}'
        self.history.extend(Operation(what, begin, end, partial(step, outcome)) for step in call.steps)
        self.returned.release()
        if end == UNKNOWN_END:
            eventually(backend.snapshot)  # few calls of unknown outcome: each doubles what must be searched
        return outcome

    def check(self) -> None:
        """Fail if the history is not linearizable."""
        order, is_whole = linearize(self.history, self.first)
        if not is_whole:
            rest = [call for call in self.history if call not in order and call.is_known]
            shown = [
                *(f'  {call.what}' for call in order),
                'and none of these can come next:',
                *(f'  {call.what}' for call in rest),
            ]
            raise AssertionError('\n'.join((f'not linearizable, from {self.first}; the longest order is', *shown)))


def _shown(outcome: CallOutcome) -> str:
    """Return an outcome for people."""
    match outcome:
        case SharedState(beat, version):
            return f'{beat} at version {None if version is None else version.number}'
        case Pulse():
            return f'{outcome.heartbeat} at version {outcome.version.number}'
        case NameTaken():
            return f'taken by {outcome.record.beat}'
        case Revision(number):
            return f'version {number}'
    return 'done' if outcome is None else repr(outcome)[:80]


class CallHistoryTests:
    """Each call takes effect at one moment between its begin and its end. A lost comparison shows in no single answer."""

    def test_concurrent_calls_are_linearizable(self, harness: Harness) -> None:
        """There is an order of concurrent registrations, heartbeats, commits and evictions in which each has its outcome."""
        backends = [Namespace(patient(harness)).backend for _ in range(THREADS)]
        recorder = CallRecorder(Namespace(patient(harness)))
        jobs = [partial(recorder.run, backend, Random(number)) for number, backend in enumerate(backends)]
        found = race(jobs)
        assert found == [None] * THREADS, found
        recorder.check()

    @needs(Ability.CRASH)
    def test_calls_under_a_kill_are_linearizable(self, harness: Harness) -> None:
        """A durable store is killed amid the calls: each call without an answer happened whole, or not at all."""
        if not harness.connect().info.durable:
            pytest.skip('the backend does not declare durable')
        backends = [Namespace(patient(harness)).backend for _ in range(THREADS)]
        recorder = CallRecorder(Namespace(patient(harness)))

        def kill() -> None:
            for _ in range(THREADS * CALLS // 3):
                assert recorder.returned.acquire(timeout=DEADLINE_SEC)
            harness.restart()

        jobs = [partial(recorder.run, backend, Random(number)) for number, backend in enumerate(backends)]
        found = race([kill, *jobs], 4 * DEADLINE_SEC)
        assert found == [None] * (THREADS + 1), found
        recorder.check()
